/* inherits CHECK: what programs begin with: dispositions and masks across exec, spawn, system; and the places where
 * libc itself blocks signals. Run as `inherits begin` it says what it began with. */
#include "signals.h"
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;
static const char *self;

/* Which are ignored, which are blocked. (SIGCHLD of a shell's making apart.) */
static void begin(void)
{
	printf("begins; ignored:");
	for (int i = 1; i <= 64; i++) {
		struct sigaction action;
		if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			printf(" %s", name_of(i));
		if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_IGN && action.sa_handler != SIG_DFL)
			printf(" handled %s", name_of(i));
	}
	printf("\n");
	print_mask("blocked");
	print_pending("pending");
	/* And they are so in earnest. */
	for (int i = 0; i < COUNT(five); i++) {
		struct sigaction action;
		sigset_t now;
		sigaction(five[i], NULL, &action);
		pthread_sigmask(SIG_SETMASK, NULL, &now);
		if (action.sa_handler == SIG_IGN || sigismember(&now, five[i]) == 1)
			raise(five[i]);
	}
	print_pending("pending then");
	fflush(stdout);
}

static void on_signal(int signo, siginfo_t *info, void *context)
{
	(void)context;
	printf("in %s code %d\n", name_of(signo), info->si_code);
}

static void child_exec(void) { execl(self, self, "begin", NULL); _exit(98); }
static void child_execve_fails_first(void)
{
	char *argv[] = { (char *)self, "begin", NULL };
	execve("/nonexistent", argv, environ);
	print_mask("after a failure");
	raise(SIGILL);
	print_pending("pending after it");
	fflush(stdout);
	execve(self, argv, environ);
	_exit(98);
}
static void child_exec_from_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info, (void)context;
	child_exec();
}
static void child_in_handler(void)
{
	handle(SIGUSR1, child_exec_from_handler, 0, set_of(SIGTRAP, SIGUSR2, 0));
	sigset_t it = set_of(SIGUSR1, 0, 0);
	sigprocmask(SIG_UNBLOCK, &it, NULL);
	raise(SIGUSR1);
}
static void child_in_handler_of_five(void)
{
	handle(SIGFPE, child_exec_from_handler, 0, set_of(SIGTRAP, SIGUSR2, 0));
	sigset_t it = set_of(SIGFPE, 0, 0);
	sigprocmask(SIG_UNBLOCK, &it, NULL);
	raise(SIGFPE);
}
static void *exec_in_thread(void *unused) { (void)unused; child_exec(); return NULL; }
static void child_in_thread(void)
{
	pthread_t thread;
	sigset_t more = set_of(SIGBUS, SIGTERM, 0);
	MUST(pthread_sigmask(SIG_BLOCK, &more, NULL));
	MUST(pthread_create(&thread, NULL, exec_in_thread, NULL));
	pause();
}

