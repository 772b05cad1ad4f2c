/* Functions that return values of every type, called ROUNDS times: r_plain ROUNDS. */
#include "returns.h"
#include <string.h>

FUNCTION long work(long a, long b) { KEEP(); return a * b + 1; }
/* What is fetched at entry is gone at the return. */
FUNCTION int overwrite(char *text, size_t size)
{
	KEEP();
	memset(text, 0, size);
	memcpy(text, "after", 6);
	return (int)size;
}
FUNCTION const char *name_of(int i)
{
	static const char *const names[] = { "zero", "one\n\"two\"", "", NULL };
	KEEP();
	return names[i & 3];
}
FUNCTION char letter(int i) { KEEP(); return (char)('a' + i % 26); }
FUNCTION int open_like(const char *path) { KEEP(); return path[0] == '/' ? 3 : -1; }
FUNCTION int recursive(int n)
{
	int rest = n == 0 ? 0 : recursive(n - 1);
	KEEP();
	return n + rest;
}
/* All of rax, of which a type takes its part. */
extern long wide(void);
__asm__(".text\n .globl wide\n .type wide, @function\n"
	"wide: movabs $0x8182838485868788, %rax\n ret\n .size wide, . - wide\n");
/* The last one of the caller's function, so that what comes after it is another function. */
FUNCTION long caller(long i)
{
	long sum = 0;
	sum += work(i, 3);
	KEEP();
	return sum;
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 1;
	long long sum = 0;
	for (long i = 0; i < rounds; i++) {
		char text[64];
		int length = snprintf(text, sizeof text, "before %ld", i) + 1;
		EXPECT(overwrite(text, (size_t)length), length);
		EXPECT(strcmp(text, "after"), 0);
		const char *name = name_of((int)i);
		sum += name ? (long)strlen(name) : 100;
		sum += letter((int)i);
		sum += open_like(i % 4 == 0 ? "none" : "/some");
		EXPECT(recursive(5), 15);
		sum += wide() >> 60;
		EXPECT(caller(i), i * 3 + 1);
	}
	printf("sum %lld\n", sum);
	RETURNED("work", rounds);
	RETURNED("overwrite", rounds);
	RETURNED("name_of", rounds);
	RETURNED("letter", rounds);
	RETURNED("open_like", rounds);
	RETURNED("recursive", 6 * rounds);
	RETURNED("wide", rounds);
	RETURNED("caller", rounds);
	return 0;
}
