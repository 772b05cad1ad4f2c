/* Handlers of a return probe that crash, at the entry (`entry`) or at the return: the probe goes, the
 * function's result is right; with a fault_handler (`deal`) it stays. */
#include "handlers.h"

FUNCTION double target(long a, double b) { KEEP(); return (double)a * b; }

static volatile int *nowhere;
static int calls, faults, beside;

static int crash(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri;
	calls++;
	regs->rax = regs->rdi = 12345;
	return *nowhere;
}
static int fine(struct uretprobe_instance *ri, struct uprobe_regs *regs) { (void)ri; (void)regs; beside++; return 0; }
static int enter(struct uretprobe_instance *ri, struct uprobe_regs *regs) { (void)ri; (void)regs; return 0; }
static int deal(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	(void)probe; (void)regs;
	faults += signo;
	return 1;
}

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	int at_entry = argc > 1 && !strcmp(argv[1], "entry"), deals = argc > 1 && !strcmp(argv[1], "deal");
	struct uretprobe first = { .up = PROBE(target), .handler = fine };
	struct uretprobe crashing = { .up = PROBE(target, .fault_handler = deals ? deal : NULL),
				      .handler = at_entry ? fine : crash, .entry_handler = at_entry ? crash : enter };
	struct uretprobe last = { .up = PROBE(target), .handler = fine };
	REGISTER_AS(uretprobe, &first);
	REGISTER_AS(uretprobe, &crashing);
	REGISTER_AS(uretprobe, &last);
	double sum = 0;
	for (long i = 0; i < 5; i++)
		sum += target(i, 1.5);
	printf("sum %g, called %d times, %s, fault_handler %d, beside %d\n", sum, calls,
	       crashing.up.flags & UPROBE_FLAG_GONE ? "gone" : "there", faults, beside);
	UNREGISTER_AS(uretprobe, &first);
	UNREGISTER_AS(uretprobe, &crashing);
	UNREGISTER_AS(uretprobe, &last);
	return 0;
}
