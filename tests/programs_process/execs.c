/* execve of itself in each way: execs HOW ROUND. Each program makes ten calls and more. */
#include "ways.h"

static char *self, round_text[20];

/* Without what loads us, or with nothing at all. */
static char **environment(const char *how)
{
	static char *kept[1000];
	int n = 0;

	for (char **entry = environ; *entry && n < 999; entry++)
		if (!(strstr(how, "bare") || (strstr(how, "alone") && strncmp(*entry, "LD_PRELOAD=", 11) == 0) ||
		      (strstr(how, "unprobed") && strncmp(*entry, "UPROBES=", 8) == 0)))
			kept[n++] = *entry;
	kept[n] = NULL;
	return kept;
}

static void execute(const char *how)
{
	char *argv[] = { self, (char *)how, round_text, NULL };

	if (strstr(how, "fexecve"))
		fexecve(open(self, O_RDONLY | O_CLOEXEC), argv, environment(how));
	else if (strstr(how, "execveat"))
		execveat(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), self + 1, argv, environment(how), 0);
	else if (strstr(how, "descriptor"))
		syscall(SYS_execveat, open(self, O_PATH | O_CLOEXEC), "", argv, environment(how), AT_EMPTY_PATH);
	else if (strstr(how, "execvp"))
		execvpe(self, argv, environment(how));
	else if (strstr(how, "execle"))
		execle(self, self, how, round_text, (char *)NULL, environment(how));
	else if (strstr(how, "number"))
		syscall(SYS_execve, self, argv, environment(how));
	else
		execve(self, argv, environment(how));
}

static void *in_thread(void *how)
{
	work(1);
	execute(how);
	DIE("exec in a thread");
}

static void *waits(void *unused)
{
	for (volatile int ever = 1; ever;)
		work(2), usleep(1000);
	return unused;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "plain";
	int round = argc > 2 ? atoi(argv[2]) : 0;
	char *failing[] = { "x", NULL }, **volatile nowhere = (char **)1;

	self = realpath("/proc/self/exe", NULL);
	for (int i = 0; i < 10 + round; i++)
		work(i);
	printf("round %d, %s\n", round, environ[0] ? "an environment" : "bare");
	if (strstr(how, "thread"))
		printf("more in threads\n");
	/* Of all rounds that are probed. */
	TELL("work", strstr(how, "bare") || strstr(how, "alone") || strstr(how, "unprobed") ? 10 : 46);
	fflush(stdout);
	if (round == 3)
		return 9;
	snprintf(round_text, sizeof round_text, "%d", round + 1);
	/* Not before some have failed. */
	if (execve("/no/such/program", failing, environ) == 0 || execve("/etc/passwd", failing, environ) == 0 ||
	    execve(self, nowhere, environ) == 0)
		return 98;
	if (strstr(how, "thread")) {
		pthread_t thread;

		MUST(pthread_create(&thread, NULL, waits, NULL));
		MUST(pthread_create(&thread, NULL, in_thread, (void *)how));
		pthread_join(thread, NULL);
	} else if (strstr(how, "vforked")) {
		pid_t pid = vfork();

		if (pid == 0) {
			execute(how);
			_exit(97);
		}
		tell_end("vforked", pid);
		return 9;
	}
	execute(how);
	DIE("exec");
}
