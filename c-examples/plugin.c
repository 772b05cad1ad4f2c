/*
 * plugin: a handler for a program that was built without any of this.
 *
 * You will see `cat` print what is in the second file though it was asked for the first:
 * the handler, called by the config's `call(PLUGIN.so:FUNCTION)`, replaces an argument of open.
 * (Debian's cat opens by `open`; another may use `openat`.)
 *
 *     gcc -I include -shared -fPIC c-examples/plugin.c -o plugin.so
 *     echo one >first; echo two >second
 *     LD_PRELOAD=target/release/libuprobe.so UPROBES=c-examples/plugin.toml cat first
 */
#include <string.h>
#include <uprobe.h>

int divert(struct uprobe *probe, struct uprobe_regs *regs)
{
	char path[16];
	(void)probe;
	if (uprobe_read_string(path, (const void *)uprobe_arg(regs, 1), sizeof path) > 0 && strcmp(path, "first") == 0)
		regs->rdi = (uint64_t)"second";
	return 0;
}
