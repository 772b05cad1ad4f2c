/* shallow: each of the five by the thousand, faster than one can be put aside, to a thread with a small stack that hits
 * breakpoints. They stood upon each other until the stack was full. */
#include "signals.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { STACK = 128 << 10, SEEN = 2000 };
static volatile int seen, stop;
static volatile pid_t target;
static int number;
FUNCTION int work(int a) { KEEP(); return a + 1; }
static long works;
static void count(void) { __atomic_fetch_add(&works, 1, __ATOMIC_RELAXED); }
static void on_signal(int signo) { (void)signo; seen = seen + 1; count(); work(1); }

static void *worker(void *unused)
{
	target = gettid();
	while (seen < SEEN) {
		count();
		work(2);
	}
	stop = 1;
	return unused;
}

static void *sender(void *unused)
{
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!stop)
		if (target)
			syscall(SYS_tgkill, getpid(), target, number);
	return unused;
}

int main(void)
{
	for (int i = 0; i < COUNT(five); i++) {
		pthread_t threads[2];
		pthread_attr_t attributes;
		char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MUST(stack == MAP_FAILED);
		number = five[i];
		seen = stop = 0;
		target = 0;
		struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
		MUST(sigaction(number, &action, NULL));
		MUST(pthread_attr_init(&attributes));
		MUST(pthread_attr_setstack(&attributes, stack, STACK));
		MUST(pthread_create(&threads[0], NULL, sender, NULL));
		MUST(pthread_create(&threads[1], &attributes, worker, NULL));
		while (target == 0) { }
		pid_t parent = getpid(), child = fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (syscall(SYS_tgkill, parent, target, number) == 0) { }
			_exit(0);
		}
		for (int j = 0; j < 2; j++)
			MUST(pthread_join(threads[j], NULL));
		kill(child, SIGKILL);
		while (waitpid(child, NULL, 0) != child) { }
		printf("%s\n", name_of(number));
	}
	TELL("work", works);
	return 0;
}
