/* A program that can't be executed: the one that tried goes on, and its report is whole. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline)) void work(void) { __asm__ volatile(""); }
int main(void)
{
	char *argv[] = { "nowhere", NULL };
	for (int i = 0; i < 3; i++) {
		work();
		int result = execvp("/nonexistent/nowhere", argv);
		printf("%d %d\n", result, errno == ENOENT);
	}
	work();
	puts("hits work 4");
	return 0;
}
