/* Starts programs to trace as gdb does: by vfork, the child asking to be traced before it sets its signals and executes
 * one. It stopped at the first breakpoint after that call, and its parent, which waits for it in vfork, hung for good. */
#include "ways.h"
#include <sys/ptrace.h>

static void trace(const char *folders)
{
	pid_t child = vfork();
	if (child == 0) {
		setpgid(0, 0);
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0)
			_exit(96);
		work(1);
		struct sigaction action = { .sa_handler = SIG_DFL };
		sigset_t none;
		sigemptyset(&none);
		sigaction(SIGUSR1, &action, NULL);
		sigaction(SIGTRAP, &action, NULL);
		sigprocmask(SIG_SETMASK, &none, NULL);
		/* Found in the last of them only, if at all. */
		setenv("PATH", folders, 1);
		execlp("true", "true", NULL);
		_exit(97);
	}
	work(1);
	int status, begun = 0;
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		siginfo_t info;
		MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
		/* The kernel's word that it has executed something; other SIGTRAPs are the child's own affair. */
		int is_begin = WSTOPSIG(status) == SIGTRAP && info.si_code <= 0;
		begun += is_begin;
		MUST(ptrace(PTRACE_CONT, child, 0, is_begin ? 0 : WSTOPSIG(status)));
	}
	printf("executed %d, ", begun);
	tell_status("ended", status);
}

int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	trace("/nowhere:/also-nowhere:/bin");
	trace("/nowhere:/also-nowhere");
	trace("/bin");
	/* A child with memory of its own is traced at once. */
	pid_t child = fork();
	if (child == 0) {
		MUST(ptrace(PTRACE_TRACEME, 0, 0, 0));
		kill(getpid(), SIGSTOP);
		_exit(5);
	}
	int status;
	while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		if (WSTOPSIG(status) == SIGSTOP)
			puts("stopped");
		MUST(ptrace(PTRACE_CONT, child, 0, WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status)));
	}
	tell_status("ended", status);
	TELL_WORKS();
	return 0;
}
