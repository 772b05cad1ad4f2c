/*
 * without_library: one program, with the library and without.
 *
 * You will see "not probed" when it is started plainly, and the count when the library is
 * preloaded: every function of uprobe.h is weak, and UPROBE_AVAILABLE() tells.
 *
 *     gcc -I include -rdynamic c-examples/without_library.c -o without_library
 *     ./without_library
 *     LD_PRELOAD=target/release/libuprobe.so ./without_library
 */
#include <stdio.h>
#include <uprobe.h>

__attribute__((noinline)) long work(long a)
{
	__asm__ volatile("" ::: "memory");
	return a * 2;
}

static int on_work(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	return 0;
}

int main(void)
{
	struct uprobe probe = { .symbol_name = "work", .pre_handler = on_work };
	int available = UPROBE_AVAILABLE();
	if (available)
		register_uprobe(&probe);
	long sum = 0;
	for (long i = 0; i < 10; i++)
		sum += work(i);
	if (available) {
		unregister_uprobe(&probe);
		printf("sum %ld, work was hit %llu times\n", sum, (unsigned long long)probe.nhit);
	} else {
		printf("sum %ld, not probed\n", sum);
	}
	return 0;
}
