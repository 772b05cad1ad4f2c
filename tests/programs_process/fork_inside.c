/* A fork in a handler, in a return handler, and in a signal handler that interrupts probed functions; the child
 * goes on, returns from all of it, and its own probes count. */
#include "ways.h"
#include <sys/time.h>
#include <uprobe.h>

static int mode, forks, in_child;
static volatile int children, ticks;
FUNCTION int inner(int a) { KEEP(); return a * 2; }
FUNCTION int outer(int a) { KEEP(); int b = inner(a); KEEP(); return b + 1; }

static void reap(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		DIE("fork in a handler");
	children++;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
		tell_status("a child", status);
}
static void forks_here(void)
{
	if (in_child || forks >= 20)
		return;
	forks++;
	pid_t pid = mode == 3 ? vfork() : fork();
	if (pid == 0 && mode == 3)
		_exit(7);
	if (pid == 0)
		in_child = 1;
	else
		reap(pid);
}
static int on_entry(struct uprobe *p, struct uprobe_regs *regs)
{
	(void)p; (void)regs;
	forks_here();
	return 0;
}
static int on_return(struct uretprobe_instance *i, struct uprobe_regs *regs)
{
	(void)i; (void)regs;
	if (mode == 1)
		forks_here();
	return 0;
}
static void on_tick(int signo)
{
	(void)signo;
	ticks++;
	mode == 2 ? forks_here() : (void)0;
}

int main(void)
{
	struct uprobe probe = { .symbol_name = "inner", .pre_handler = on_entry };
	struct uretprobe returns = { .up.symbol_name = "outer", .handler = on_return };

	for (mode = 0; mode < 4; mode++) {
		forks = 0;
		children = 0;
		if (mode == 0 || mode == 3)
			MUST(register_uprobe(&probe));
		MUST(register_uretprobe(&returns));
		struct itimerval often = { { 0, 300 }, { 0, 300 } }, never = { { 0, 0 }, { 0, 0 } };
		signal(SIGALRM, on_tick);
		if (mode == 2)
			setitimer(ITIMER_REAL, &often, NULL);
		int sum = 0, calls = 0;
		while (mode == 2 ? forks < 20 && !in_child : calls < 30)
			sum += outer(1), calls++;
		setitimer(ITIMER_REAL, &never, NULL);
		if (in_child) {
			/* Ten more, of which it counts each. */
			unsigned long before = returns.up.nhit;
			for (int i = 0; i < 10; i++)
				sum += outer(1), calls++;
			_exit(sum == calls * 3 && returns.up.nhit == before + 10 ? 7 : 8);
		}
		printf("mode %d: wrong %d, children %d\n", mode, sum != calls * 3, children);
		fflush(stdout);
		MUST(unregister_uretprobe(&returns));
		if (mode == 0 || mode == 3)
			MUST(unregister_uprobe(&probe));
	}
	return 0;
}
