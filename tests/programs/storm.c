/* Probed functions run in 8 threads, and in signal handlers that interrupt them anywhere: a
 * SIGPROF timer and another thread that sends SIGUSR1 to each as fast as it can. Nothing the
 * program counts may differ from what the probes count, and every sum must be right:
 *   storm THREADS ROUNDS */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

static long rounds;
static atomic_long in_handler, handled, all_rounds;
static atomic_int stop;

FUNCTION long work(long a, long b) { KEEP(); return a * b + 1; }
FUNCTION long inner(long a)
{
	long sum = 0;
	for (int i = 0; i < 4; i++)
		sum += a * i;
	KEEP();
	return sum;
}
FUNCTION void from_handler(void) { KEEP(); atomic_fetch_add(&in_handler, 1); }

static void on_signal(int signo)
{
	(void)signo;
	atomic_fetch_add(&handled, 1);
	from_handler();
	from_handler();
}

static void *run(void *arg)
{
	long sum, turns = 0;
	(void)arg;
	/* Until enough signals have come, whatever the speed. */
	do {
		sum = 0;
		for (long i = 0; i < rounds; i++)
			sum += work(i, 3) + inner(i);
		if (sum != rounds * (rounds - 1) / 2 * 9 + rounds)
			printf("a sum is wrong: %ld\n", sum);
		turns++;
	} while (atomic_load(&handled) < 200);
	atomic_fetch_add(&all_rounds, turns * rounds);
	return NULL;
}

static pthread_t thread[64];
static int threads;

static void *sender(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		for (int i = 0; i < threads; i++)
			pthread_kill(thread[i], SIGUSR1);
		struct timespec pause = { 0, 20000 };
		nanosleep(&pause, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	threads = argc > 1 ? atoi(argv[1]) : 8;
	rounds = argc > 2 ? atol(argv[2]) : 10000;
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	MUST(sigaction(SIGUSR1, &action, NULL));
	MUST(sigaction(SIGPROF, &action, NULL));
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } };
	MUST(setitimer(ITIMER_PROF, &every, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	pthread_t from;
	MUST(pthread_create(&from, NULL, sender, NULL));
	/* Signalling a thread that has ended but was not joined is no error. */
	while (atomic_load(&handled) < 200)
		usleep(1000);
	atomic_store(&stop, 1);
	MUST(pthread_join(from, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_join(thread[i], NULL));
	struct itimerval never = { { 0, 0 }, { 0, 0 } };
	MUST(setitimer(ITIMER_PROF, &never, NULL));
	MUST(signal(SIGUSR1, SIG_IGN) == SIG_ERR);
	TELL("work", all_rounds);
	TELL("inner", all_rounds);
	TELL("from_handler", atomic_load(&in_handler));
	return atomic_load(&in_handler) != 2 * atomic_load(&handled);
}
