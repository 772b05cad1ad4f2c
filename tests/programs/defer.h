/* For the programs whose signals arrive while a probe's handler runs: `work` carries one, at its entry
 * or at its return, whose handler calls *inside. Without the library it is called where the handler
 * would have been. */
#ifndef DEFER_H
#define DEFER_H

#include "handlers.h"
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static void (*inside)(void);       /* what the probe's handler does */
static __thread int in_probe;      /* 1 while it does it */
static unsigned long probe_runs, calls;

static void be_inside(void)
{
	in_probe = 1;
	if (inside)
		inside();
	in_probe = 0;
	__atomic_fetch_add(&probe_runs, 1, __ATOMIC_RELAXED);
}

static int on_entry(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe, (void)regs;
	be_inside();
	return 0;
}

static int on_return(struct uretprobe_instance *instance, struct uprobe_regs *regs)
{
	(void)instance, (void)regs;
	be_inside();
	return 0;
}

FUNCTION long work(long n)
{
	KEEP();
	return n * 3 + 1;
}

/* The call that everything is about; what the program's logic says of it is checked. */
static void call_work(long n)
{
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	if (work(n) != n * 3 + 1)
		printf("work(%ld) is wrong\n", n);
	if (!UPROBE_AVAILABLE())
		be_inside();
}

static struct uprobe entry_probe = PROBE(work, .pre_handler = on_entry);
static struct uretprobe return_probe = { .up = PROBE(work), .handler = on_return };

static void probe_work(int at_return)
{
	if (!UPROBE_AVAILABLE())
		return;
	int error = at_return ? register_uretprobe(&return_probe) : register_uprobe(&entry_probe);
	if (error) {
		printf("the probe: %s\n", strerror(-error));
		exit(98);
	}
}

/* Every call was one hit, and none was missed. */
static inline void tell_probe(void)
{
	unsigned long hits = entry_probe.nhit + return_probe.up.nhit;
	unsigned long missed = entry_probe.nmissed + return_probe.up.nmissed;
	if (!UPROBE_AVAILABLE())
		hits = calls;
	printf("hits as calls: %d, missed: %lu, handlers as calls: %d\n", hits == calls, missed,
	       __atomic_load_n(&probe_runs, __ATOMIC_RELAXED) == calls);
}

static inline void send_self(int signo)
{
	MUST(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signo));
}

static inline void spin(int rounds)
{
	for (volatile int i = 0; i < rounds; i++)
		;
}

#endif
