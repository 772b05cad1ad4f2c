/* What parents are told of their children: statuses, zombies, stops, descriptors of processes; children of
 * children, and those that are not waited for. */
#include "ways.h"
#include <sys/resource.h>
#include <poll.h>


static volatile int handled;
static void on_child(int signo, siginfo_t *info, void *context)
{
	(void)signo; (void)info; (void)context;
	handled++;
}

static pid_t child(int (*run)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		work(1);
		_exit(run());
	}
	return pid;
}

static int zero(void) { return 0; }
static int most(void) { return 255; }
static int beyond(void) { return 256 + 3; }
static int killed(void) { LEAVES_NO_REPORT(1); return raise(SIGKILL); }
static int terminated(void) { return raise(SIGTERM); }
static int aborted(void) { abort(); }
static int faults(void) { return *(volatile int *)8; }
static int traps(void) { __asm__ volatile("int3"); return 1; }
static int illegal(void) { __asm__ volatile("ud2"); return 1; }
static int divides(void) { volatile int zero = 0; return 1 / zero; }
static int pipes(void)
{
	int ends[2];

	MUST(pipe(ends));
	close(ends[0]);
	return (int)write(ends[1], "x", 1);
}
/* Several that are pending at once: the lowest number ends it, whatever was sent first. */
static int first_of(int a, int b, int c)
{
	sigset_t all, none;

	sigfillset(&all);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &all, NULL);
	MUST(raise(a));
	MUST(raise(b));
	MUST(raise(c));
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 1;
}
static int fault_and_trap(void) { return first_of(SIGSEGV, SIGTRAP, SIGSEGV); }
static int trap_and_fault(void) { return first_of(SIGTRAP, SIGFPE, SIGBUS); }
static int many_at_once(void) { return first_of(SIGTERM, SIGSEGV, SIGILL); }
static int stops(void) { raise(SIGSTOP); work(2); return 6; }
static int by_exit(void) { exit(11); }
static int by_quick_exit(void) { quick_exit(12); }
static int by_return_of_a_thread(void) { pthread_exit(NULL); }
static void *ends_all(void *status) { _exit((int)(long)status); }
static int by_another_thread(void)
{
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, ends_all, (void *)13L));
	for (;;)
		pause();
}
static int family(void)
{
	int status, sum = 0;

	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			pid_t grandchild = fork();

			work(1);
			if (grandchild == 0) {
				work(2);
				_exit(20 + i);
			}
			waitpid(grandchild, &status, 0);
			_exit(WEXITSTATUS(status) + 1);
		}
		waitpid(pid, &status, 0);
		sum += WEXITSTATUS(status);
	}
	return sum;
}

#define TRY(run) tell_end(#run, child(run))

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART };
	siginfo_t info;
	struct pollfd polled;
	pid_t pid;
	int status, fd, missing = 0;

	TRY(zero); TRY(most); TRY(beyond); TRY(killed); TRY(terminated); TRY(aborted); TRY(faults); TRY(traps);
	TRY(illegal); TRY(divides); TRY(pipes); TRY(by_exit); TRY(by_quick_exit); TRY(by_return_of_a_thread);
	TRY(by_another_thread); TRY(family); TRY(fault_and_trap); TRY(trap_and_fault); TRY(many_at_once);
	pid = child(stops);
	waitpid(pid, &status, WUNTRACED);
	tell_status("stopped", status);
	kill(pid, SIGCONT);
	waitpid(pid, &status, WCONTINUED);
	tell_status("continued", status);
	tell_end("stops", pid);
	sigaction(SIGCHLD, &action, NULL);
	TRY(zero);
	printf("handled %d\n", handled);
	/* A zombie is looked at before it is taken. */
	pid = child(most);
	MUST(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	printf("zombie: code %d status %d, kill %d\n", info.si_code, info.si_status, kill(pid, 0));
	tell_end("zombie", pid);
	pid = child(stops);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	waitpid(pid, &status, WUNTRACED);
	syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
	syscall(SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0);
	polled = (struct pollfd){ .fd = fd, .events = POLLIN };
	while (poll(&polled, 1, -1) < 0)
		;
	MUST(waitid(P_PIDFD, (id_t)fd, &info, WEXITED));
	printf("by descriptor: code %d status %d\n", info.si_code, info.si_status);
	/* Nobody waits for those. */
	signal(SIGCHLD, SIG_IGN);
	pid = child(zero);
	missing = waitpid(pid, &status, 0) == -1 && errno == ECHILD;
	printf("not waited for: %d\n", missing);
	action.sa_flags = SA_NOCLDWAIT | SA_SIGINFO;
	sigaction(SIGCHLD, &action, NULL);
	pid = child(zero);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	printf("no zombies: %d\n", errno == ECHILD);
	TELL_WORKS();
	return 0;
}
