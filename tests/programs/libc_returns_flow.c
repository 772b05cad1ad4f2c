// Calls what leaves functions otherwise than by their end, or looks at who called: jumps, contexts,
// processes, threads, signals, the loader. Prints what is always the same.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

extern char **environ;
static jmp_buf here;
static sigjmp_buf there;
static ucontext_t outer, inner[2];
static volatile int count, caught;

static int jumps_in_qsort(const void *a, const void *b)
{
	if (++count == 5)
		longjmp(here, 7);
	return *(const char *)a - *(const char *)b;
}

static void jump_back(int signal)
{
	(void)signal;
	siglongjmp(there, 3);
}

static void jumps(void)
{
	char text[] = "sort these letters";
	volatile int times = 0;
	int came = setjmp(here);

	if (came == 0)
		qsort(text, sizeof text - 1, 1, jumps_in_qsort);
	// Several returns of one setjmp, and calls at the same depth of the stack between them.
	printf("setjmp %d after %d\n", came, count);
	if (times++ < 4)
		longjmp(here, 10 + times);
	signal(SIGUSR1, jump_back);
	for (times = 0; times < 3; times++)
		if (sigsetjmp(there, 1) == 0)
			raise(SIGUSR1);
		else
			puts("siglongjmp");
}

static void coroutine(int which)
{
	for (int i = 0; i < 3; i++) {
		printf("context %d %d\n", which, i);
		swapcontext(&inner[which], which ? &outer : &inner[1]);
	}
}

static void contexts(void)
{
	static char stacks[2][256 << 10];
	volatile int rounds = 0;

	for (int i = 0; i < 2; i++) {
		getcontext(&inner[i]);
		inner[i].uc_stack.ss_sp = stacks[i];
		inner[i].uc_stack.ss_size = sizeof stacks[i];
		inner[i].uc_link = &outer;
		makecontext(&inner[i], (void (*)(void))coroutine, 1, i);
	}
	for (int i = 0; i < 3; i++)
		swapcontext(&outer, &inner[0]);
	// The first ends, and its link leads back.
	swapcontext(&outer, &inner[0]);
	getcontext(&outer);
	if (++rounds < 4)
		setcontext(&outer);
	printf("rounds %d\n", rounds);
}

static int wait_for(pid_t child)
{
	int status = -1;

	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static void processes(void)
{
	char *const arguments[] = {"sh", "-c", "exit 5", NULL};
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(3);
	printf("fork %d\n", wait_for(child));
	child = vfork();
	if (child == 0)
		_exit(4);
	printf("vfork %d\n", wait_for(child));
	child = vfork();
	if (child == 0) {
		execv("/bin/sh", arguments);
		_exit(9);
	}
	printf("vfork and exec %d\n", wait_for(child));
	printf("spawn %d", posix_spawnp(&child, "sh", NULL, NULL, arguments, environ));
	printf(" %d\n", wait_for(child));
	fflush(stdout);
	printf("system %d\n", WEXITSTATUS(system("exit 6")));
	fflush(stdout);
	child = fork();
	if (child == 0)
		abort();
	printf("abort %d\n", wait_for(child));
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t semaphore;
static int turn, ran_once, cleaned;

static void only_once(void)
{
	ran_once++;
}

static void *takes_turns(void *mine)
{
	pthread_once(&once, only_once);
	for (int i = 0; i < 50; i++) {
		pthread_mutex_lock(&lock);
		while (turn % 4 != (int)(long)mine)
			pthread_cond_wait(&changed, &lock);
		turn++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	if ((long)mine % 2)
		pthread_exit((void *)((long)mine * 10));
	return (void *)((long)mine * 10);
}

static void clean(void *nothing)
{
	(void)nothing;
	cleaned++;
}

static void *is_cancelled(void *nothing)
{
	pthread_cleanup_push(clean, NULL);
	sem_post(&semaphore);
	for (;;)
		poll(NULL, 0, 1000);
	pthread_cleanup_pop(1);
	return nothing;
}

static int c11(void *value)
{
	thrd_yield();
	thrd_exit(*(int *)value + 1);
}

static void threads(void)
{
	pthread_t thread[4];
	thrd_t other;
	void *result;
	long sum = 0;
	int value = 5;

	for (long i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, takes_turns, (void *)i);
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], &result);
		sum += (long)result;
	}
	printf("threads %ld %d %d\n", sum, turn, ran_once);
	sem_init(&semaphore, 0, 0);
	pthread_create(&thread[0], NULL, is_cancelled, NULL);
	sem_wait(&semaphore);
	printf("cancel %d", pthread_cancel(thread[0]));
	pthread_join(thread[0], &result);
	printf(" %d %d\n", result == PTHREAD_CANCELED, cleaned);
	thrd_create(&other, c11, &value);
	thrd_join(other, &value);
	printf("thrd %d\n", value);
}

static void catch(int signal, siginfo_t *info, void *context)
{
	(void)context;
	caught += signal == SIGUSR2 || signal == SIGALRM;
	(void)info;
}

static void signals(void)
{
	struct sigaction action = {.sa_sigaction = catch, .sa_flags = SA_SIGINFO};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
	struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
	stack_t stack = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
	sigset_t set, old;
	timer_t timer;

	sigaltstack(&stack, NULL);
	sigaction(SIGUSR2, &action, NULL);
	raise(SIGUSR2);
	action.sa_flags |= SA_ONSTACK;
	sigaction(SIGUSR2, &action, NULL);
	kill(getpid(), SIGUSR2);
	sigemptyset(&set), sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &old);
	raise(SIGUSR2);
	printf("blocked %d", caught);
	sigsuspend(&old);
	printf(" suspended %d", caught);
	raise(SIGUSR2);
	printf(" waited %d\n", sigwaitinfo(&set, NULL) == SIGUSR2);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &soon, NULL);
	sigsuspend(&old);
	printf("timer %d %d\n", caught, timer_delete(timer));
	sigprocmask(SIG_SETMASK, &old, NULL);
	free(stack.ss_sp);
}

static int see_object(struct dl_phdr_info *info, size_t size, void *seen)
{
	(void)size;
	*(int *)seen |= strstr(info->dlpi_name, "libc.so.6") != NULL;
	return 0;
}

static void loader(void)
{
	void *math = dlopen("libm.so.6", RTLD_NOW), *frames[64];
	double (*cosine)(double) = (double (*)(double))dlsym(math, "cos");
	int (*next)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "puts");
	int seen = 0;
	Dl_info info;
	void *space;

	printf("cos %g %d %d\n", cosine(0), next == (int (*)(const char *))dlsym(RTLD_DEFAULT, "puts"),
	       dlsym(RTLD_DEFAULT, "main") != NULL);
	printf("dladdr %d", dladdr((void *)cosine, &info) != 0);
	printf(" %s\n", strrchr(info.dli_fname, '/'));
	printf("version %d\n", dlvsym(math, "cos", "GLIBC_2.2.5") != NULL);
	printf("iterate %d", dl_iterate_phdr(see_object, &seen));
	printf(" %d\n", seen);
	printf("missing %d", dlopen("libno-such.so", RTLD_LAZY) == NULL);
	printf(" %d\n", strlen(dlerror()) > 10);
	space = dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW);
	printf("namespace %d %d\n", space != NULL, dlsym(space, "cos") != (void *)cosine);
	printf("close %d %d\n", dlclose(space), dlclose(math));
	printf("backtrace %d\n", backtrace(frames, 64) >= 2);
}

static void at_exit(void)
{
	puts("atexit");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	atexit(at_exit);
	jumps(), contexts(), threads(), signals(), loader(), processes();
	exit(0);
}
