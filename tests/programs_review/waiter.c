/* A thread that waits gets a signal sent to the process, as it would if all others block it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <time.h>

__attribute__((noinline)) void work(void) { __asm__ volatile(""); }

static int received;
static const int signals[] = { SIGTRAP, SIGSEGV, SIGFPE };

static void *wait_for(void *arg)
{
	sigset_t set;
	sigemptyset(&set);
	for (int i = 0; i < 3; i++)
		sigaddset(&set, signals[i]);
	for (int i = 0; i < 12; i++) {
		siginfo_t info;
		struct timespec limit = { 3, 0 };
		int got = sigtimedwait(&set, &info, &limit);
		printf("got %d code %d pid %d\n", got, info.si_code, info.si_pid == getpid());
		__atomic_add_fetch(&received, 1, __ATOMIC_SEQ_CST);
		work();
	}
	return arg;
}

static volatile int handled;
static void on_signal(int signo) { handled = signo; work(); }

int main(void)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_t thread;
	pthread_create(&thread, NULL, wait_for, NULL);
	struct timespec pause = { 0, 20000000 };
	for (int i = 0; i < 12; i++) {
		/* One after the other, however late it comes to its wait: of two the kernel would choose. */
		do
			nanosleep(&pause, NULL);
		while (__atomic_load_n(&received, __ATOMIC_SEQ_CST) < i);
		union sigval value = { .sival_int = i };
		if (i & 1)
			sigqueue(getpid(), signals[i % 3], value);
		else
			kill(getpid(), signals[i % 3]);
	}
	pthread_join(thread, NULL);
	/* Blocked in all threads, sent to the process, then unblocked by the main thread. */
	signal(SIGTRAP, on_signal);
	kill(getpid(), SIGTRAP);
	sigset_t pending;
	sigpending(&pending);
	printf("pending %d\n", sigismember(&pending, SIGTRAP));
	pthread_sigmask(SIG_UNBLOCK, &all, NULL);
	printf("handled %d\nhits work 13\n", handled);
	return 0;
}
