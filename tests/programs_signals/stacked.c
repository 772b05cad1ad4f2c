/* stacked: several signals delivered at once, where a jump stands: the kernel builds one handler's frame upon the
 * other's, before any of them has begun. Each sees the interrupted function in its backtrace, and the masks of those
 * below it. */
#include "signals.h"
#include <execinfo.h>
#include <pthread.h>
#include <sched.h>
#include <ucontext.h>

static volatile int stop, complete, incomplete, wrong_masks, nested, depth;
/* In one instruction: the next handler may come between two. */
#define ADD(variable, n) __atomic_fetch_add(&(variable), n, __ATOMIC_RELAXED)
FUNCTION int work(int a) { KEEP(); return a + 1; }
FUNCTION int inner(int a)
{
	int sum = 0;
	for (int i = 0; i < 2000; i++)
		sum += work(a + i);
	KEEP();
	return sum;
}

int main(void);
static void look(int signo, siginfo_t *info, void *context)
{
	void *frames[1024];
	ucontext_t *uc = context;
	(void)info, (void)signo;
	int n = backtrace(frames, 1024), found = 0;
	for (int i = 0; i < n; i++)
		found += frames[i] >= (void *)main && frames[i] < (void *)main + 2000;
	if (found)
		ADD(complete, 1);
	else
		ADD(incomplete, 1);
	/* Those of the real-time signals that are below hold SIGTRAP back. */
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	ADD(wrong_masks, sigismember(&now, SIGTRAP) != 1);
	ADD(wrong_masks, sigismember(&uc->uc_sigmask, SIGTRAP) != (depth > 0 || sigismember(&uc->uc_sigmask, SIGRTMIN + 9) == 1));
	ADD(nested, sigismember(&uc->uc_sigmask, SIGRTMIN + 9) == 1);
	ADD(depth, 1);
	work(1);
	ADD(depth, -1);
}

static pthread_t target;
static void *sender(void *unused)
{
	for (int sent = 0; !stop; sent += 4) {
		for (int i = 0; i < 4; i++)
			pthread_kill(target, SIGRTMIN + i);
		while (!stop && complete + incomplete < sent + 4)
			sched_yield();
	}
	return unused;
}

int main(void)
{
	pthread_t thread;
	void *first[4];
	backtrace(first, 4);
	for (int i = 0; i < 4; i++)
		handle(SIGRTMIN + i, look, 0, set_of(SIGTRAP, SIGRTMIN + 9, 0));
	target = pthread_self();
	sigset_t all = full(), open = none();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	MUST(pthread_create(&thread, NULL, sender, NULL));
	pthread_sigmask(SIG_SETMASK, &open, NULL);
	for (int i = 0; complete + incomplete < 1000; i++)
		inner(i);
	/* Held back together, let through together. */
	for (int i = 0; i < 300; i++) {
		pthread_sigmask(SIG_SETMASK, &all, NULL);
		inner(i);
		pthread_sigmask(SIG_SETMASK, &open, NULL);
	}
	stop = 1;
	MUST(pthread_join(thread, NULL));
	pthread_sigmask(SIG_SETMASK, &open, NULL);
	printf("incomplete %d wrong masks %d some %d nested %d\n", incomplete, wrong_masks, complete > 100, nested > 0);
	return 0;
}
