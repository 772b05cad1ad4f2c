/* The header alone, as C99 and as C++17, with every warning there is. */
#include <uprobe.h>

static int pre(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	return uprobe_arg(regs, 1) + uprobe_arg(regs, 7) + uprobe_retval(regs) == 1;
}

static int returned(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	unsigned char *data = ri->data;
	return (void *)data != uprobe_instance_data(ri) || ri->ret_addr != regs->rip;
}

static int entry(int a)
{
	ujprobe_return();
	return a;
}

int main(void)
{
	static struct uretprobe rp;
	static struct ujprobe jp;
	static struct uretprobe_instance ri;
	static int (*original)(int);
	static struct uprobe probe;
	probe.symbol_name = "main";
	probe.pre_handler = pre;
	if (!UPROBE_AVAILABLE())
		return 0;
	rp.up.symbol_name = "main";
	rp.handler = returned;
	rp.data_size = UPROBE_MAX_DATA_SIZE;
	ri.rp = &rp;
	jp.up.symbol_name = "main";
	jp.entry = (void *)(uintptr_t)entry;
	if (uprobe_instance_data(&ri) != (void *)ri.data)
		return 1;
	ujprobe_return();
	return register_uprobe(&probe) || uprobe_sync(&probe) || unregister_uprobe(&probe) || register_uretprobe(&rp) ||
	       unregister_uretprobe(&rp) || register_ujprobe(&jp) || unregister_ujprobe(&jp) ||
	       uprobe_replace(NULL, "main", jp.entry, (void **)&original) ||
	       uprobe_replace(NULL, "main", NULL, NULL);
}
