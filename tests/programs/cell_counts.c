/* Threads that count at the same time, threads that come and go, and a fork in the middle of calls, which
 * return in both: cell_counts THREADS ROUNDS. Each process tells what it called itself. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAVES = 25, AT_ONCE = 8, DEPTH = 5 };
static long rounds;

FUNCTION long work(long a) { KEEP(); return a & 1; }
FUNCTION long last(long a) { KEEP(); return a; }

static void *run(void *arg)
{
	for (long i = 0; i < rounds; i++)
		work(i);
	return arg;
}
static void *run_once(void *arg) { work(1); return arg; }

/* DEPTH calls are under way at the fork. The threads that counted before are not in the child. */
FUNCTION pid_t forks(int depth)
{
	KEEP();
	pid_t child = depth > 1 ? forks(depth - 1) : fork();
	KEEP();
	return child;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 8, status;
	rounds = argc > 2 ? atol(argv[2]) : 1000;
	pthread_t thread[64];
	for (int i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_join(thread[i], NULL));
	for (int wave = 0; wave < WAVES; wave++) {
		for (int i = 0; i < AT_ONCE; i++)
			MUST(pthread_create(&thread[i], NULL, run_once, NULL));
		for (int i = 0; i < AT_ONCE; i++)
			MUST(pthread_join(thread[i], NULL));
	}
	pid_t child = forks(DEPTH);
	if (child < 0)
		DIE("fork");
	rounds = child == 0 ? 300 : 500;
	for (int i = 0; i < 2; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	for (int i = 0; i < 2; i++)
		MUST(pthread_join(thread[i], NULL));
	run(NULL);
	if (child != 0 && (waitpid(child, &status, 0) != child || status != 0))
		DIE("child");
	last(0);
	return 0;
}
