/* A thread calls a function whose probe's handler takes its time, while others queue realtime signals with
 * growing values to it and kill it with others, and a timer ticks. Their handlers call the function, too.
 * Everything that is sent is received, once and in order, and never on top of the probe's handler. */
#include "defer.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/time.h>

#define SIGNALS 6000

static int received[2], disorder, on_top, others, ticks, jumps, jumped;
static sigjmp_buf back;
static pthread_t main_thread;

static void take_time(void)
{
	spin(500);
}

static void on_queued(int signo, siginfo_t *info, void *context)
{
	int which = signo - SIGRTMIN - 1;
	(void)context;
	on_top += UPROBE_AVAILABLE() && in_probe;
	disorder += info->si_value.sival_int != ++received[which];
	if (received[which] % 4 == 0)
		call_work(received[which]);
	if (jumps && received[which] % 3 == 0) {
		jumped++;
		siglongjmp(back, 1);
	}
}

static void on_other(int signo)
{
	on_top += UPROBE_AVAILABLE() && in_probe;
	others += signo == SIGUSR1;
	ticks += signo == SIGALRM;
	call_work(signo);
}

static int received_of(int which)
{
	return __atomic_load_n(&received[which], __ATOMIC_RELAXED);
}

static void *send(void *arg)
{
	for (int n = 1; n <= SIGNALS; n++) {
		for (int which = 0; which < 2; which++) {
			union sigval value = { .sival_int = n };
			while (pthread_sigqueue(main_thread, SIGRTMIN + 1 + which, value) == EAGAIN)
				usleep(20);
		}
		/* siglongjmp opens the mask before it leaves the handler's stack: what is pending then goes on
		 * top, without end where there is always something. */
		while (jumps && (n - received_of(0) > 20 || n - received_of(1) > 20))
			usleep(20);
		if (n % 10 == 0) {
			pthread_kill(main_thread, SIGUSR1);
			usleep(20);
		}
	}
	return arg;
}

int main(int argc, char **argv)
{
	static pthread_t sender;
	sigset_t set, after;
	probe_work(argc > 1 && strcmp(argv[1], "return") == 0);
	jumps = argc > 2 && strcmp(argv[2], "jump") == 0;
	main_thread = pthread_self();
	inside = UPROBE_AVAILABLE() ? take_time : NULL;
	/* One that leaves takes with it whatever the kernel stacked its frame upon: so they exclude each
	 * other. */
	struct sigaction action = { .sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART };
	if (jumps)
		sigfillset(&action.sa_mask);
	MUST(sigaction(SIGRTMIN + 1, &action, NULL));
	MUST(sigaction(SIGRTMIN + 2, &action, NULL));
	action.sa_handler = on_other;
	action.sa_flags = SA_RESTART;
	MUST(sigaction(SIGUSR1, &action, NULL));
	MUST(sigaction(SIGALRM, &action, NULL));
	struct itimerval timer = { .it_interval = { .tv_usec = 300 }, .it_value = { .tv_usec = 300 } };
	MUST(sigprocmask(SIG_SETMASK, NULL, &set));
	MUST(setitimer(ITIMER_REAL, &timer, NULL));
	if (sigsetjmp(back, 1) == 0)
		MUST(pthread_create(&sender, NULL, send, NULL));
	for (volatile long i = 0; received_of(0) < SIGNALS || received_of(1) < SIGNALS; i++)
		call_work(i);
	timer = (struct itimerval){ 0 };
	MUST(setitimer(ITIMER_REAL, &timer, NULL));
	MUST(pthread_join(sender, NULL));
	MUST(sigprocmask(SIG_SETMASK, NULL, &after));
	printf("received %d and %d, out of order %d, on top %d\n", received[0], received[1], disorder, on_top);
	printf("others %d, ticks %d, jumped %d\n", others > 0, ticks > 0, jumped);
	printf("mask as before %d\n", memcmp(&set, &after, 8) == 0);
	/* A jump may leave a call before it is counted, or before its probe's handler. */
	if (!jumps)
		tell_probe();
	return 0;
}
