/* hidden: SIGTRAPs by the thousand, sent to a thread that is at the byte behind a breakpoint for every reason there is:
 * it has just trapped, and the kernel kept the sender's signal in place of the breakpoint's; it has been through the
 * instruction of one byte there; it branched to that byte, from a loop or past a lock prefix; a handler that hit
 * breakpoints itself returned to it. Nothing is executed twice, nothing left out. */
#include "signals.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

long behind_push(long turns); /* 0; pushed twice, it returns to where rbx points */
long behind_flags(void); /* 1: the carry complemented once, and no more */
long behind_lock(long *total, long turns); /* the total, more by so many turns */
__asm__(
	".text\n"
	".globl behind_push\n.type behind_push,@function\nbehind_push:\n"
	"push %rbx\n"
	"1: mov %rdi, %rax\n dec %rdi\n jnz 1b\n"
	"pop %rbx\n mov %rdi, %rax\n ret\n"
	".size behind_push, . - behind_push\n"
	".globl behind_flags\n.type behind_flags,@function\nbehind_flags:\n"
	"xor %eax, %eax\n"
	"cmc\n"
	"setc %al\n mov %eax, %eax\n ret\n"
	".size behind_flags, . - behind_flags\n"
	".globl behind_lock\n.type behind_lock,@function\nbehind_lock:\n"
	"test $1, %sil\n jnz 2f+1\n"
	"2: lock incq (%rdi)\n"
	"dec %rsi\n jnz behind_lock\n"
	"mov (%rdi), %rax\n ret\n"
	".size behind_lock, . - behind_lock\n");

static volatile int seen, other, stop;
FUNCTION int in_handler(int a) { KEEP(); return a + 1; }
static volatile long in_handlers, works;
static void on_trap(int signo)
{
	(void)signo;
	__atomic_fetch_add(&in_handlers, 1, __ATOMIC_RELAXED);
	in_handler(1);
	seen = seen + 1;
}
static void on_other(int signo)
{
	(void)signo;
	__atomic_fetch_add(&in_handlers, 1, __ATOMIC_RELAXED);
	in_handler(2);
	other = other + 1;
}
FUNCTION long work(long a)
{
	KEEP();
	works++;
	return a > 0 ? work(a - 1) + 1 : 0;
}

static pthread_t target;
static pid_t target_tid;
static void *sender(void *unused)
{
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!stop) {
		for (int i = 0; i < 20; i++)
			pthread_kill(target, SIGTRAP);
		pthread_kill(target, SIGUSR1);
		pthread_kill(target, SIGILL);
	}
	return unused;
}

int main(int argc, char **argv)
{
	int turns = argc > 1 ? atoi(argv[1]) : 800;
	struct sigaction action = { .sa_handler = on_other, .sa_flags = SA_RESTART };
	MUST(sigaction(SIGUSR1, &action, NULL));
	MUST(sigaction(SIGILL, &action, NULL));
	action.sa_handler = on_trap;
	MUST(sigaction(SIGTRAP, &action, NULL));
	target = pthread_self();
	target_tid = (pid_t)syscall(SYS_gettid);
	pid_t parent = getpid(), child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (syscall(SYS_tgkill, parent, target_tid, SIGTRAP) == 0)
			for (volatile int i = 0; i < 300; i++) { }
		_exit(0);
	}
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, sender, NULL));
	long total = 0, calls = 0, wrong = 0;
	while (seen < turns || other < turns / 100) {
		wrong += behind_push(30) != 0;
		wrong += behind_flags() != 1;
		long before = total;
		wrong += behind_lock(&total, 7) != before + 7;
		wrong += work(3) != 3;
		calls++;
	}
	stop = 1;
	MUST(pthread_join(thread, NULL));
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) != child) { }
	printf("wrong %ld\n", wrong);
	fprintf(stderr, "seen %d other %d calls %ld\n", seen, other, calls);
	TELL("behind_push", calls);
	TELL("behind_flags+2", calls);
	TELL("behind_lock+6", 3 * calls);
	TELL("work", works);
	TELL("in_handler", in_handlers);
	return 0;
}
