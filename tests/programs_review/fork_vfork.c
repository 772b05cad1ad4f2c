/* The first thing a forked child does is to vfork: its counts and its report are its own. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) void work(void) { __asm__ volatile(""); }

int main(void)
{
	work();
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		pid_t grandchild = vfork();
		if (grandchild == 0) {
			work();
			_exit(7);
		}
		int status;
		waitpid(grandchild, &status, 0);
		work();
		work();
		printf("grandchild %d\n", WEXITSTATUS(status));
		exit(0);
	}
	waitpid(child, NULL, 0);
	printf("done\n");
	return 0;
}
