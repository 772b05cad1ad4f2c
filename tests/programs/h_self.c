/* Handlers that register another probe, unregister themselves, disable and enable themselves
 * and others, and unregister another at the same place. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long second(long a) { KEEP(); return a + 2; }

static int count(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	++*(int *)probe->data;
	return 0;
}
static int seconds;
static struct uprobe on_second = PROBE(second, .pre_handler = count, .data = &seconds);

static int results[8];
static int register_other(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	results[0] = register_uprobe(&on_second);
	return 0;
}
static int leave(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	results[1] = unregister_uprobe(probe);
	return 0;
}
static int pause_self(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	results[2] = disable_uprobe(probe);
	return 0;
}
static struct uprobe victim;
static int end_other(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	if (results[3] == 0)
		results[3] = unregister_uprobe(&victim) == 0 ? 1 : -1;
	return 0;
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe registrar = PROBE(target, .pre_handler = register_other);
	REGISTER(&registrar);
	target(1);
	second(1);
	UNREGISTER(&registrar);
	second(1);
	printf("registered from a handler: %d, then hits %d\n", results[0], seconds);
	UNREGISTER(&on_second);
	second(1);
	printf("unregistered: hits %d\n", seconds);

	struct uprobe leaver = PROBE(target, .pre_handler = leave);
	REGISTER(&leaver);
	for (int i = 0; i < 3; i++)
		target(i);
	printf("unregistered itself: %d, hits %llu\n", results[1], (unsigned long long)leaver.nhit);

	struct uprobe pauser = PROBE(target, .pre_handler = pause_self);
	REGISTER(&pauser);
	for (int i = 0; i < 3; i++)
		target(i);
	printf("disabled itself: %d, hits %llu\n", results[2], (unsigned long long)pauser.nhit);
	printf("enabled: %d\n", enable_uprobe(&pauser));
	for (int i = 0; i < 3; i++)
		target(i);
	printf("hits %llu\n", (unsigned long long)pauser.nhit);
	UNREGISTER(&pauser);

	int victims = 0;
	struct uprobe killer = PROBE(target, .pre_handler = end_other);
	victim = (struct uprobe)PROBE(target, .pre_handler = count, .data = &victims);
	REGISTER(&killer);
	REGISTER(&victim);
	for (int i = 0; i < 3; i++)
		target(i);
	printf("ended another at the place: %d, which then ran %d times\n", results[3], victims);
	UNREGISTER(&killer);
	printf("target still works: %ld\n", target(1));
	return 0;
}
