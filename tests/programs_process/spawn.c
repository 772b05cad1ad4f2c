/* posix_spawn with each attribute and each file action, and what can fail of them; popen and system.
 * `spawn child WHAT` is what they execute. */
#include "ways.h"
#include <spawn.h>
#include <sys/stat.h>

static char *self;

static int child(const char *what)
{
	sigset_t mask;
	struct sigaction action;
	struct sched_param param;
	char directory[4096], *name;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	printf("child %s: mask", what);
	for (int i = 1; i < 32; i++)
		if (sigismember(&mask, i))
			printf(" %d", i);
	printf(", ignores");
	for (int i = 1; i < 32; i++)
		if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			printf(" %d", i);
	name = getcwd(directory, sizeof directory) ? strrchr(directory, '/') : "?";
	sched_getparam(0, &param);
	printf(", group %s, session %s, policy %d priority %d, in %s, open", getpgrp() == getpid() ? "own" : "parent's",
	       getsid(0) == getpid() ? "own" : "parent's", sched_getscheduler(0), param.sched_priority, name);
	for (int i = 0; i < 64; i++)
		if (fcntl(i, F_GETFD) >= 0)
			printf(" %d", i);
	printf("\n");
	for (int i = 0; i < 10; i++)
		work(i);
	return 7;
}

typedef void setup(posix_spawnattr_t *, posix_spawn_file_actions_t *);

static void flags(posix_spawnattr_t *a, short more)
{
	short now;

	posix_spawnattr_getflags(a, &now);
	MUST(posix_spawnattr_setflags(a, (short)(now | more)));
}

static void no_attributes(posix_spawnattr_t *a, posix_spawn_file_actions_t *f) { (void)a; (void)f; }
static void group(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)f;
	posix_spawnattr_setpgroup(a, 0);
	flags(a, POSIX_SPAWN_SETPGROUP);
}
static void session(posix_spawnattr_t *a, posix_spawn_file_actions_t *f) { (void)f; flags(a, POSIX_SPAWN_SETSID); }
static void ids(posix_spawnattr_t *a, posix_spawn_file_actions_t *f) { (void)f; flags(a, POSIX_SPAWN_RESETIDS); }
static void by_vfork(posix_spawnattr_t *a, posix_spawn_file_actions_t *f) { (void)f; flags(a, POSIX_SPAWN_USEVFORK); }
static void masks(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	sigset_t set;

	(void)f;
	sigfillset(&set);
	MUST(posix_spawnattr_setsigmask(a, &set));
	MUST(posix_spawnattr_setsigdefault(a, &set));
	flags(a, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}
static void no_mask(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	sigset_t set;

	(void)f;
	sigemptyset(&set);
	MUST(posix_spawnattr_setsigmask(a, &set));
	flags(a, POSIX_SPAWN_SETSIGMASK);
}
static void schedules(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	struct sched_param param = { .sched_priority = 1 };

	(void)f;
	MUST(posix_spawnattr_setschedparam(a, &param));
	MUST(posix_spawnattr_setschedpolicy(a, SCHED_RR));
	flags(a, POSIX_SPAWN_SETSCHEDPARAM | POSIX_SPAWN_SETSCHEDULER);
}
static void files(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)a;
	MUST(posix_spawn_file_actions_addopen(f, 9, "/dev/null", O_RDWR, 0));
	MUST(posix_spawn_file_actions_adddup2(f, 9, 20));
	MUST(posix_spawn_file_actions_adddup2(f, 20, 20));
	MUST(posix_spawn_file_actions_addclose(f, 9));
	MUST(posix_spawn_file_actions_addclose(f, 0));
	MUST(posix_spawn_file_actions_addchdir_np(f, "/usr"));
}
static void all_closed(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)a;
	MUST(posix_spawn_file_actions_adddup2(f, 1, 40));
	MUST(posix_spawn_file_actions_addclosefrom_np(f, 41));
	MUST(posix_spawn_file_actions_addfchdir_np(f, AT_FDCWD));
}
static void directory(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	int fd = open("/usr/lib", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)a;
	MUST(posix_spawn_file_actions_addfchdir_np(f, fd));
}
static void no_such_directory(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)a;
	MUST(posix_spawn_file_actions_addchdir_np(f, "/no/such/directory"));
}
static void no_such_file(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)a;
	MUST(posix_spawn_file_actions_addopen(f, 9, "/no/such/file", O_RDONLY, 0));
}
static void no_such_descriptor(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)a;
	MUST(posix_spawn_file_actions_adddup2(f, 60, 61));
}
static void no_such_group(posix_spawnattr_t *a, posix_spawn_file_actions_t *f)
{
	(void)f;
	posix_spawnattr_setpgroup(a, 1);
	flags(a, POSIX_SPAWN_SETPGROUP);
}

static void try(const char *what, setup *prepare)
{
	char *argv[] = { self, "child", (char *)what, NULL };
	posix_spawnattr_t a;
	posix_spawn_file_actions_t f;
	pid_t pid;
	int error;

	MUST(posix_spawnattr_init(&a));
	MUST(posix_spawn_file_actions_init(&f));
	prepare(&a, &f);
	error = posix_spawn(&pid, self, &f, &a, argv, environ);
	if (error)
		printf("%s: %s\n", what, strerror(error));
	else
		tell_end(what, pid), MADE_ELSEWHERE(10);
	error = posix_spawnp(&pid, "no-such-program-anywhere", &f, &a, argv, environ);
	printf("%s, of nothing: %s\n", what, strerror(error));
	error = posix_spawn(&pid, "/etc/passwd", &f, &a, argv, environ);
	printf("%s, of no program: %s\n", what, strerror(error));
	MUST(posix_spawn_file_actions_destroy(&f));
	MUST(posix_spawnattr_destroy(&a));
	fflush(stdout);
}
#define TRY(setup) try(#setup, setup)

static void all(const char *in)
{
	char command[4200], line[1000];
	FILE *pipe;

	printf("== %s\n", in);
	fflush(stdout);
	TRY(no_attributes);
	TRY(group);
	TRY(session);
	TRY(ids);
	TRY(by_vfork);
	TRY(masks);
	TRY(no_mask);
	TRY(schedules);
	TRY(files);
	TRY(all_closed);
	TRY(directory);
	TRY(no_such_directory);
	TRY(no_such_file);
	TRY(no_such_descriptor);
	TRY(no_such_group);
	snprintf(command, sizeof command, "'%s' child system", self);
	tell_status("system", system(command));
	MADE_ELSEWHERE(20);
	tell_status("system of nothing", system("/no/such/program 2>/dev/null"));
	tell_status("system killed", system("kill -KILL $$"));
	printf("a shell: %d\n", system(NULL) != 0);
	snprintf(command, sizeof command, "'%s' child popen", self);
	pipe = popen(command, "r");
	while (pipe && fgets(line, sizeof line, pipe))
		printf("read: %s", line);
	tell_status("popen", pclose(pipe));
	pipe = popen("cat", "we");
	fputs("written to cat\n", pipe);
	tell_status("popen to write", pclose(pipe));
}

int main(int argc, char **argv)
{
	sigset_t set;

	self = argv[0];
	if (argc > 2 && strcmp(argv[1], "child") == 0)
		return child(argv[2]);
	all("as it is");
	signal(SIGTRAP, SIG_IGN);
	signal(SIGSEGV, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_SETMASK, &set, NULL);
	all("signals ignored and blocked");
	TELL_WORKS();
	return 0;
}
