/* Reads that can't fault, in and outside of handlers. */
#include "handlers.h"
#include <sys/mman.h>

FUNCTION long target(const char *text) { KEEP(); return text == NULL; }

static char got[64];
static long result;
static int read_argument(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	result = uprobe_read_string(got, (const void *)(uintptr_t)uprobe_arg(regs, 1), sizeof got);
	return 0;
}

int main(void)
{
	NEED_LIBRARY();
	char buffer[64];
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(pages + 4096, 4096, PROT_NONE);
	strcpy(pages + 4096 - 6, "hello");
	memcpy(pages + 4096 - 16, "0123456789", 10);
	printf("all: %ld\n", uprobe_read(buffer, pages, 64));
	printf("to the end of memory: %ld\n", uprobe_read(buffer, pages + 4096 - 10, 64));
	printf("nothing there: %ld\n", uprobe_read(buffer, pages + 4096, 64));
	printf("NULL: %ld\n", uprobe_read(buffer, NULL, 8));
	printf("not canonical: %ld\n", uprobe_read(buffer, (void *)0x8000000000000000, 8));
	printf("string: %ld", uprobe_read_string(buffer, pages + 4096 - 6, sizeof buffer));
	printf(" %s\n", buffer);
	printf("cut: %ld", uprobe_read_string(buffer, "a long string", 5));
	printf(" %s\n", buffer);
	pages[4095] = 'x';
	long length = uprobe_read_string(buffer, pages + 4096 - 3, sizeof buffer);
	printf("unterminated: %ld %s\n", length, buffer);
	length = uprobe_read_string(buffer, pages + 4096, sizeof buffer);
	printf("no string: %s, terminated %d\n", strerror((int)-length), buffer[0] == 0);

	struct uprobe probe = PROBE(target, .pre_handler = read_argument);
	REGISTER(&probe);
	target("from a handler");
	printf("%ld %s\n", result, got);
	target((const char *)16);
	printf("%s\n", strerror((int)-result));
	printf("hits %llu\n", (unsigned long long)probe.nhit);
	return 0;
}
