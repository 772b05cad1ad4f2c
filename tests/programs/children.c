/* Children made in every way, with probes on what they run between fork and exec: children WAY.
 * `children child ARGS` is the child: it tells its mask and which signals it ignores. */
#include "check.h"
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *self;
static volatile int works;
FUNCTION int work(int a) { KEEP(); works++; return a + 1; }

static void status(const char *what, int s)
{
	if (WIFEXITED(s))
		printf("%s: exit %d\n", what, WEXITSTATUS(s));
	else
		printf("%s: signal %d\n", what, WTERMSIG(s));
	fflush(stdout);
}

static int child(char **args)
{
	sigset_t mask;
	printf("child %s mask", args[0] ? args[0] : "");
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i <= 64; i++)
		if (sigismember(&mask, i) == 1)
			printf(" %d", i);
	printf(" ignores");
	for (int i = 1; i <= 64; i++) {
		struct sigaction a;
		if (sigaction(i, NULL, &a) == 0 && a.sa_handler == SIG_IGN)
			printf(" %d", i);
	}
	printf("\n");
	for (int i = 0; i < 10; i++)
		work(i);
	return 7;
}

static void wait_for(const char *what, pid_t pid)
{
	int s;
	if (pid < 0)
		DIE(what);
	if (waitpid(pid, &s, 0) != pid)
		DIE("waitpid");
	status(what, s);
}

static void try_spawn(const char *what, int flags)
{
	char *argv[] = { self, "child", (char *)what, NULL };
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t actions;
	sigset_t set;
	pid_t pid;
	MUST(posix_spawnattr_init(&attr));
	MUST(posix_spawn_file_actions_init(&actions));
	MUST(posix_spawn_file_actions_adddup2(&actions, 1, 9));
	MUST(posix_spawn_file_actions_addclose(&actions, 9));
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	sigaddset(&set, SIGUSR2);
	MUST(posix_spawnattr_setsigdefault(&attr, &set));
	MUST(posix_spawnattr_setsigmask(&attr, &set));
	MUST(posix_spawnattr_setflags(&attr, (short)flags));
	int error = posix_spawn(&pid, self, &actions, &attr, argv, environ);
	if (error)
		printf("%s: %s\n", what, strerror(error));
	else
		wait_for(what, pid);
	error = posix_spawnp(&pid, "no-such-program-anywhere", NULL, NULL, argv, environ);
	printf("%s of nothing: %s\n", what, strerror(error));
}

static void all_ways(const char *in)
{
	char command[4200];
	printf("== %s\n", in);
	fflush(stdout);
	try_spawn("posix_spawn", 0);
	try_spawn("posix_spawn-sets", POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	snprintf(command, sizeof command, "'%s' child system", self);
	status("system", system(command));
	status("false", system("exit 3"));
	status("killed", system("kill -TERM $$"));
	snprintf(command, sizeof command, "'%s' child popen", self);
	FILE *pipe = popen(command, "r");
	char line[512];
	while (pipe && fgets(line, sizeof line, pipe))
		printf("read: %s", line);
	status("popen", pclose(pipe));
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		work(1);
		execl(self, self, "child", "fork", (char *)NULL);
		_exit(99);
	}
	wait_for("fork", pid);
	pid = vfork();
	if (pid == 0) {
		work(1);
		execl(self, self, "child", "vfork", (char *)NULL);
		_exit(99);
	}
	wait_for("vfork", pid);
	pid = vfork();
	if (pid == 0) {
		work(1);
		_exit(5);
	}
	wait_for("vfork without exec", pid);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 100; i++)
			work(i);
		exit(6);
	}
	wait_for("fork without exec", pid);
}

static void on_signal(int signo) { (void)signo; work(2); }

int main(int argc, char **argv)
{
	self = argv[0];
	if (argc > 1 && strcmp(argv[1], "child") == 0)
		return child(argv + 2);
	all_ways("as it is");
	signal(SIGTRAP, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	all_ways("ignoring");
	signal(SIGTRAP, on_signal);
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	all_ways("all blocked, SIGTRAP caught");
	return 0;
}
