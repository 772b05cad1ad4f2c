/* For the sanitizers: threads, memory, a fork; and, if asked for, a mistake that they find. */
#include "check.h"
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

FUNCTION int work(int a) { KEEP(); return a + 1; }

static void *allocates(void *sum)
{
	for (int i = 0; i < 250; i++) {
		char *text = strdup("text");

		*(int *)sum += work(i) - i + (int)strlen(text) - 4;
		free(text);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[4];
	int sums[4] = { 0 }, status = 0;

	(void)argv;
	for (int i = 0; i < 4; i++)
		MUST(pthread_create(&threads[i], NULL, allocates, &sums[i]));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	printf("sums %d\n", sums[0] + sums[1] + sums[2] + sums[3]);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(3);
	waitpid(pid, &status, 0);
	printf("child %d\n", WEXITSTATUS(status));
	fflush(stdout);
	if (argc > 1) {
		char *volatile memory = malloc(10);

		memory[10] = 1;
		free(memory);
	}
	return 0;
}
