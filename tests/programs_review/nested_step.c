/* A stepped system call that a signal interrupts, whose handler makes the same call: both end, and
 * each has its post_handler. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <errno.h>
#include <uprobe.h>

long pause_for(const struct timespec *);
__asm__(".text\n.globl pause_for, pause_insn\n.type pause_for,@function\n"
	"pause_for: mov $35, %eax\n xor %esi, %esi\npause_insn: syscall\n ret\n.size pause_for, .-pause_for\n");

static volatile long posts, handled, nested_results;
static int pre(struct uprobe *up, struct uprobe_regs *regs) { (void)up, (void)regs; return 0; }
static void post(struct uprobe *up, struct uprobe_regs *regs, unsigned long flags)
{
	(void)up, (void)flags;
	posts += regs->rcx == regs->rip;
}
static void on_alarm(int signo)
{
	struct timespec t = { 0, 1000000 };
	(void)signo;
	handled++;
	nested_results += pause_for(&t) == 0;
}

int main(void)
{
	static struct uprobe up = { .symbol_name = "pause_for", .offset = 7, .pre_handler = pre, .post_handler = post };
	struct sigaction action = { .sa_handler = on_alarm };
	sigaction(SIGALRM, &action, NULL);
	printf("register %d\n", register_uprobe(&up));
	long interrupted = 0, calls = 0;
	while (interrupted < 20) {
		struct itimerval timer = { { 0, 0 }, { 0, 5000 } };
		struct timespec t = { 1, 0 };
		setitimer(ITIMER_REAL, &timer, NULL);
		/* Not where the timer was earlier than the call, on a busy machine: then once more. */
		interrupted += pause_for(&t) == -EINTR;
		calls++;
	}
	printf("interrupted %ld nested as handled %d hits as calls %d posts as hits %d\n", interrupted, nested_results == handled,
	       (long)up.nhit == calls + handled, posts == (long)up.nhit);
	printf("handled as calls %d\n", handled == calls);
	return 0;
}
