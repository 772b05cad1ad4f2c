/* What runs before main, after it, and around it: r_ends return | exit | _exit. */
#include "returns.h"
#include <string.h>
#include <unistd.h>

static long compared;

FUNCTION long work(long a) { KEEP(); return a + 1; }
FUNCTION __attribute__((constructor)) void before_main(void) { EXPECT(work(1), 2); KEEP(); }
FUNCTION __attribute__((destructor)) void after_main(void) { EXPECT(work(2), 3); KEEP(); }
FUNCTION void at_the_end(void) { EXPECT(work(3), 4); KEEP(); }
FUNCTION int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	KEEP();
	compared++;
	return (x > y) - (x < y);
}
FUNCTION void leave(const char *way)
{
	fflush(stdout);
	KEEP();
	if (strcmp(way, "exit") == 0)
		exit(5);
	_exit(6);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "return";
	int numbers[500];
	unsigned seed = 1;
	for (int i = 0; i < 500; i++)
		numbers[i] = (int)((seed = seed * 1103515245 + 12345) >> 16 & 1023);
	qsort(numbers, 500, sizeof *numbers, compare);
	for (int i = 1; i < 500; i++)
		EXPECT(numbers[i - 1] <= numbers[i], 1);
	for (int i = 0; i < 3; i++)
		MUST(atexit(at_the_end));
	int returns = strcmp(way, "return") == 0, by_exit = strcmp(way, "exit") == 0, runs = returns || by_exit;
	RETURNED("compare", compared);
	RETURNED("libc.so.6:qsort", 1);
	RETURNED("before_main", 1);
	RETURNED("after_main", runs ? 1 : 0);
	RETURNED("at_the_end", runs ? 3 : 0);
	RETURNED("work", runs ? 5 : 1);
	CALLS("main", 1, returns, 0, !returns);
	CALLS("leave", !returns, 0, 0, !returns);
	CALLS("libc.so.6:exit", runs, 0, 0, runs);
	if (!returns)
		leave(way);
	return 4;
}
