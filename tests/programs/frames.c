/* For a debugger to look at: main calls outer, middle, inner, each probed; inner calls stop_here, which
 * is not, and ends there with `abort`, and with `core`, for which it asks to leave one. */
#include "check.h"
#include <string.h>
#include <sys/resource.h>

FUNCTION int stop_here(int n) { KEEP(); return n + 1; }
FUNCTION int inner(int n, const char *how)
{
	int sum = stop_here(n) + 10;
	if (*how)
		abort();
	KEEP();
	return sum;
}
FUNCTION int middle(int depth, int n, const char *how)
{
	int sum = depth > 1 ? middle(depth - 1, n, how) : inner(n, how);
	KEEP();
	return sum + 100;
}
FUNCTION int outer(int n, const char *how)
{
	int sum = middle(3, n, how);
	KEEP();
	return sum + 1000;
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	MUST(getrlimit(RLIMIT_CORE, &limit));
	limit.rlim_cur = argc > 1 && strcmp(argv[1], "core") == 0 ? limit.rlim_max : 0;
	MUST(setrlimit(RLIMIT_CORE, &limit));
	printf("%d\n", outer(1, argc > 1 ? argv[1] : ""));
	return 4;
}
