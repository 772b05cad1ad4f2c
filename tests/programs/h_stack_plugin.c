/* For config's call(): uprobe_stack against backtrace(3) in a program that was built without any of this. */
#define _GNU_SOURCE
#include "h_stack.h"

__attribute__((constructor)) static void load(void) { warm_up(); }

int check_stack(struct uprobe *probe, struct uprobe_regs *regs)
{
	return compare(probe, regs);
}

__attribute__((destructor)) static void unload(void)
{
	fprintf(stderr, "%s, %s, deeper than 5: %d\n", compared > 20 ? "compared" : "hardly hit",
		different ? "different" : "the same", deepest > 5);
}
