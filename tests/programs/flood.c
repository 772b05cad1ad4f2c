/* Threads log events as fast as they can: flood THREADS ROUNDS. Each event carries its thread's
 * number and its own. */
#include "check.h"
#include <pthread.h>

static long rounds;
FUNCTION long work(long thread, long n, const char *text) { KEEP(); return thread + n + !text; }
static void *run(void *arg)
{
	for (long i = 0; i < rounds; i++)
		work((long)arg, i, "some text to make the line longer than a few bytes");
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 4;
	rounds = argc > 2 ? atol(argv[2]) : 1000;
	pthread_t thread[64];
	for (long i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, (void *)i));
	for (long i = 0; i < threads; i++) {
		printf("a line of the program's own, %ld\n", i);
		fflush(stdout);
		MUST(pthread_join(thread[i], NULL));
	}
	TELL("work", threads * rounds);
	return 0;
}
