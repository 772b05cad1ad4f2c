/* A replaced function with a return probe: the return is the replacement's; the real one, called by
 * the replacement past the probes, is not followed. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }

static long (*original)(long);
static char order[64];
static long seen;

static long replacement(long a) { strcat(order, "R"); return 100 + original(a); }
static int pre(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; strcat(order, "p"); return 0; }
static int enter(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri;
	strcat(order, "(");
	regs->rdi *= 2;
	return 0;
}
static int leave(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri;
	strcat(order, ")");
	seen = (long)uprobe_retval(regs);
	return 0;
}
static void call(const char *what)
{
	order[0] = 0;
	seen = 0;
	long result = target(5);
	printf("%s: %s, result %ld, seen %ld\n", what, order, result, seen);
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe probe = PROBE(target, .pre_handler = pre);
	struct uretprobe rp = { .up = PROBE(target), .handler = leave, .entry_handler = enter };
	if (uprobe_replace(NULL, "target", ENTRY(replacement), (void **)&original))
		return 1;
	REGISTER_AS(uretprobe, &rp);
	call("replaced and followed");
	REGISTER(&probe);
	call("and probed");
	if (uprobe_replace(NULL, "target", NULL, NULL))
		return 1;
	call("given back");
	UNREGISTER_AS(uretprobe, &rp);
	UNREGISTER(&probe);
	printf("hits %llu %llu\n", (unsigned long long)rp.up.nhit, (unsigned long long)probe.nhit);
	return 0;
}
