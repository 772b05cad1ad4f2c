/* Several users of one function: each at the entry and at the return, in the order of registration. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a * 2; }

static char order[64];
static void note(const char *what) { strcat(order, what); }
static int enter(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)regs;
	note("(");
	note(ri->rp->up.data);
	return 0;
}
static int leave(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)regs;
	note(ri->rp->up.data);
	note(")");
	return 0;
}
static int pre(struct uprobe *probe, struct uprobe_regs *regs) { (void)regs; note(probe->data); return 0; }
static void post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)regs; (void)flags;
	note(probe->data);
	note("'");
}
static long jumped(long a) { note(a == 21 ? "j" : "?"); ujprobe_return(); return 0; }
static int skip(struct uprobe *probe, struct uprobe_regs *regs)
{
	note(probe->data);
	regs->rax = 7;
	regs->rip = *(uint64_t *)(uintptr_t)regs->rsp;
	regs->rsp += 8;
	return 1;
}
static void call(const char *what)
{
	order[0] = 0;
	long result = target(21);
	printf("%s: %s, result %ld\n", what, order, result);
}

int main(void)
{
	NEED_LIBRARY();
	struct uretprobe a = { .up = PROBE(target, .data = "a"), .handler = leave, .entry_handler = enter };
	struct uretprobe b = { .up = PROBE(target, .data = "b"), .handler = leave, .entry_handler = enter };
	struct uprobe p = PROBE(target, .pre_handler = pre, .post_handler = post, .data = "p");
	struct uprobe s = PROBE(target, .pre_handler = skip, .data = "s");
	struct ujprobe j = { .up = PROBE(target), .entry = ENTRY(jumped) };
	REGISTER_AS(uretprobe, &a);
	call("one");
	REGISTER(&p);
	REGISTER_AS(ujprobe, &j);
	REGISTER_AS(uretprobe, &b);
	call("all");
	disable_uprobe(&a.up);
	call("a disabled");
	enable_uprobe(&a.up);
	REGISTER(&s);
	call("skipped"); /* the function doesn't run: nothing returns */
	printf("not followed: %llu %llu\n", (unsigned long long)a.nmissed, (unsigned long long)b.nmissed);
	UNREGISTER(&s);
	UNREGISTER(&p);
	UNREGISTER_AS(ujprobe, &j);
	call("a and b");
	UNREGISTER_AS(uretprobe, &a);
	call("b");
	UNREGISTER_AS(uretprobe, &b);
	call("none");
	printf("hits %llu %llu %llu %llu\n", (unsigned long long)a.up.nhit, (unsigned long long)b.up.nhit,
	       (unsigned long long)p.nhit, (unsigned long long)j.up.nhit);
	return 0;
}
