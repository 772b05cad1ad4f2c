/* Threads register and unregister all the time while the main thread forks; each child registers,
 * hits, sees its own count and its own text, and the parent's text stays the parent's. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <signal.h>
#include <uprobe.h>

static volatile int stop;
__attribute__((noinline, noclone)) int busy(int x) { __asm__ volatile("" : "+r"(x)); return x + 1; }
__attribute__((noinline, noclone)) int childs(int x) { __asm__ volatile("" : "+r"(x)); return x + 2; }
static int pre(struct uprobe *up, struct uprobe_regs *regs) { (void)up, (void)regs; return 0; }

static void *change(void *arg)
{
	struct uprobe up = { .symbol_name = "busy", .pre_handler = pre };
	struct sigaction action;
	while (!stop) {
		register_uprobe(&up);
		busy(1);
		unregister_uprobe(&up);
		sigaction(SIGTRAP, NULL, &action);
		sigaction(SIGTRAP, &action, NULL);
	}
	return arg;
}

int main(void)
{
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, change, NULL);
	int bad = 0;
	for (int i = 0; i < 60; i++) {
		pid_t child = fork();
		if (child == 0) {
			alarm(10);
			struct uprobe up = { .symbol_name = "childs", .pre_handler = pre };
			struct sigaction action;
			sigaction(SIGTRAP, NULL, &action);
			int result = register_uprobe(&up);
			/* Forked in the middle of the very first call of another thread: no engine here. */
			if (result == -ENOSYS)
				_exit(0);
			if (result)
				_exit(20 - result % 20);
			for (int j = 0; j < 5; j++)
				if (childs(j) != j + 2)
					_exit(2);
			for (int j = 0; j < 5; j++)
				busy(j);
			if (up.nhit != 5 || unregister_uprobe(&up))
				_exit(3);
			_exit(0);
		}
		int status = 0;
		waitpid(child, &status, 0);
		if (status) {
			printf("child %d: status %#x\n", i, status);
			bad++;
		}
		if (childs(1) != 3)
			bad++;
	}
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("bad %d\n", bad);
	return bad != 0;
}
