/* answered: each of many SIGTRAPs that one thread sends to another is seen there before the next one is sent: by a
 * handler, by one that a mask had kept, and by sigwait. That other one hits breakpoints all the time. */
#include "signals.h"
#include <pthread.h>
#include <sched.h>

enum { EACH = 150 };
static volatile int seen, wrong, phase;
static pthread_t target;
FUNCTION int work(int a) { KEEP(); return a + 1; }

static void count(const siginfo_t *info)
{
	wrong += info->si_signo != SIGTRAP || info->si_pid != getpid() || info->si_uid != getuid();
	wrong += info->si_code != SI_TKILL && info->si_code != SI_USER && (info->si_code != SI_QUEUE || info->si_value.sival_int != 5);
	wrong += info->si_errno != 0;
	__atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST);
}
static void on_trap(int signo, siginfo_t *info, void *context) { (void)signo; (void)context; count(info); }

static void *sender(void *unused)
{
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < 3 * EACH; i++) {
		int before = __atomic_load_n(&seen, __ATOMIC_SEQ_CST);
		union sigval value = { .sival_int = 5 };
		/* Queued to a thread that keeps it out, it may go to this one. */
		if (i % 2 && i < EACH)
			MUST(pthread_sigqueue(target, SIGTRAP, value));
		else
			MUST(pthread_kill(target, SIGTRAP));
		while (__atomic_load_n(&seen, __ATOMIC_SEQ_CST) == before)
			sched_yield();
	}
	return unused;
}

int main(void)
{
	sigset_t trap = set_of(SIGTRAP, 0, 0);
	handle(SIGTRAP, on_trap, SA_RESTART, none());
	target = pthread_self();
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, sender, NULL));
	long sum = 0;
	while (seen < EACH)
		sum += work(1) - 2;
	/* The sender goes on meanwhile: not how many there are now. */
	printf("by the handler %d wrong %d\n", seen >= EACH, wrong);
	while (seen < 2 * EACH) {
		MUST(pthread_sigmask(SIG_BLOCK, &trap, NULL));
		for (int i = 0; i < 5; i++)
			sum += work(1) - 2;
		MUST(pthread_sigmask(SIG_UNBLOCK, &trap, NULL));
	}
	MUST(pthread_sigmask(SIG_BLOCK, &trap, NULL));
	int waited = seen;
	while (seen < 3 * EACH) {
		siginfo_t info;
		for (int i = 0; i < 5; i++)
			sum += work(1) - 2;
		if (sigwaitinfo(&trap, &info) == SIGTRAP)
			count(&info);
	}
	MUST(pthread_join(thread, NULL));
	printf("all %d wrong %d %ld waited %d\n", seen, wrong, sum, waited >= 2 * EACH);
	return 0;
}
