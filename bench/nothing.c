/* A plugin that does nothing. */
#include <uprobe.h>

int nothing(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	return 0;
}
