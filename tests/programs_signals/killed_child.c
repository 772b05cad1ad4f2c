/* killed_child: a vfork child that is killed in the middle of a hit leaves nothing behind: its parent handles signals,
 * its hits are counted, and what waits for the end of hits comes to an end. The child runs on its parent's memory; the
 * probe's handler kills it. */
#include "signals.h"
#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <uprobe.h>

FUNCTION int work(int a) { KEEP(); return a + 1; }
FUNCTION int other(int a) { KEEP(); return a + 2; }
static pid_t parent;
static volatile int handled, killed, seen;

static int kill_child(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe, (void)regs;
	if (syscall(SYS_getpid) != parent) {
		killed++;
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	}
	handled++;
	return 0;
}
static int kill_child_at_return(struct uretprobe_instance *instance, struct uprobe_regs *regs)
{
	(void)instance;
	return kill_child(NULL, regs);
}
static void on_signal(int signo) { (void)signo; seen++; work(1); }

static struct uprobe entry = { .symbol_name = "work", .pre_handler = kill_child };
static struct uretprobe ret = { .up = { .symbol_name = "other" }, .handler = kill_child_at_return };

static int in_child(void *unused) { (void)unused; work(1); other(1); return 5; }
static char stack[65536] __attribute__((aligned(16)));

static void after(const char *what, pid_t child)
{
	int status;
	MUST(waitpid(child, &status, 0) != child);
	int before = handled;
	for (int i = 0; i < 10; i++) {
		work(i);
		other(i);
	}
	raise(SIGUSR1);
	raise(SIGTRAP);
	printf("%s: status %#x handled %d seen %d\n", what, (unsigned)status, handled - before, seen);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 4096);
	parent = getpid();
	signal(SIGUSR1, on_signal);
	signal(SIGTRAP, on_signal);
	MUST(register_uprobe(&entry));
	MUST(register_uretprobe(&ret));
	for (int i = 0; i < 3; i++) {
		pid_t child = vfork();
		if (child == 0) {
			work(1);
			_exit(1);
		}
		after("vfork, at an entry", child);
		child = vfork();
		if (child == 0) {
			other(1);
			_exit(1);
		}
		after("vfork, at a return", child);
		child = clone(in_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
		after("clone", child);
	}
	printf("killed %d\n", killed);
	unregister_uprobe(&entry);
	unregister_uretprobe(&ret);
	puts("end");
	return 0;
}
