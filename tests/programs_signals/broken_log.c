/* broken_log: standard error, where the events go, is a pipe that nobody reads any more. That is not the program's
 * business: no SIGPIPE comes to it, be it blocked, handled or deadly. */
#include "signals.h"
#include <sys/wait.h>

FUNCTION int work(int a) { KEEP(); return a + 1; }
static volatile int seen;
static void on_pipe(int signo) { (void)signo; seen++; }

static void run(const char *how)
{
	if (strcmp(how, "handled") == 0)
		signal(SIGPIPE, on_pipe);
	if (strcmp(how, "blocked") == 0)
		block_only(set_of(SIGPIPE, 0, 0));
	for (int i = 0; i < 100; i++)
		work(i);
	print_mask("mask");
	print_pending("pending");
	printf("%s: alive, seen %d\n", how, seen);
	/* Its own is its own. */
	int ends[2];
	MUST(pipe(ends));
	close(ends[0]);
	fflush(stdout);
	printf("write %zd\n", write(ends[1], "x", 1));
	print_pending("pending");
	printf("seen %d\n", seen);
	fflush(stdout);
	work(1);
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "default", "handled", "blocked" };
	if (argc == 2) {
		run(argv[1]);
		return 5;
	}
	for (int i = 0; i < COUNT(ways); i++) {
		int ends[2], status;
		MUST(pipe(ends));
		pid_t child = fork();
		if (child == 0) {
			dup2(ends[1], 2);
			close(ends[0]);
			close(ends[1]);
			execl(argv[0], argv[0], ways[i], NULL);
			_exit(98);
		}
		close(ends[0]);
		close(ends[1]);
		MUST(waitpid(child, &status, 0) != child);
		printf("status %#x\n", (unsigned)status);
		fflush(stdout);
	}
	return 0;
}
