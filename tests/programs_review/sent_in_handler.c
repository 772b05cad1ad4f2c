/* A fault signal that somebody sends while a handler of ours runs reaches the program's handler
 * after ours, which may then leave by siglongjmp: no hit is missed afterwards. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <uprobe.h>

static sigjmp_buf out;
static volatile int in_handler, seen_inside, seen;
__attribute__((noinline)) void work(void) { __asm__ volatile(""); }

static void on_fault(int signo)
{
	(void)signo;
	seen++;
	seen_inside += in_handler;
	siglongjmp(out, 1);
}

static int pre(struct uprobe *up, struct uprobe_regs *regs)
{
	(void)up, (void)regs;
	in_handler = 1;
	kill(getpid(), SIGSEGV);
	in_handler = 0;
	return 0;
}

int main(void)
{
	static struct uprobe up = { .symbol_name = "work", .pre_handler = pre };
	struct sigaction action = { .sa_handler = on_fault };
	sigaction(SIGSEGV, &action, NULL);
	if (!UPROBE_AVAILABLE())
		return 1;
	printf("register %d\n", register_uprobe(&up));
	for (volatile int i = 0; i < 5; i++)
		if (!sigsetjmp(out, 1))
			work();
	printf("seen %d inside %d nhit %lu nmissed %lu\n", seen, seen_inside, (unsigned long)up.nhit, (unsigned long)up.nmissed);
	return 0;
}
