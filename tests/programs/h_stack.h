/* uprobe_stack in a handler, against backtrace(3) called there: behind the probed instruction the two lists
 * of return addresses must be the same. */
#ifndef H_STACK_H
#define H_STACK_H

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uprobe.h>

enum { DEEPEST = 256 };
static unsigned long compared, different, deepest;

static void differ(const struct uprobe_regs *regs, void **mine, long n, void **theirs, int m)
{
	if (__atomic_fetch_add(&different, 1, __ATOMIC_RELAXED))
		return;
	Dl_info found;
	memset(&found, 0, sizeof found);
	dladdr((void *)regs->rip, &found);
	fprintf(stderr, "at %#lx (%s + %#lx), rsp %#lx:\n", (long)regs->rip, found.dli_sname ? found.dli_sname : "?",
		(long)regs->rip - (long)found.dli_saddr, (long)regs->rsp);
	for (long i = 0; i < n || i < m; i++)
		fprintf(stderr, "%3ld %14p %14p\n", i, i < n ? mine[i] : 0, i < m ? theirs[i] : 0);
}

static int compare(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	void *mine[DEEPEST], *all[DEEPEST + 32];
	long n = uprobe_stack(regs, mine, DEEPEST);
	int m = backtrace(all, DEEPEST + 32), first = 0;
	/* Theirs begins in this handler and leads through the library and the kernel's frame. */
	while (first < m && all[first] != (void *)regs->rip)
		first++;
	m -= first + 1;
	if (m > DEEPEST)
		m = DEEPEST;
	if (n != m || memcmp(mine, all + first + 1, n * sizeof *mine))
		differ(regs, mine, n, all + first + 1, m);
	__atomic_fetch_add(&compared, 1, __ATOMIC_RELAXED);
	if ((unsigned long)n > deepest)
		deepest = n;
	return 0;
}

/* A probe on each instruction of the function that begins at `start`; how many. */
__attribute__((unused)) static int probe_each(void *start)
{
	Dl_info info;
	const ElfW(Sym) *symbol = NULL;
	int armed = 0;
	if (!dladdr1(start, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
		return 0;
	for (size_t at = 0; at < symbol->st_size; at++) {
		struct uprobe *probe = (struct uprobe *)calloc(1, sizeof *probe);
		probe->addr = (char *)start + at;
		probe->pre_handler = compare;
		int error = register_uprobe(probe);
		if (!error)
			armed++;
		else if (error != -EILSEQ && error != -EINVAL)
			printf("register_uprobe at + %zu: %s\n", at, strerror(-error));
	}
	return armed;
}

/* backtrace loads libgcc at its first call: not in a handler. */
static void warm_up(void)
{
	void *one[1];
	backtrace(one, 1);
}

#endif
