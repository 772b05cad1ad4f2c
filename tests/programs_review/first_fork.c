/* first_fork: many processes, in each of which threads make the first calls of the API while another one forks. The child
 * gets -ENOSYS, or its own hits: where the fork came before it was waited for, it waited for ever. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uprobe.h>

enum { PROCESSES = 100 };
__attribute__((noinline, noclone)) int busy(int x) { __asm__ volatile("" : "+r"(x)); return x + 1; }
static int pre(struct uprobe *up, struct uprobe_regs *regs) { (void)up, (void)regs; return 0; }

static void *first(void *unused)
{
	struct uprobe up = { .symbol_name = "busy", .pre_handler = pre };
	if (register_uprobe(&up) == 0)
		unregister_uprobe(&up);
	return unused;
}

static int child(void)
{
	struct uprobe up = { .symbol_name = "busy", .pre_handler = pre };
	alarm(20);
	int result = register_uprobe(&up);
	if (result)
		return result == -ENOSYS ? 0 : 1;
	for (int i = 0; i < 5; i++)
		busy(i);
	return up.nhit != 5 || unregister_uprobe(&up) ? 2 : 0;
}

static int process(int number)
{
	pthread_t threads[3];
	int status;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, first, NULL);
	for (volatile int turns = number % 50 * 300; turns > 0; turns--) { }
	pid_t pid = fork();
	if (pid == 0)
		_exit(child());
	waitpid(pid, &status, 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	return status != 0;
}

int main(void)
{
	int bad = 0, status;
	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(process(i));
		waitpid(pid, &status, 0);
		bad += status != 0;
	}
	printf("bad %d\n", bad);
	return bad != 0;
}
