/* Namespaces of its own: another number for the process, another user, another root. Tells "not allowed" where
 * the system says no. */
#include "ways.h"
#include <sys/mount.h>


static int sees_itself(void)
{
	char link[100];
	ssize_t n = readlink("/proc/self", link, sizeof link - 1);

	for (int i = 0; i < 10; i++)
		work(i);
	printf("    pid %d tid %ld parent %d proc %s\n", getpid(), syscall(SYS_gettid), getppid(), n > 0 ? "seen" : "not");
	fflush(stdout);
	return 3;
}
static void *in_thread(void *unused)
{
	for (int i = 0; i < 5; i++)
		work(i);
	return unused;
}
static int inside(void *unused)
{
	pthread_t thread;
	pid_t pid;

	(void)unused;
	MUST(pthread_create(&thread, NULL, in_thread, NULL));
	pthread_join(thread, NULL);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exit(sees_itself());
	tell_end("    its child", pid);
	return sees_itself();
}
static int rooted(void *unused)
{
	char directory[] = "/tmp/root.XXXXXX";

	(void)unused;
	if (!mkdtemp(directory) || chroot(directory) != 0 || chdir("/") != 0)
		return 50;
	return inside(NULL);
}
static int without_proc(void *unused)
{
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("none", "/proc", "tmpfs", 0, NULL) != 0)
		return 51;
	return inside(unused);
}

static void try(const char *what, int (*run)(void *), int flags)
{
	static char stack[256 << 10];
	pid_t pid;

	printf("%s\n", what);
	fflush(stdout);
	pid = clone(run, stack + sizeof stack, flags | SIGCHLD, NULL);
	if (pid < 0)
		printf("    not allowed: %s\n", strerror(errno));
	else
		tell_end("    child", pid);
}

int main(void)
{
	pid_t pid;

	try("pid", inside, CLONE_NEWPID);
	try("user", inside, CLONE_NEWUSER);
	try("user and pid", inside, CLONE_NEWUSER | CLONE_NEWPID);
	try("all", inside, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP);
	try("root", rooted, 0);
	try("without /proc", without_proc, CLONE_NEWNS);
	try("another number, without /proc", without_proc, CLONE_NEWNS | CLONE_NEWPID);
	fflush(stdout);
	/* The first child is number 1, and its own children die with it. */
	pid = fork();
	if (pid == 0) {
		printf("unshare %d\n", unshare(CLONE_NEWPID));
		fflush(stdout);
		pid = fork();
		if (pid == 0)
			exit(sees_itself());
		tell_end("    first", pid);
		exit(5);
	}
	tell_end("unshared", pid);
	return 0;
}
