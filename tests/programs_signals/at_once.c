/* at_once: SIGTRAP sent to a thread that runs into breakpoints all the time. The kernel keeps one SIGTRAP for a thread:
 * one that is sent in the moment before hides the int3's own (and one behind it is lost to it). No call of work() is. */
#include "signals.h"
#include <pthread.h>
#include <sched.h>

static volatile int seen, stop;
FUNCTION int work(int a) { KEEP(); return a + 1; }
static void on_trap(int signo) { (void)signo; __atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST); }
static pthread_t target;
static void *sender(void *unused)
{
	while (!stop) {
		pthread_kill(target, SIGTRAP);
		sched_yield();
	}
	return unused;
}

int main(void)
{
	pthread_t thread;
	sigset_t trap = set_of(SIGTRAP, 0, 0);
	signal(SIGTRAP, on_trap);
	target = pthread_self();
	MUST(sigprocmask(SIG_BLOCK, &trap, NULL));
	MUST(pthread_create(&thread, NULL, sender, NULL));
	MUST(sigprocmask(SIG_UNBLOCK, &trap, NULL));
	long sum = 0;
	long calls = 0;
	while (__atomic_load_n(&seen, __ATOMIC_SEQ_CST) < 1500) {
		sum += work((int)(calls & 1023)) - (calls & 1023);
		calls++;
	}
	stop = 1;
	MUST(pthread_join(thread, NULL));
	printf("wrong %ld\n", sum - calls);
	fprintf(stderr, "calls %ld\n", calls);
	TELL("work", calls);
	return 0;
}
