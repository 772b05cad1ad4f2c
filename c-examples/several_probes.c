/*
 * several_probes: all or nothing, one handler for many probes, and two probes at one place.
 *
 * You will see the counts of three functions, kept by one handler that finds its own counter
 * through `data`; and that registering a list with a bad one in it registers none.
 *
 *     gcc -I include -rdynamic c-examples/several_probes.c -o several_probes
 *     LD_PRELOAD=target/release/libuprobe.so ./several_probes
 */
#include <stdio.h>
#include <string.h>
#include <uprobe.h>

#define FUNCTION __attribute__((noinline)) long
FUNCTION red(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
FUNCTION green(long a) { __asm__ volatile("" ::: "memory"); return a + 2; }
FUNCTION blue(long a) { __asm__ volatile("" ::: "memory"); return a + 3; }

struct counter {
	long calls, sum;
};

static int on_call(struct uprobe *probe, struct uprobe_regs *regs)
{
	struct counter *mine = probe->data;
	mine->calls++;
	mine->sum += (long)uprobe_arg(regs, 1);
	return 0;
}

int main(void)
{
	struct counter counters[4] = { { 0, 0 } };
	struct uprobe probes[4];
	struct uprobe *list[4];
	const char *names[4] = { "red", "green", "blue", "purple" };

	memset(probes, 0, sizeof probes);
	for (int i = 0; i < 4; i++) {
		probes[i].symbol_name = names[i];
		probes[i].pre_handler = on_call;
		probes[i].data = &counters[i];
		list[i] = &probes[i];
	}
	printf("all four: %s\n", strerror(-register_uprobes(list, 4)));
	probes[3].symbol_name = "red";
	printf("with red twice instead of purple: %d\n", register_uprobes(list, 4));
	for (long i = 0; i < 10; i++) {
		red(i);
		if (i % 2)
			green(i);
	}
	blue(100);
	unregister_uprobes(list, 4);
	for (int i = 0; i < 4; i++)
		printf("%s: %ld calls, the arguments' sum is %ld\n", probes[i].symbol_name, counters[i].calls,
		       counters[i].sum);
	return 0;
}
