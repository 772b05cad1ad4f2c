/*
 * fault_handler: two faults, both survived.
 *
 * You will see a handler that crashes and whose fault_handler deals with it; and one without
 * a fault_handler, which is disabled at its first crash while the program goes on. The library
 * reports that one on standard error.
 *
 *     gcc -I include -rdynamic c-examples/fault_handler.c -o fault_handler
 *     LD_PRELOAD=target/release/libuprobe.so ./fault_handler
 */
#include <stdio.h>
#include <string.h>
#include <uprobe.h>

__attribute__((noinline)) long work(long a)
{
	__asm__ volatile("" ::: "memory");
	return a + 1;
}

static volatile long *nowhere;
static int faults, last_signal;

static int crash(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	return (int)*nowhere;
}

static int on_fault(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	(void)probe;
	(void)regs;
	faults++;
	last_signal = signo;
	return 1; /* dealt with */
}

int main(void)
{
	struct uprobe guarded = { .symbol_name = "work", .pre_handler = crash, .fault_handler = on_fault };
	struct uprobe bare = { .symbol_name = "work", .pre_handler = crash };

	register_uprobe(&guarded);
	long sum = work(1) + work(2) + work(3);
	unregister_uprobe(&guarded);
	printf("sum %ld, %d faults dealt with, the last was signal %d (%s)\n", sum, faults, last_signal,
	       last_signal == 11 ? "SIGSEGV" : "another");

	register_uprobe(&bare);
	sum = work(1) + work(2) + work(3);
	printf("sum %ld, the probe is %s\n", sum, bare.flags & UPROBE_FLAG_GONE ? "gone" : "still there");
	unregister_uprobe(&bare);
	return 0;
}
