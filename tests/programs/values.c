/* Arguments of many kinds, for what is fetched and printed. */
#include "check.h"
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

struct inner { int32_t id; const char *name; };
struct outer { uint64_t flags; struct inner *inner; int16_t list[4]; };

FUNCTION int integers(int8_t a, uint16_t b, int32_t c, int64_t d, uint64_t e, uint8_t f) { KEEP(); return a + b + c + (int)d + (int)e + f; }
FUNCTION int text(const char *a, const char *b, char c) { KEEP(); return a == b || c; }
/* What is behind the pointers must be there: the compiler can't see who looks at it. */
#define SEEN(p) __asm__ volatile("" :: "r"(p) : "memory")
FUNCTION int structure(struct outer *o) { SEEN(o); return o != NULL; }
FUNCTION int on_stack(int a, int b, int c, int d, int e, int f, int64_t g, const char *h) { KEEP(); return a + b + c + d + e + f + (int)g + !h; }
FUNCTION int strings(const char **list) { SEEN(list); return list != NULL; }
FUNCTION int number(long n) { KEEP(); return (int)n; }
uint32_t datum = 0xfeedbeef;

int main(void)
{
	struct inner inner = { -77, "inner name" };
	struct outer outer = { 0x8000000000000001, &inner, { 1, -2, 3, -4 } };
	const char *list[3] = { "one", "two", "three" };
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(pages + 4096, 4096, PROT_NONE);
	strcpy(pages + 4096 - 8, "at edge");
	prctl(PR_SET_NAME, "valued");
	integers(-1, 65535, -2147483647 - 1, -5, 0xffffffffffffffff, 200);
	text("plain", "with \"quotes\", \\ and \n newline", 'x');
	text("", "caf\xc3\xa9 \x01\xff", '\n');
	text(NULL, (const char *)8, 0);
	text(pages + 4096 - 8, pages + 4096, '\'');
	structure(&outer);
	structure(NULL);
	structure((struct outer *)(pages + 4096 - 8));
	on_stack(1, 2, 3, 4, 5, 6, -7, "eighth");
	strings(list);
	for (long i = 0; i < 10; i++)
		number(i);
	return 0;
}
