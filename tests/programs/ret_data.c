/* Each call has an instance of its own: data from its entry to its return, through recursion; what
 * entry_handler says no to, and what is beyond maxactive, is not followed, and each is counted. */
#include "handlers.h"

struct call {
	char tag[24];
	long argument;
	uint64_t rsp;
};

FUNCTION long factorial(long n) { long below = n > 1 ? factorial(n - 1) : 1; KEEP(); return n * below; }

static int entries, returns, wrong, dirty;

static int enter(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	struct call *call = uprobe_instance_data(ri);
	for (size_t i = 0; i < sizeof *call; i++)
		dirty += ri->data[i] != 0;
	entries++;
	wrong += ((uintptr_t)call & 15) != 0 || ri->slot != regs->rsp || regs->rip != (uintptr_t)factorial;
	call->argument = (long)uprobe_arg(regs, 1);
	call->rsp = regs->rsp;
	snprintf(call->tag, sizeof call->tag, "call of %ld", call->argument);
	return 0;
}
static int leave(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	struct call *call = uprobe_instance_data(ri);
	char tag[24];
	long product = 1;
	returns++;
	for (long i = 2; i <= call->argument; i++)
		product *= i;
	snprintf(tag, sizeof tag, "call of %ld", call->argument);
	wrong += strcmp(tag, call->tag) || (long)uprobe_retval(regs) != product || regs->rsp != call->rsp + 8 ||
		 regs->rip != ri->ret_addr || ri->slot != call->rsp;
	memset(call, 0x5a, sizeof *call);
	return 1; /* means nothing */
}
static int only_even(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	enter(ri, regs);
	return uprobe_arg(regs, 1) % 2 != 0;
}
static int largest(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri; (void)regs;
	returns++;
	return 0;
}
static void report(const char *what, struct uretprobe *probe)
{
	printf("%s: entries %d, returns %d, wrong %d, dirty %d, nhit %llu, nmissed %llu %llu\n", what, entries, returns,
	       wrong, dirty, (unsigned long long)probe->up.nhit, (unsigned long long)probe->nmissed,
	       (unsigned long long)probe->up.nmissed);
	entries = returns = wrong = dirty = 0;
}
static void run(const char *what, struct uretprobe probe, int times)
{
	REGISTER_AS(uretprobe, &probe);
	for (int i = 0; i < times; i++)
		if (factorial(6) != 720)
			printf("wrong result\n");
	UNREGISTER_AS(uretprobe, &probe);
	report(what, &probe);
}

int main(void)
{
	NEED_LIBRARY();
	struct uretprobe probe = { .up = PROBE(factorial), .handler = leave, .entry_handler = enter,
				   .data_size = sizeof(struct call) };
	run("all", probe, 3);
	probe.entry_handler = only_even;
	run("even", probe, 3);
	probe.entry_handler = enter;
	probe.maxactive = 2;
	run("two at once", probe, 3);
	probe.entry_handler = NULL;
	probe.handler = largest;
	probe.data_size = 0;
	probe.maxactive = 0;
	run("without data", probe, 3);
	probe.data_size = UPROBE_MAX_DATA_SIZE;
	run("with the most", probe, 3);
	return 0;
}
