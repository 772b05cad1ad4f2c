/* The first call of the API comes while another thread has blocked all signals for good, which then creates threads and
 * ends: it is told to come again, and none of the engine's breakpoints is there meanwhile. One in pthread_create, or at
 * a thread's end, killed the program: the kernel forces SIGTRAP on whoever has it blocked. */
#include "handlers.h"
#include <pthread.h>
#include <signal.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }

static unsigned long hits;
static int count(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; hits++; return 0; }

static volatile int is_ready, is_over;
static void *nothing(void *arg) { return arg; }
static void *deaf(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	is_ready = 1;
	do {
		pthread_t child;
		pthread_create(&child, NULL, nothing, NULL);
		pthread_join(child, NULL);
	} while (!is_over);
	return arg;
}

int main(void)
{
	NEED_LIBRARY();
	pthread_t thread;
	struct uprobe probe = PROBE(target, .pre_handler = count);

	pthread_create(&thread, NULL, deaf, NULL);
	while (!is_ready)
		;
	printf("while it has: %s\n", register_uprobe(&probe) == -EAGAIN ? "-EAGAIN" : "something else");
	is_over = 1;
	pthread_join(thread, NULL);
	printf("afterwards: %d\n", register_uprobe(&probe));
	target(1);
	printf("hits %lu\n", hits);
	pthread_create(&thread, NULL, deaf, NULL);
	pthread_join(thread, NULL);
	UNREGISTER(&probe);
	return 0;
}
