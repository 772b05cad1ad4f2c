/* Functions chosen at load time. Called by pointers, so that no compiler expands them; the probes'
 * filters pick these calls out of all the others in libc. */
#include "check.h"
#include <string.h>

static int implementation(int a) { KEEP(); return a + 2; }
static int other(int a) { KEEP(); return a + 1; }
typedef int (*function)(int);
/* Not decided by a constant, or the compiler drops the one that is never chosen. */
__attribute__((unused)) static function resolve(void) { return __builtin_cpu_init(), __builtin_cpu_supports("sse2") ? implementation : other; }
int chosen(int) __attribute__((ifunc("resolve")));
__attribute__((unused)) static function choose_nothing(void) { return NULL; }
int never(int) __attribute__((ifunc("choose_nothing")));

static size_t (*volatile length)(const char *) = strlen;
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile find)(const void *, int, size_t) = memchr;

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1000;
	static char from[12345], to[12345];
	long sum = 0;
	for (int i = 0; i < rounds; i++) {
		sum += chosen(i);
		sum += (long)length("a needle of libuprobe");
		from[i % 12345] = (char)i;
		copy(to, from, sizeof to);
		sum += to[i % 12345] == (char)i;
		sum += find(from, 77, 12321) != NULL;
	}
	printf("sum %ld\n", sum);
	return 0;
}
