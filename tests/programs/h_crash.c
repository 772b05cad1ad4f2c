/* A handler that crashes:
 *   h_crash none     no fault_handler: the probe is disabled, the program goes on
 *   h_crash post     the same in a post_handler
 *   h_crash refuse   a fault_handler that says 0, "not mine"
 *   h_crash deal     a fault_handler that says 1: called, and the probe stays
 *   h_crash deep     the crash is ten calls deep, with other crashes (SIGFPE, SIGILL, abort's int3) */
#include "handlers.h"
#include <signal.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long beside(long a) { KEEP(); return a + 2; }

static volatile int *nowhere;
static volatile int zero, one = 1;
static int faults, seen_signal;

static int crash(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return *nowhere; }
static void crash_post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
	*nowhere = 1;
}
static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static int refuse(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	(void)probe; (void)regs;
	faults++;
	seen_signal = signo;
	return 0;
}
static int deal(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	refuse(probe, regs, signo);
	return 1;
}
FUNCTION int down(int n, int what)
{
	volatile char frame[256];
	frame[n] = 1;
	if (n > 0)
		return down(n - 1, what) + frame[n];
	switch (what) {
	case 0: return *nowhere;
	case 1: return one / zero; /* of a constant gcc makes comparisons */
	default: __builtin_trap();
	}
}
static int deep(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	return down(10, (int)(long)probe->data);
}

/* Whether the hit that crashed is counted is nobody's business: the others are. */
static void report(const char *what, struct uprobe *probe, unsigned long long least)
{
	int off = (probe->flags & (UPROBE_FLAG_DISABLED | UPROBE_FLAG_GONE)) != 0;
	printf("%s: %s, hits %s", what, off ? "off" : "on",
	       probe->nhit == least || (off && probe->nhit == least + 1) ? "right" : "wrong");
	printf(", fault_handler called %d times, last for signal %d\n", faults, seen_signal);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "none";
	NEED_LIBRARY();
	struct uprobe near = PROBE(beside, .pre_handler = fine), same = PROBE(target, .pre_handler = fine);
	struct uprobe probe = PROBE(target, .pre_handler = crash);
	if (!strcmp(mode, "post")) {
		probe.pre_handler = fine;
		probe.post_handler = crash_post;
	} else if (!strcmp(mode, "refuse"))
		probe.fault_handler = refuse;
	else if (!strcmp(mode, "deal"))
		probe.fault_handler = deal;
	if (!strcmp(mode, "deep")) {
		for (long what = 0; what < 3; what++) {
			struct uprobe one = PROBE(target, .pre_handler = deep, .data = (void *)what);
			REGISTER(&one);
			printf("%ld %ld\n", target(1), target(2));
			report("deep", &one, 0);
			UNREGISTER(&one);
		}
		return 0;
	}
	REGISTER(&probe);
	REGISTER(&same);
	REGISTER(&near);
	for (int i = 0; i < 5; i++)
		if (target(i) != i + 1 || beside(i) != i + 2)
			printf("wrong result\n");
	report("crashing", &probe, !strcmp(mode, "deal") ? 5 : 0);
	report("same place", &same, 5);
	report("beside", &near, 5);
	int error = unregister_uprobe(&probe);
	printf("unregister: %d\n", error);
	/* A crash of the program's own is still its own. */
	signal(SIGSEGV, SIG_DFL);
	if (argc > 2)
		return *nowhere;
	return 0;
}
