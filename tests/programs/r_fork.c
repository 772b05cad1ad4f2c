/* Children made inside followed calls: r_fork WAY. `r_fork child` is the program they execute. */
#include "returns.h"
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *self;
static int is_child;

FUNCTION long work(long a) { KEEP(); return a + 1; }

/* The pids of the children, for who compares. */
static void note(pid_t pid)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/pids", getenv("SCRATCH") ? getenv("SCRATCH") : "/tmp");
	FILE *file = fopen(path, "a");
	if (!file)
		DIE(path);
	fprintf(file, "%d\n", (int)pid);
	fclose(file);
}

static void reap(pid_t pid, int wanted)
{
	int status;
	if (pid < 0)
		DIE("a child");
	while (waitpid(pid, &status, 0) != pid)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != wanted)
		printf("a child ended with status %#x\n", (unsigned)status);
}

/* Parent and child both return through three followed calls, and a fourth, which is fork's own. */
static pid_t made;
FUNCTION long forker(long depth)
{
	long below = 0;
	if (depth > 1) {
		below = forker(depth - 1);
	} else {
		made = fork();
		is_child = made == 0;
	}
	KEEP();
	return below + depth;
}
static int by_fork(void)
{
	EXPECT(forker(3), 6);
	for (int i = 0; i < 5; i++)
		EXPECT(work(i), i + 1);
	if (is_child)
		return 3;
	note(made);
	reap(made, 3);
	RETURNED("forker", 3);
	RETURNED("work", 5);
	RETURNED("libc.so.6:fork", 1);
	return 0;
}

/* A child makes a child makes a child; each returns through all of them. */
FUNCTION long family(long n)
{
	long below = 0;
	pid_t pid = fork();
	if (pid == 0) {
		is_child = 1;
		if (n > 1)
			below = family(n - 1);
	} else {
		reap(pid, 3);
	}
	KEEP();
	return below + n;
}

static int vforks(int execute)
{
	char *argv[] = { self, "child", NULL };
	for (int i = 0; i < 20; i++) {
		pid_t pid = vfork();
		if (pid == 0) {
			if (execute)
				execve(self, argv, environ);
			_exit(7);
		}
		note(pid);
		reap(pid, 7);
	}
	return 20;
}
FUNCTION int inside_vfork(int execute) { int n = vforks(execute); KEEP(); return n; }
static int by_vfork(int execute)
{
	EXPECT(inside_vfork(execute), 20);
	EXPECT(work(1), 2);
	RETURNED("inside_vfork", 1);
	RETURNED("work", 1);
	RETURNED("libc.so.6:vfork", 20);
	return 0;
}

/* The process becomes another program inside a followed call. */
FUNCTION int becomes(long depth)
{
	char *argv[] = { self, "child", NULL };
	if (depth > 1)
		return becomes(depth - 1) + 1;
	fflush(stdout);
	return execv(self, argv);
}
/* It dies inside of them. */
FUNCTION int dies(const char *how)
{
	KEEP();
	fflush(stdout);
	if (strcmp(how, "abort") == 0)
		abort();
	if (strcmp(how, "fault") == 0)
		*(volatile int *)(uintptr_t)8 = 1;
	if (strcmp(how, "signal") == 0)
		raise(SIGTERM);
	return 0;
}

FUNCTION int spawned(const char *how)
{
	char *argv[] = { self, "child", NULL };
	char command[4200], line[100];
	pid_t pid;
	snprintf(command, sizeof command, "'%s' child", self);
	if (strcmp(how, "posix_spawn") == 0) {
		MUST(posix_spawn(&pid, self, NULL, NULL, argv, environ));
		reap(pid, 7);
	} else if (strcmp(how, "system") == 0) {
		EXPECT(WEXITSTATUS(system(command)), 7);
	} else {
		FILE *from = popen(command, "r");
		if (!from || !fgets(line, sizeof line, from))
			DIE("popen");
		EXPECT(strcmp(line, "a child\n"), 0);
		EXPECT(WEXITSTATUS(pclose(from)), 7);
	}
	KEEP();
	return 1;
}
static int by_library(const char *how)
{
	for (int i = 0; i < 10; i++)
		EXPECT(spawned(how), 1);
	RETURNED("spawned", 10);
	char place[100];
	snprintf(place, sizeof place, "libc.so.6:%s", how);
	RETURNED(place, 10);
	return 0;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "fork";
	self = argv[0];
	setvbuf(stdout, NULL, _IOLBF, 1 << 16);
	if (strcmp(way, "child") == 0) {
		printf("a child\n");
		EXPECT(work(3), 4);
		return 7;
	}
	if (strcmp(way, "fork") == 0)
		return by_fork();
	if (strcmp(way, "family") == 0) {
		long sum = family(3);
		if (is_child)
			return sum > 3 ? 3 : 9;
		EXPECT(sum, 3);
		RETURNED("family", 1);
		RETURNED("libc.so.6:fork", 1);
		return 0;
	}
	if (strncmp(way, "vfork", 5) == 0)
		return by_vfork(strcmp(way, "vfork-exec") == 0);
	if (strcmp(way, "exec") == 0)
		return becomes(3);
	if (strncmp(way, "dies-", 5) == 0)
		return dies(way + 5);
	return by_library(way);
}
