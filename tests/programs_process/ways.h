/* What the programs about processes share. */
#ifndef WAYS_H
#define WAYS_H
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The function that is counted. What all processes make of it, those forked included, is in `*made`; TELL_WORKS
 * tells it to the harness. Who is killed leaves no report: LEAVES_NO_REPORT(n) takes its calls back. */
static long *made;
__attribute__((constructor(101))) static void make_made(void)
{
	made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (made == MAP_FAILED)
		DIE("mmap");
}
FUNCTION int work(int a) { __atomic_fetch_add(made, 1, __ATOMIC_SEQ_CST); KEEP(); return a + 1; }
#define MADE_ELSEWHERE(n) __atomic_fetch_add(made, n, __ATOMIC_SEQ_CST)
#define LEAVES_NO_REPORT(n) __atomic_fetch_sub(made, n, __ATOMIC_SEQ_CST)
#define TELL_WORKS() TELL("work", __atomic_load_n(made, __ATOMIC_SEQ_CST))

/* How a child ended, as the parent is told. */
static inline void tell_status(const char *what, int status)
{
	if (WIFEXITED(status))
		printf("%s: exit %d\n", what, WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		printf("%s: signal %d%s\n", what, WTERMSIG(status), WCOREDUMP(status) ? ", core" : "");
	else if (WIFSTOPPED(status))
		printf("%s: stopped %d\n", what, WSTOPSIG(status));
	else if (WIFCONTINUED(status))
		printf("%s: continued\n", what);
	fflush(stdout);
}

static inline void tell_end(const char *what, pid_t pid)
{
	int status;

	if (pid < 0) {
		printf("%s: %s\n", what, strerror(errno));
		return;
	}
	while (waitpid(pid, &status, __WALL) != pid)
		if (errno != EINTR)
			DIE("waitpid");
	tell_status(what, status);
}
#endif
