/* The header alone, as C99 and as C++17, with every warning there is. */
#include <uprobe.h>

static int pre(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	return uprobe_arg(regs, 1) + uprobe_arg(regs, 7) + uprobe_retval(regs) == 1;
}

int main(void)
{
	static struct uprobe probe;
	probe.symbol_name = "main";
	probe.pre_handler = pre;
	if (!UPROBE_AVAILABLE())
		return 0;
	return register_uprobe(&probe) || unregister_uprobe(&probe);
}