static void run(const char *what, pid_t (*make)(void), void (*child)(void))
{
	int status;
	printf("-- %s\n", what);
	fflush(stdout);
	pid_t pid = make();
	if (pid == 0) {
		child();
		_exit(97);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	printf("status %#x\n", (unsigned)status);
}
static pid_t vforked(void) { return syscall(SYS_fork); }

static void spawn(const char *what, const posix_spawnattr_t *attr)
{
	pid_t pid;
	int status;
	char *argv[] = { (char *)self, "begin", NULL };
	printf("-- %s\n", what);
	fflush(stdout);
	MUST(posix_spawn(&pid, self, NULL, attr, argv, environ));
	MUST(waitpid(pid, &status, 0) != pid);
	printf("status %#x\n", (unsigned)status);
	print_mask("parent");
}

static void vfork_exec(void)
{
	int status;
	printf("-- vfork\n");
	fflush(stdout);
	pid_t pid = vfork();
	if (pid == 0) {
		signal(SIGFPE, SIG_IGN);
		sigset_t more = set_of(SIGFPE, SIGPIPE, 0);
		sigprocmask(SIG_BLOCK, &more, NULL);
		execl(self, self, "begin", NULL);
		_exit(98);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	printf("status %#x\n", (unsigned)status);
	print_mask("parent");
}

static void all_ways(void)
{
	run("fork", fork, child_exec);
	run("syscall fork", vforked, child_exec);
	run("failure first", fork, child_execve_fails_first);
	run("from a handler", fork, child_in_handler);
	run("from a handler of the five", fork, child_in_handler_of_five);
	run("from a thread", fork, child_in_thread);
	spawn("spawn", NULL);
	posix_spawnattr_t attr;
	sigset_t set = set_of(SIGTRAP, SIGUSR2, SIGBUS);
	MUST(posix_spawnattr_init(&attr));
	MUST(posix_spawnattr_setsigmask(&attr, &set));
	MUST(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK));
	spawn("spawn with a mask", &attr);
	set = set_of(SIGSEGV, SIGTRAP, SIGTERM);
	MUST(posix_spawnattr_setsigdefault(&attr, &set));
	MUST(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
	spawn("spawn with defaults", &attr);
	vfork_exec();
	char command[4096];
	snprintf(command, sizeof command, "exec %s begin", self);
	printf("-- system\n");
	fflush(stdout);
	int status = system(command);
	printf("status %#x\n", (unsigned)status);
	print_mask("after system");
	printf("-- popen\n");
	fflush(stdout);
	FILE *pipe = popen(command, "r");
	for (int c; (c = getc(pipe)) != EOF;)
		putchar(c);
	printf("status %#x\n", (unsigned)pclose(pipe));
}

static void check_nothing(void) { all_ways(); }
static void check_blocked(void)
{
	block_only(set_of(SIGTRAP, SIGSEGV, SIGUSR1));
	all_ways();
	block_only(full());
	all_ways();
}
static void check_ignored(void)
{
	for (int i = 0; i < COUNT(five); i++)
		signal(five[i], SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	all_ways();
}
static void check_handled(void)
{
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_signal, 0, none());
	handle(SIGTERM, on_signal, 0, none());
	block_only(set_of(SIGILL, 0, 0));
	raise(SIGILL);
	all_ways();
}

/* pending across exec, not across fork. */
static void check_pending(void)
{
	block_only(set_of(SIGUSR1, SIGTERM, 0));
	raise(SIGUSR1);
	all_ways();
}

/* Inside of libc all signals are blocked now and then: they are not lost, and traps there kill nobody. */
static volatile int count[65];
static void counted(int signo) { __atomic_fetch_add(&count[signo], 1, __ATOMIC_SEQ_CST); }
static void *quick(void *unused) { return unused; }
static void *cancelled(void *cleanups)
{
	for (;;)
		pause();
	return cleanups;
}
static volatile int sending = 1;
static pthread_t main_thread;
static int sent[65];
static void *sender(void *unused)
{
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; sending; i++) {
		int signo = i % 6 < 5 ? five[i % 6] : SIGUSR1;
		int before = __atomic_load_n(&count[signo], __ATOMIC_SEQ_CST);
		pthread_kill(main_thread, signo);
		sent[signo]++;
		while (__atomic_load_n(&count[signo], __ATOMIC_SEQ_CST) == before)
			sched_yield();
	}
	return unused;
}
static sem_t fired;
static volatile int timers;
static void on_timer(union sigval value) { (void)value; timers++; sem_post(&fired); }
static void check_inside_libc(void)
{
	struct sigaction action = { .sa_handler = counted, .sa_flags = SA_RESTART };
	for (int i = 0; i < COUNT(five); i++)
		MUST(sigaction(five[i], &action, NULL));
	MUST(sigaction(SIGUSR1, &action, NULL));
	pthread_t other, thread;
	main_thread = pthread_self();
	MUST(pthread_create(&other, NULL, sender, NULL));
	MUST(sem_init(&fired, 0, 0));
	for (int i = 0; i < 40; i++) {
		MUST(pthread_create(&thread, NULL, quick, NULL));
		MUST(pthread_join(thread, NULL));
		MUST(pthread_create(&thread, NULL, cancelled, NULL));
		MUST(pthread_cancel(thread));
		void *result;
		MUST(pthread_join(thread, &result));
		MUST(result != PTHREAD_CANCELED);
		raise(SIGTRAP);
		pid_t pid;
		char *argv[] = { "true", NULL };
		char *empty[] = { NULL };
		MUST(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, empty));
		while (waitpid(pid, NULL, 0) != pid) { }
		timer_t timer;
		struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer };
		struct itimerspec soon = { .it_value = { 0, 1000000 } };
		MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
		MUST(timer_settime(timer, 0, &soon, NULL));
		while (sem_wait(&fired) != 0) { }
		MUST(timer_delete(timer));
		if (i % 10 == 0)
			MUST(system("exit 0"));
	}
	sending = 0;
	MUST(pthread_join(other, NULL));
	/* SIGTRAP is raised besides: the waiting sender may see that one instead of its own. */
	int complete = count[SIGUSR1] == sent[SIGUSR1];
	for (int i = 0; i < COUNT(five); i++)
		complete &= five[i] == SIGTRAP ? count[SIGTRAP] >= 40 : count[five[i]] == sent[five[i]];
	printf("complete %d timers %d\n", complete, timers);
	print_mask("after");
}

int main(int argc, char **argv)
{
	static const struct check checks[] = {
		CHECK(nothing), CHECK(blocked), CHECK(ignored), CHECK(handled), CHECK(pending), CHECK(inside_libc),
	};
	self = argv[0];
	if (argc == 2 && strcmp(argv[1], "begin") == 0) {
		begin();
		return 3;
	}
	return run_checks(checks, COUNT(checks), argc, argv);
}
