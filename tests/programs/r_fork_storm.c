/* Children are made while other threads are in followed calls, on stacks of every kind:
 * r_fork_storm CHILDREN. Each child makes such calls too. */
#include "returns.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static atomic_int stop;
static atomic_long turns;

FUNCTION long work(long a) { KEEP(); return a + 1; }
FUNCTION long deeper(long a) { long b = work(a); KEEP(); return b + 1; }

struct aside { ucontext_t here, there; char stack[65536]; long result; };
static __thread struct aside *current;
static void begin(void)
{
	struct aside *mine = current;
	for (long i = 0; ; i++) {
		mine->result = deeper(i);
		MUST(swapcontext(&mine->there, &mine->here));
	}
}
static void turn(struct aside *aside, long n)
{
	current = aside;
	MUST(swapcontext(&aside->here, &aside->there));
	EXPECT(aside->result, n + 2);
	EXPECT(deeper(n), n + 2);
}
static void prepare(struct aside *aside)
{
	MUST(getcontext(&aside->there));
	aside->there.uc_stack.ss_sp = aside->stack;
	aside->there.uc_stack.ss_size = sizeof aside->stack;
	makecontext(&aside->there, begin, 0);
}
static void *run(void *arg)
{
	struct aside *aside = malloc(sizeof *aside);
	(void)arg;
	prepare(aside);
	for (long n = 0; !atomic_load(&stop); n++) {
		turn(aside, n);
		atomic_fetch_add(&turns, 1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	long children = argc > 1 ? atol(argv[1]) : 100;
	static struct aside mine;
	pthread_t thread[4];
	for (int i = 0; i < 4; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	prepare(&mine);
	for (long n = 0; n < children; n++) {
		turn(&mine, n);
		turns++;
		pid_t pid = fork();
		if (pid == 0) {
			alarm(30);
			turn(&mine, n + 1);
			_exit(7);
		}
		int status;
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
			printf("a child ended with status %#x\n", (unsigned)status);
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 4; i++)
		MUST(pthread_join(thread[i], NULL));
	RETURNED("work", 2 * turns);
	RETURNED("deeper", 2 * turns);
	return 0;
}
