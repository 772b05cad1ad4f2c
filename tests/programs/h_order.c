/* Several probes at one place run in the order of registration, all of them even where one has
 * changed rip; one taken out leaves the others in order. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a; }
extern long alias_of_target(long) __attribute__((alias("target")));

static char order[64];
static int note(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	strcat(order, (const char *)probe->data);
	return 0;
}
static int note_and_skip(struct uprobe *probe, struct uprobe_regs *regs)
{
	strcat(order, (const char *)probe->data);
	regs->rax = 99;
	regs->rip = *(uint64_t *)(uintptr_t)regs->rsp;
	regs->rsp += 8;
	return 1;
}
static void note_post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)regs;
	(void)flags;
	strcat(order, (const char *)probe->data);
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
	struct uprobe a = PROBE(target, .pre_handler = note, .post_handler = note_post, .data = (void *)"a");
	struct uprobe b = PROBE(alias_of_target, .pre_handler = note, .data = (void *)"b");
	struct uprobe c = PROBE(target, .pre_handler = note, .post_handler = note_post, .data = (void *)"c");
	struct uprobe s = PROBE(target, .pre_handler = note_and_skip, .data = (void *)"s");
	REGISTER(&a);
	REGISTER(&b);
	REGISTER(&c);
	call("three");
	UNREGISTER(&b);
	call("without b");
	REGISTER(&b);
	call("b again, last");
	disable_uprobe(&a);
	call("a disabled");
	enable_uprobe(&a);
	call("a enabled, its place kept");
	UNREGISTER(&c);
	REGISTER(&s);
	REGISTER(&c);
	call("s skips the function, c still runs");
	UNREGISTER(&s);
	UNREGISTER(&a);
	UNREGISTER(&b);
	UNREGISTER(&c);
	call("none");
	return 0;
}
