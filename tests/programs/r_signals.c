/* Handlers that call the followed functions they interrupted: r_signals WAY [THREADS ROUNDS]. */
#include "returns.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static long rounds = 2000;
static atomic_long handled, works, inners;
static atomic_int stop, nesting;

FUNCTION long inner(long a)
{
	long sum = 0;
	for (int i = 0; i < 4; i++)
		sum += a * i;
	KEEP();
	return sum;
}
FUNCTION long work(long a, long b)
{
	KEEP();
	long sum = a * b + inner(a);
	KEEP();
	return sum;
}
static void check(long a)
{
	long sum = work(a, 3);
	if (sum != a * 9)
		printf("a sum is wrong: %ld, not %ld\n", sum, a * 9);
}
FUNCTION void on_signal(int signo)
{
	(void)signo;
	long n = atomic_fetch_add(&handled, 1);
	check(n);
	check(n + 1);
	KEEP();
}

/* The handler runs while the function waits, on the stack or beside it, four deep. */
static void again(int signo)
{
	if (atomic_fetch_add(&nesting, 1) < 3)
		raise(signo);
	check(nesting);
}
FUNCTION long interrupted(long a) { KEEP(); MUST(raise(SIGUSR1)); KEEP(); return a + 1; }
FUNCTION void on_interrupted(int signo)
{
	again(signo);
	if (nesting == 4)
		EXPECT(interrupted(3), 4);
	KEEP();
}
static void nested(int flags)
{
	static char stack[262144];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	MUST(sigaltstack(&alternate, NULL));
	struct sigaction action = { .sa_handler = on_interrupted, .sa_flags = SA_NODEFER | flags };
	MUST(sigaction(SIGUSR1, &action, NULL));
	for (int i = 0; i < 500; i++) {
		nesting = 0;
		EXPECT(interrupted(i), i + 1);
	}
	printf("nested to %d\n", nesting);
	RETURNED("interrupted", 1000);
	RETURNED("work", 2500);
	RETURNED("inner", 2500);
	RETURNED("on_interrupted", 2500);
}

static void *run(void *arg)
{
	static __thread char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	MUST(sigaltstack(&alternate, NULL));
	long turns = 0;
	(void)arg;
	/* Until enough signals have come, whatever the speed. */
	do {
		for (long i = 0; i < rounds; i++)
			check(i);
		turns++;
	} while (atomic_load(&handled) < 500);
	atomic_fetch_add(&works, turns * rounds);
	return NULL;
}

static pthread_t thread[64];
static int threads = 4;
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

static void storm(int flags)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART | flags };
	MUST(sigaction(SIGUSR1, &action, NULL));
	MUST(sigaction(SIGPROF, &action, NULL));
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	MUST(setitimer(ITIMER_PROF, &every, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	pthread_t from;
	MUST(pthread_create(&from, NULL, sender, NULL));
	while (atomic_load(&handled) < 500)
		usleep(1000);
	atomic_store(&stop, 1);
	MUST(pthread_join(from, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_join(thread[i], NULL));
	MUST(setitimer(ITIMER_PROF, &never, NULL));
	MUST(signal(SIGUSR1, SIG_IGN) == SIG_ERR);
	MUST(signal(SIGPROF, SIG_IGN) == SIG_ERR);
	works += 2 * handled;
	inners = works;
	RETURNED("work", works);
	RETURNED("inner", inners);
	RETURNED("on_signal", handled);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "nested";
	threads = argc > 2 ? atoi(argv[2]) : threads;
	rounds = argc > 3 ? atol(argv[3]) : rounds;
	if (strcmp(way, "nested") == 0)
		nested(0);
	else if (strcmp(way, "altstack") == 0)
		nested(SA_ONSTACK);
	else if (strcmp(way, "storm") == 0)
		storm(0);
	else if (strcmp(way, "storm-altstack") == 0)
		storm(SA_ONSTACK);
	else
		return 1;
	return 0;
}
