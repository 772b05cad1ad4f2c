/* Calls a function with each of the values, ROUNDS times in each of THREADS threads, then once in a fork
 * child and once more here: hist_values THREADS ROUNDS VALUE... */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static int values;
static char **texts;
static long rounds;

/* What it returns is the value, cut to an int. */
FUNCTION int take(unsigned long value, const unsigned long *same)
{
	KEEP();
	return (int)(value + (same ? 0 : 1));
}

static void take_all(void)
{
	for (int i = 0; i < values; i++) {
		unsigned long value = strtoul(texts[i], NULL, 0);
		if (take(value, &value) != (int)value)
			DIE("take");
	}
}

static void *run(void *arg)
{
	for (long i = 0; i < rounds; i++)
		take_all();
	return arg;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1, status;
	rounds = argc > 2 ? atol(argv[2]) : 1;
	values = argc > 3 ? argc - 3 : 0;
	texts = argv + 3;
	pthread_t thread[64];
	for (int i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_join(thread[i], NULL));
	pid_t child = fork();
	if (child < 0)
		DIE("fork");
	take_all();
	if (child != 0 && (waitpid(child, &status, 0) != child || status != 0))
		DIE("child");
	return 0;
}
