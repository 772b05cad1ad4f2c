/* Processes that outlive those that made them: daemon(), a double fork, a session of its own; the first
 * program waits for their words at a pipe. */
#include "ways.h"

static int out[2];

static void say(const char *text)
{
	if (write(out[1], text, strlen(text)) < 0)
		_exit(90);
}

/* The child has written to the pipe, which nobody reads meanwhile but the first program: so by other means. */
static void pause_until_said(void)
{
	while (__atomic_load_n(&made[1], __ATOMIC_SEQ_CST) == 0)
		usleep(1000);
}

static void a_daemon(void)
{
	if (daemon(0, 0) != 0)
		_exit(91);
	for (int i = 0; i < 7; i++)
		work(i);
	say(getsid(0) != getpid() ? "daemon, not the session's first\n" : "daemon leads its session\n");
	exit(0);
}

static void double_fork(void)
{
	if (fork() > 0)
		_exit(2);
	setsid();
	if (fork() > 0)
		exit(3);
	/* Whoever made us has gone. */
	while (getppid() != 1 && kill(getppid(), 0) == 0 && getppid() == getsid(0))
		usleep(1000);
	for (int i = 0; i < 11; i++)
		work(i);
	say("twice forked\n");
	_exit(0);
}

static void outlives(void)
{
	pid_t parent = getpid();

	if (fork() > 0)
		kill(parent, SIGKILL);
	while (getppid() == parent)
		usleep(1000);
	for (int i = 0; i < 13; i++)
		work(i);
	say("outlived it\n");
	exit(0);
}

static void dies_with_parent(void)
{
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		for (int i = 0; i < 5; i++)
			work(i);
		say("waits for the end of its parent\n");
		__atomic_store_n(&made[1], 1, __ATOMIC_SEQ_CST);
		for (;;)
			pause();
	}
	/* Not before it has said so. */
	pause_until_said();
	_exit(4);
}

static void all_closed(void)
{
	pid_t pid = fork();

	if (pid > 0)
		_exit(5);
	for (int i = 0; i < 1024; i++)
		if (i != out[1])
			close(i);
	setsid();
	for (int i = 0; i < 17; i++)
		work(i);
	say("all closed\n");
	exit(0);
}

static void try(const char *what, void (*run)(void))
{
	char text[200];
	ssize_t n;
	pid_t pid;

	MUST(pipe(out));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(out[0]);
		run();
	}
	close(out[1]);
	tell_end(what, pid);
	/* To its end: all that hold it open have gone. */
	while ((n = read(out[0], text, sizeof text)) > 0)
		printf("    %.*s", (int)n, text);
	close(out[0]);
}

int main(void)
{
	try("daemon", a_daemon);
	try("double fork", double_fork);
	try("outlives", outlives);
	try("dies with its parent", dies_with_parent);
	try("all closed", all_closed);
	for (int i = 0; i < 3; i++)
		work(i);
	TELL_WORKS();
	return 0;
}
