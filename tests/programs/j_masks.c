/* Jumps, and the traps inside them, where every signal is blocked, and in children of each kind. */
#include "handlers.h"
#include "windows.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static long expected[512][5], windows_count;
static struct uprobe probes[512];

static int count(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }

/* Through each window from each of its instructions; hits are exact. */
static long enter_all(void)
{
	long wrong = 0;
	for (long i = 0; i < windows_count; i++) {
		int offsets[5], n = boundaries(&window_table[i], offsets);
		uint64_t before = __atomic_load_n(&probes[i].nhit, __ATOMIC_RELAXED);
		for (int k = 0; k < n; k++)
			wrong += call_window(window_table[i].start + offsets[k], 3, 7) != expected[i][k];
		wrong += __atomic_load_n(&probes[i].nhit, __ATOMIC_RELAXED) != before + (probes[i].addr != NULL);
	}
	return wrong;
}

static void *run(void *arg)
{
	*(long *)arg = enter_all();
	return NULL;
}

static long in_handler = -1;
static void on_signal(int signal) { (void)signal; in_handler = enter_all(); }

static int status_of(pid_t pid)
{
	int status = -1;
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static char stack[1 << 16] __attribute__((aligned(16)));
static int cloned(void *arg) { (void)arg; return enter_all() != 0; }

int main(void)
{
	NEED_LIBRARY();
	windows_count = window_table_end - window_table;
	for (long i = 0; i < windows_count; i++) {
		int offsets[5], n = boundaries(&window_table[i], offsets);
		for (int k = 0; k < n; k++)
			expected[i][k] = call_window(window_table[i].start + offsets[k], 3, 7);
	}
	/* Every other one; the rest is for the child. */
	for (long i = 0; i < windows_count; i += 2) {
		probes[i].addr = window_table[i].start;
		probes[i].pre_handler = count;
		REGISTER(&probes[i]);
	}
	printf("plain: %ld\n", enter_all());

	sigset_t all, old;
	sigfillset(&all);
	MUST(sigprocmask(SIG_SETMASK, &all, &old));
	printf("blocked: %ld\n", enter_all());
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		_exit(enter_all() != 0);
	printf("fork, blocked: %d\n", status_of(pid));
	MUST(sigprocmask(SIG_SETMASK, &old, NULL));

	struct sigaction action = { .sa_handler = on_signal, .sa_mask = all };
	MUST(sigaction(SIGUSR1, &action, NULL));
	raise(SIGUSR1);
	printf("in a handler: %ld\n", in_handler);

	pthread_attr_t attr;
	pthread_t thread;
	long wrong = -1;
	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setsigmask_np(&attr, &all));
	MUST(pthread_create(&thread, &attr, run, &wrong));
	MUST(pthread_join(thread, NULL));
	printf("in a thread: %ld\n", wrong);

	fflush(stdout);
	pid = vfork();
	if (pid == 0)
		_exit(enter_all() != 0);
	printf("vfork: %d\n", status_of(pid));
	pid = clone(cloned, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	printf("clone: %d\n", status_of(pid));

	/* A child changes its own text. */
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		long bad = enter_all(), jumps = 0;
		for (long i = 1; i < windows_count; i += 2) {
			probes[i].addr = window_table[i].start;
			probes[i].pre_handler = count;
			REGISTER(&probes[i]);
			jumps += (probes[i].flags & UPROBE_FLAG_OPTIMIZED) != 0;
			UNREGISTER(&probes[i - 1]);
			probes[i - 1].addr = NULL;
		}
		bad += enter_all();
		printf("in the child: %ld, jumps %s\n", bad, jumps == windows_count / 2 ? "all" : jumps ? "some" : "none");
		fflush(stdout);
		_exit(bad != 0);
	}
	printf("fork: %d\n", status_of(pid));
	printf("afterwards: %ld\n", enter_all());
	return 0;
}
