/* The stack under return probes: what it was without them, at entries, inside and at returns. */
#include "handlers.h"
#include <signal.h>

enum { MOST = 64 };
static void *without[MOST], *with[MOST];
static void **list = without;
static long in_list[2];
static int pass, at_returns, wrong;

FUNCTION long innermost(long a) { KEEP(); return a + 1; }
FUNCTION long recursive(long n) { long r = n ? recursive(n - 1) : innermost(n); KEEP(); return r + 1; }
FUNCTION long middle(long a) { long r = recursive(a); KEEP(); return r + 1; }
FUNCTION void on_signal(int signo) { middle(signo & 3); KEEP(); }
FUNCTION long outer(long a) { raise(SIGUSR1); long r = middle(a); KEEP(); return r + 1; }

static int note(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	in_list[pass] += uprobe_stack(regs, list + in_list[pass], MOST - in_list[pass]);
	return 0;
}

/* At the return of recursive(n) the caller is running: its own return address comes first. */
static int note_return(struct uretprobe_instance *instance, struct uprobe_regs *regs)
{
	void *now[MOST], *then[MOST];
	struct uprobe_regs entry = *regs;
	(void)instance;
	long n = uprobe_stack(regs, now, MOST);
	/* The same from one step earlier: with the return address on the stack again. */
	at_returns++;
	entry.rip = (uint64_t)innermost;
	entry.rsp = regs->rsp - 8;
	long m = uprobe_stack(&entry, then, MOST);
	if (n < 2 || m != n + 1 || then[0] != (void *)regs->rip || memcmp(then + 1, now, n * sizeof *now))
		wrong++;
	return 0;
}

static struct uprobe inside = PROBE(innermost, .pre_handler = note);
static struct uretprobe returns[] = {
	{ .up = PROBE(innermost), .handler = note_return }, { .up = PROBE(recursive), .handler = note_return },
	{ .up = PROBE(middle), .handler = note_return },    { .up = PROBE(outer), .handler = note_return },
	{ .up = PROBE(on_signal), .handler = note_return },
};

int main(void)
{
	NEED_LIBRARY();
	signal(SIGUSR1, on_signal);
	REGISTER(&inside);
	for (pass = 0; pass < 2; pass++) {
		if (pass == 1) {
			list = with;
			for (int i = 0; i < 5; i++) {
				int error = register_uretprobe(&returns[i]);
				if (error)
					printf("register_uretprobe %d: %s\n", i, strerror(-error));
			}
		}
		outer(4);
	}
	printf("%s addresses, %s\n", in_list[0] > 15 ? "enough" : "too few",
	       in_list[0] == in_list[1] && !memcmp(without, with, in_list[0] * sizeof *with) ? "the same" : "different");
	if (in_list[0] != in_list[1] || memcmp(without, with, in_list[0] * sizeof *with))
		for (int i = 0; i < in_list[0] || i < in_list[1]; i++)
			fprintf(stderr, "%2d %p %p\n", i, without[i], with[i]);
	printf("at returns: %d, wrong: %d\n", at_returns, wrong);
	return 0;
}
