/*
 * return_probe: how long each call of a function takes, and what it returns.
 *
 * You will see a line for each call that was followed, in the order of their returns: a function
 * that calls itself returns from the inside out. What the entry has to tell the return is kept in the
 * call's own instance. The entry handler doesn't want every call: the shortest is not followed.
 *
 *     gcc -I include -rdynamic c-examples/return_probe.c -o return_probe
 *     LD_PRELOAD=target/release/libuprobe.so ./return_probe
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uprobe.h>

/* Sleeps for n, n - 1, ... 1, 0 milliseconds. */
__attribute__((noinline)) long countdown(long n)
{
	struct timespec pause = { 0, n * 1000000 };
	nanosleep(&pause, NULL);
	return n == 0 ? 0 : n + countdown(n - 1);
}

/* What is kept of a call while it runs. */
struct started {
	long argument;
	struct timespec when;
};

/* What is known of it afterwards. Handlers don't print. */
static struct {
	long argument, result, microseconds;
} calls[16];
static int count;

static int on_entry(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	struct started *call = uprobe_instance_data(ri);
	call->argument = (long)uprobe_arg(regs, 1);
	clock_gettime(CLOCK_MONOTONIC, &call->when);
	return call->argument == 0; /* not 0: don't follow this one */
}

static int on_return(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	const struct started *call = uprobe_instance_data(ri);
	struct timespec now;
	if (count == sizeof calls / sizeof calls[0])
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	calls[count].argument = call->argument;
	calls[count].result = (long)uprobe_retval(regs);
	calls[count].microseconds =
		(now.tv_sec - call->when.tv_sec) * 1000000 + (now.tv_nsec - call->when.tv_nsec) / 1000;
	count++;
	return 0;
}

int main(void)
{
	struct uretprobe probe = {
		.up = { .symbol_name = "countdown" },
		.handler = on_return,
		.entry_handler = on_entry,
		.data_size = sizeof(struct started),
	};
	int error = register_uretprobe(&probe);
	if (error != 0) {
		fprintf(stderr, "register_uretprobe: %s\n", strerror(-error));
		return 1;
	}
	countdown(4);
	unregister_uretprobe(&probe);
	for (int i = 0; i < count; i++) {
		long least = calls[i].result * 1000;
		printf("countdown(%ld) returned %ld and took %s %ld us\n", calls[i].argument, calls[i].result,
		       calls[i].microseconds >= least ? "at least" : "less than", least);
	}
	printf("%llu calls were followed, %llu missed\n", (unsigned long long)probe.up.nhit,
	       (unsigned long long)probe.nmissed);
	return 0;
}
