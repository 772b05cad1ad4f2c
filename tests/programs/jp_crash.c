/* A jprobe's function that crashes: the probe is disabled (`none`), or its fault_handler deals with it
 * (`deal`); the probed function runs with its own arguments, and others at the place run. */
#include "handlers.h"

FUNCTION double target(long a, double b) { KEEP(); return (double)a + b; }

static volatile int *nowhere;
static int calls, faults, beside;

FUNCTION int down(int n)
{
	volatile char frame[256];
	frame[n] = 1;
	return n ? down(n - 1) + frame[n] : *nowhere;
}
static double crash(long a, double b)
{
	calls++;
	if (a == 3 && b == 3.5)
		down(10);
	return 0;
}
static double count(long a, double b) { beside += a + 0.5 == b; return 0; }
static int deal(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	(void)probe;
	faults += signo;
	regs->rdi = 99; /* of no effect */
	return 1;
}

int main(int argc, char **argv)
{
	int deals = argc > 1 && !strcmp(argv[1], "deal");
	NEED_LIBRARY();
	struct ujprobe first = { .up = PROBE(target), .entry = ENTRY(count) };
	struct ujprobe crashing = { .up = PROBE(target, .fault_handler = deals ? deal : NULL), .entry = ENTRY(crash) };
	struct ujprobe last = { .up = PROBE(target), .entry = ENTRY(count) };
	REGISTER_AS(ujprobe, &first);
	REGISTER_AS(ujprobe, &crashing);
	REGISTER_AS(ujprobe, &last);
	double sum = 0;
	for (long i = 0; i < 6; i++)
		sum += target(i, (double)i + 0.5);
	printf("sum %g, called %d times, %s, fault_handler %d, beside %d\n", sum, calls,
	       crashing.up.flags & UPROBE_FLAG_GONE ? "gone" : "there", faults, beside);
	UNREGISTER_AS(ujprobe, &first);
	UNREGISTER_AS(ujprobe, &crashing);
	UNREGISTER_AS(ujprobe, &last);
	return 0;
}
