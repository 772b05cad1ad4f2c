/* A replaced function with other probes at its entry: handlers run first and see the function's own
 * place, a handler that skips the function skips the replacement, jprobes and counts stay right. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }

static long (*original)(long);
static char order[64];
static int at_place;

static long replacement(long a) { strcat(order, "R"); return 100 + original(a); }
static int note(struct uprobe *probe, struct uprobe_regs *regs)
{
	strcat(order, (const char *)probe->data);
	at_place += regs->rip == (uint64_t)(uintptr_t)target;
	regs->rdi += 10;
	return 0;
}
static int skip(struct uprobe *probe, struct uprobe_regs *regs)
{
	strcat(order, (const char *)probe->data);
	regs->rax = 77;
	regs->rip = *(uint64_t *)(uintptr_t)regs->rsp;
	regs->rsp += 8;
	return 1;
}
static long jumped(long a) { (void)a; strcat(order, "j"); ujprobe_return(); return 0; }
static void post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
	strcat(order, "'");
}
static void call(const char *what)
{
	order[0] = 0;
	long result = target(1);
	printf("%s: %s, result %ld\n", what, order, result);
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe a = PROBE(target, .pre_handler = note, .post_handler = post, .data = "a");
	struct uprobe b = PROBE(target, .pre_handler = note, .data = "b");
	struct uprobe s = PROBE(target, .pre_handler = skip, .data = "s");
	struct ujprobe j = { .up = PROBE(target), .entry = ENTRY(jumped) };
	REGISTER(&a);
	REGISTER_AS(ujprobe, &j);
	call("probed");
	if (uprobe_replace(NULL, "target", ENTRY(replacement), (void **)&original))
		return 1;
	call("replaced"); /* the instruction doesn't run: no post_handler */
	REGISTER(&b);
	call("registered later");
	REGISTER(&s);
	call("skipped");
	UNREGISTER(&s);
	UNREGISTER(&a);
	UNREGISTER(&b);
	call("without a and b");
	UNREGISTER_AS(ujprobe, &j);
	call("alone");
	REGISTER(&a);
	if (uprobe_replace(NULL, "target", NULL, NULL))
		return 1;
	call("given back");
	UNREGISTER(&a);
	call("unprobed");
	printf("hits %llu %llu %llu %llu, rip right %d\n", (unsigned long long)a.nhit, (unsigned long long)b.nhit,
	       (unsigned long long)s.nhit, (unsigned long long)j.up.nhit, at_place);
	return 0;
}
