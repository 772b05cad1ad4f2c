/* Followed calls are left at any instruction whatever: r_async longjmp | cancel | exchange [COUNT]. */
#include "returns.h"
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static long count;
static sigjmp_buf back;

FUNCTION long work(long a) { KEEP(); return a + 1; }
FUNCTION long middle(long a) { long b = work(a); KEEP(); return b + 1; }
FUNCTION long deep(long n) { long b = n == 0 ? middle(0) : deep(n - 1); KEEP(); return b + 1; }
FUNCTION void settle(void) { KEEP(); }
static void calls(void)
{
	EXPECT(deep(10), 13);
	EXPECT(middle(5), 7);
}

static void leave(int signo)
{
	siglongjmp(back, signo);
}
static void by_longjmp(void)
{
	struct sigaction action = { .sa_handler = leave };
	MUST(sigaction(SIGALRM, &action, NULL));
	for (volatile long i = 0; i < count; i++) {
		int signo = sigsetjmp(back, 1);
		if (signo == 0) {
			/* At another moment each time. */
			struct itimerval soon = { { 0, 0 }, { 0, 100 + i * 7 % 400 } };
			MUST(setitimer(ITIMER_REAL, &soon, NULL));
			for (;;)
				calls();
		}
	}
	settle();
	calls();
	printf("left %ld times\n", count);
}

/* Cancelled asynchronously; the cleanup handlers run all the same. */
static volatile long cleanups;
static sem_t begun;
static void cleanup(void *arg) { (void)arg; cleanups++; }
static void *run(void *arg)
{
	int old;
	MUST(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old));
	pthread_cleanup_push(cleanup, NULL);
	sem_post(&begun);
	for (;;)
		calls();
	pthread_cleanup_pop(0);
	return arg;
}
static void by_cancellation(void)
{
	MUST(sem_init(&begun, 0, 0));
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		void *value;
		MUST(pthread_create(&thread, NULL, run, NULL));
		while (sem_wait(&begun) != 0)
			;
		struct timespec pause = { 0, i * 997 % 300000 };
		nanosleep(&pause, NULL);
		MUST(pthread_cancel(thread));
		MUST(pthread_join(thread, &value));
		EXPECT(value == PTHREAD_CANCELED, 1);
	}
	calls();
	printf("cancelled %ld, cleaned up %ld\n", count, cleanups);
}

/* Two threads go on on each other's stacks, in the middle of calls; by way of a third, so that nobody is
 * on a stack that somebody else takes. */
static ucontext_t of[2], aside[2];
static pthread_barrier_t barrier;
static volatile int finished[2];
static void change(int me)
{
	pthread_barrier_wait(&barrier);
	setcontext(&of[1 - me]);
}
FUNCTION long swap(long me)
{
	static char stacks[2][65536];
	volatile int resumed = 0;
	MUST(getcontext(&aside[me]));
	aside[me].uc_stack.ss_sp = stacks[me];
	aside[me].uc_stack.ss_size = sizeof stacks[me];
	makecontext(&aside[me], (void (*)(void))(void *)change, 1, (int)me);
	MUST(getcontext(&of[me]));
	if (!resumed) {
		resumed = 1;
		setcontext(&aside[me]);
	}
	KEEP();
	return me;
}
FUNCTION long around(long n, long me) { long s = n == 0 ? swap(me) : around(n - 1, me); KEEP(); return s; }
static void *exchange(void *arg)
{
	long me = (long)arg;
	for (long i = 0; i < count; i++) {
		EXPECT(around(5, me), me);
		EXPECT(deep(3), 6);
		pthread_barrier_wait(&barrier);
	}
	finished[me] = 1;
	/* Whoever runs here, the stack is its own again: there were two exchanges for each turn. */
	return arg;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "longjmp";
	count = argc > 2 ? atol(argv[2]) : 200;
	if (strcmp(way, "longjmp") == 0)
		by_longjmp();
	else if (strcmp(way, "cancel") == 0)
		by_cancellation();
	else if (strcmp(way, "exchange") == 0) {
		pthread_t thread[2];
		MUST(pthread_barrier_init(&barrier, NULL, 2));
		for (long i = 0; i < 2; i++)
			MUST(pthread_create(&thread[i], NULL, exchange, (void *)i));
		for (long i = 0; i < 2; i++)
			MUST(pthread_join(thread[i], NULL));
		EXPECT(finished[0] + finished[1], 2);
		RETURNED("around", 12 * count);
		RETURNED("swap", 2 * count);
		RETURNED("deep", 8 * count);
		RETURNED("work", 2 * count);
	} else
		return 1;
	return 0;
}
