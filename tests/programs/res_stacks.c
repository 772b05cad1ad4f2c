/* Stacks as small as they may be, and one that overflows. Each mode tells how often work() ran. */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static volatile int calls;
static sigjmp_buf out;

__attribute__((noinline, noclone)) size_t work(const char *text)
{
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
	return strlen(text);
}
static void *thread(void *arg)
{
	for (int i = 0; i < 20; i++)
		*(size_t *)arg += work("text");
	return NULL;
}
static void handler(int signal)
{
	(void)signal;
	work("handler");
}
static volatile int end = -1;
__attribute__((noinline, noclone)) int deep(int n)
{
	volatile char frame[256];
	frame[0] = (char)n;
	if (n == 1000)
		work("deep");
	return n == end ? 0 : deep(n + 1) + frame[0];
}
static void *deep_thread(void *arg)
{
	deep(0);
	return arg;
}
static void leave(int signal, siginfo_t *info, void *context)
{
	(void)context;
	(void)info;
	work("overflow");
	siglongjmp(out, signal);
}
/* Where the kernel's frame just fits: what is smallest differs from processor to processor. */
static void on_alternate(size_t size)
{
	stack_t stack = { .ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			  .ss_size = size };
	if (sigaltstack(&stack, NULL))
		perror("sigaltstack");
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < 10; i++)
		raise(SIGUSR1);
}
int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct rlimit none = { 0, 0 };
	setrlimit(RLIMIT_CORE, &none);
	if (!strcmp(mode, "threads")) {
		pthread_attr_t attr;
		pthread_attr_init(&attr);
		printf("%d\n", pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN));
		size_t sums[8] = { 0 };
		pthread_t threads[8];
		for (int i = 0; i < 8; i++)
			if (pthread_create(&threads[i], &attr, thread, &sums[i]))
				return 1;
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
	} else if (!strcmp(mode, "alternate")) {
		on_alternate(MINSIGSTKSZ < 4096 ? (size_t)sysconf(_SC_MINSIGSTKSZ) + 512 : MINSIGSTKSZ);
	} else if (!strcmp(mode, "overflow")) {
		puts("overflow");
		fflush(stdout);
		return deep(0);
	} else if (!strcmp(mode, "overflow on alternate")) {
		stack_t stack = { .ss_sp = malloc(SIGSTKSZ), .ss_size = SIGSTKSZ };
		sigaltstack(&stack, NULL);
		struct sigaction action = { .sa_sigaction = leave, .sa_flags = SA_ONSTACK | SA_SIGINFO };
		sigaction(SIGSEGV, &action, NULL);
		for (volatile int i = 0; i < 3; i++) {
			int signal = sigsetjmp(out, 1);
			if (signal == 0)
				return deep(0);
			printf("signal %d\n", signal);
		}
	} else if (!strcmp(mode, "overflow in a thread")) {
		pthread_t t;
		puts("overflow");
		fflush(stdout);
		pthread_create(&t, NULL, deep_thread, NULL);
		pthread_join(t, NULL);
	}
	printf("hits work %d\n", calls);
	return 0;
}
