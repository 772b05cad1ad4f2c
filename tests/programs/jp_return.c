/* ujprobe_return ends a jprobe's function from any depth, and does nothing anywhere else. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long other(long a) { KEEP(); return a + 2; }

static int deepest, went_on;

FUNCTION long down(long n)
{
	volatile char frame[512];
	frame[n] = (char)n;
	if (n == 0) {
		deepest++;
		ujprobe_return();
		went_on++;
		return 0;
	}
	return down(n - 1) + frame[n];
}
static long leave_at_depth(long a)
{
	down(a);
	went_on++;
	return 0;
}
static long leave_at_once(long a)
{
	(void)a;
	ujprobe_return();
	went_on++;
	return 0;
}
/* Calls what is probed: nothing is entered again, and ujprobe_return still knows where it is. */
static long call_others(long a)
{
	target(a);
	other(a);
	leave_at_once(a);
	went_on++;
	return 0;
}
static int in_a_handler(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe; (void)regs;
	ujprobe_return();
	deepest++;
	return 0;
}

int main(void)
{
	NEED_LIBRARY();
	struct ujprobe deep = { .up = PROBE(target), .entry = ENTRY(leave_at_depth) };
	struct ujprobe once = { .up = PROBE(target), .entry = ENTRY(leave_at_once) };
	struct ujprobe calls = { .up = PROBE(other), .entry = ENTRY(call_others) };
	struct uprobe handler = PROBE(target, .pre_handler = in_a_handler);

	ujprobe_return();
	printf("outside: returned\n");
	REGISTER_AS(ujprobe, &deep);
	REGISTER_AS(ujprobe, &once);
	for (long i = 0; i < 50; i++)
		if (target(i) != i + 1)
			printf("wrong result\n");
	printf("deep: left %d times, went on %d times\n", deepest, went_on);
	REGISTER_AS(ujprobe, &calls);
	printf("calls others: %ld, went on %d times\n", other(1), went_on);
	printf("hits %llu %llu %llu, nmissed %llu %llu %llu\n", (unsigned long long)deep.up.nhit,
	       (unsigned long long)once.up.nhit, (unsigned long long)calls.up.nhit, (unsigned long long)deep.up.nmissed,
	       (unsigned long long)once.up.nmissed, (unsigned long long)calls.up.nmissed);
	UNREGISTER_AS(ujprobe, &deep);
	UNREGISTER_AS(ujprobe, &once);
	REGISTER(&handler);
	deepest = 0;
	long result = target(1);
	printf("in a pre_handler: %ld, returned %d times\n", result, deepest);
	UNREGISTER(&handler);
	UNREGISTER_AS(ujprobe, &calls);
	return 0;
}
