/* returns CHECK: what a handler leaves behind when it returns, where nothing of the engine's five was blocked when it was
 * called. */
#include "signals.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

static volatile int works;
FUNCTION int work(int a) { KEEP(); works++; return a + 1; }

static sigset_t left;
static void leave(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)info;
	work(signo);
	memcpy(&uc->uc_sigmask, &left, 8);
}

/* A program that has switched its context, or wants no more signals, puts a mask of its own there. The kernel took it:
 * with SIGTRAP blocked, the next breakpoint killed. */
static void check_mask_in_context(void)
{
	for (int i = 0; i <= COUNT(five); i++) {
		left = i < COUNT(five) ? set_of(five[i], SIGUSR2, 0) : full();
		handle(SIGUSR1, leave, 0, none());
		raise(SIGUSR1);
		work(i);
		print_mask("left");
		for (int j = 0; j < COUNT(five); j++)
			if (sigismember(&left, five[j]))
				raise(five[j]);
		print_pending("pending");
		signal(SIGTRAP, SIG_IGN), signal(SIGSEGV, SIG_IGN), signal(SIGBUS, SIG_IGN);
		signal(SIGFPE, SIG_IGN), signal(SIGILL, SIG_IGN);
		block_only(none());
		print_mask("after");
	}
	printf("works %d\n", works);
}

/* What the handler blocks by sigprocmask is blocked until it returns, even if nothing else tells that it did. */
static void block_inside(int signo, siginfo_t *info, void *context)
{
	sigset_t set = set_of(SIGSEGV, SIGTRAP, 0);
	(void)signo, (void)info, (void)context;
	sigprocmask(SIG_BLOCK, &set, NULL);
	print_mask("inside");
}
static void check_blocked_for_a_time(void)
{
	handle(SIGUSR1, block_inside, SA_NODEFER, none());
	raise(SIGUSR1);
	print_mask("after");
}

/* The thread's own is first, and goes with it; it has the code of sigqueue() all the same. */
static void *send_to_itself(void *argument)
{
	union sigval value = { .sival_int = 5 };
	(void)argument;
	for (int i = 0; i < COUNT(five); i++)
		pthread_sigqueue(pthread_self(), five[i], value);
	print_pending("in the thread");
	return NULL;
}
static pthread_barrier_t barrier;
static void *be_sent(void *argument)
{
	(void)argument;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	print_pending("in the other thread");
	return NULL;
}
static void check_queued_to_thread(void)
{
	pthread_t thread;
	union sigval value = { .sival_int = 5 };
	block_only(full());
	pthread_create(&thread, NULL, send_to_itself, NULL);
	pthread_join(thread, NULL);
	print_pending("when it is gone");
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, be_sent, NULL);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < COUNT(five); i++)
		pthread_sigqueue(thread, five[i], value);
	print_pending("here");
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	print_pending("when that is gone, too");
	for (int i = 0; i < COUNT(five); i++) {
		kill(getpid(), five[i]);
		pthread_sigqueue(pthread_self(), five[COUNT(five) - 1 - i], value);
	}
	for (int i = 0; i < 2 * COUNT(five); i++) {
		sigset_t set = full();
		siginfo_t info;
		sigwaitinfo(&set, &info);
		printf("%s code %d\n", name_of(info.si_signo), info.si_code);
	}
}

/* One that the program sets in a handler stays, where it never had one before: in the frame of such a program the kernel
 * has no SS_DISABLE. */
static char alternate[65536];
static void set_stack(int signo, siginfo_t *info, void *context)
{
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
	(void)signo, (void)info, (void)context;
	MUST(sigaltstack(&stack, NULL));
}
static void check_alternate_stack(void)
{
	stack_t now;
	handle(SIGUSR1, set_stack, 0, none());
	raise(SIGUSR1);
	MUST(sigaltstack(NULL, &now));
	printf("flags %d size %zu\n", now.ss_flags, now.ss_size);
}

/* Two end one wait. The upper one's handler runs first and sees the mask of the wait below it, which saw its own blocked
 * one: then what was blocked is let through. */
static void show(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	sigset_t below = none();
	(void)info;
	memcpy(&below, &uc->uc_sigmask, 8);
	printf("in %s\n", name_of(signo));
	print_set("  below", &below);
	print_mask("  in force");
}
static void check_two_end_a_wait(void)
{
	sigset_t masks[] = { none(), set_of(SIGSEGV, SIGUSR2, 0), set_of(SIGTRAP, SIGILL, 0) };
	handle(SIGUSR1, show, 0, none());
	handle(SIGTERM, show, 0, set_of(SIGALRM, 0, 0));
	for (int i = 0; i < COUNT(masks) * 2; i++) {
		block_only(i < COUNT(masks) ? full() : set_of(SIGUSR1, SIGTERM, SIGBUS));
		raise(SIGUSR1);
		raise(SIGTERM);
		sigsuspend(&masks[i % COUNT(masks)]);
		print_mask("after");
	}
}

/* Several are let through at once, outside a wait: what the upper ones' handlers leave in their frames is in force in the
 * next one's, which goes on with what the thread had. */
static int to_edit;
static void show_and_edit(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	show(signo, info, context);
	if (to_edit > 0)
		sigaddset(&uc->uc_sigmask, to_edit);
	else if (to_edit < 0)
		sigdelset(&uc->uc_sigmask, -to_edit);
}
static void check_stacked(void)
{
	static const int edits[] = { 0, SIGFPE, SIGTRAP, -SIGBUS, SIGUSR2 };
	for (int i = 0; i < COUNT(edits) * 2; i++) {
		sigset_t own = i % 2 ? set_of(SIGBUS, SIGSEGV, 0) : none();
		to_edit = edits[i / 2];
		handle(SIGUSR1, show_and_edit, 0, none());
		handle(SIGTERM, show_and_edit, SA_NODEFER, set_of(SIGALRM, 0, 0));
		handle(SIGWINCH, show_and_edit, 0, i % 3 ? set_of(SIGHUP, 0, 0) : set_of(SIGILL, SIGHUP, 0));
		block_only(full());
		raise(SIGUSR1);
		raise(SIGTERM);
		raise(SIGWINCH);
		block_only(own);
		print_mask("after");
	}
}

/* A signal comes when libc's fork lets them in again, before it has called those who want to know that it is over (as
 * that of SIGCHLD may, where the child is quick), and its handler leaves by longjmp: nothing of ours is held for ever. */
static sigjmp_buf before_fork;
static volatile sig_atomic_t forks;
static void leave_fork(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info, (void)context;
	if (forks)
		siglongjmp(before_fork, 1);
}
static void check_left_fork(void)
{
	handle(SIGALRM, leave_fork, 0, none());
	for (volatile int i = 0; i < 12; i++) {
		struct itimerval soon = { .it_value = { 0, 200 + 300 * i } };
		if (sigsetjmp(before_fork, 1) == 0) {
			forks = 1;
			setitimer(ITIMER_REAL, &soon, NULL);
			if (fork() == 0)
				_exit(0);
		}
		forks = 0;
		while (wait(NULL) > 0 || errno == EINTR) {}
	}
	print_mask("after");
}

int main(int argc, char **argv)
{
	static const struct check checks[] = {
		CHECK(mask_in_context), CHECK(blocked_for_a_time), CHECK(queued_to_thread), CHECK(alternate_stack), CHECK(two_end_a_wait),
		CHECK(stacked), CHECK(left_fork),
	};
	return run_checks(checks, COUNT(checks), argc, argv);
}
