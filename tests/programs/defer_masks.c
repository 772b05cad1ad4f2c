/* Signals that arrive while a probe's handler runs, one kind after the other. Each handler of the program's
 * prints all it can see; that, and the mask afterwards, must be what it is without probes. */
#include "defer.h"
#include <setjmp.h>
#include <ucontext.h>

static char alternate[1 << 16] __attribute__((aligned(16)));
static sigjmp_buf back;
static int edits, jumps, calls_too, to_send[4], received;

static void print_set(const char *name, const sigset_t *set)
{
	printf(" %s", name);
	for (int signo = 1; signo < 65; signo++)
		if (sigismember(set, signo) == 1)
			printf(" %d", signo);
	printf(";");
}

static void print_mask(const char *name)
{
	sigset_t set;
	MUST(sigprocmask(SIG_SETMASK, NULL, &set));
	print_set(name, &set);
	puts("");
}

static void on_signal(int signo, siginfo_t *info, void *context)
{
	ucontext_t *frame = context;
	char *local = (char *)&signo;
	sigset_t now;
	MUST(sigprocmask(SIG_SETMASK, NULL, &now));
	received++;
	printf("  signal %d code %d by us %d value %d, alternate %d, on top %d;", signo, info->si_code,
	       info->si_pid == getpid() && info->si_uid == getuid(), info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
	       local >= alternate && local < alternate + sizeof alternate, in_probe && UPROBE_AVAILABLE());
	print_set("now", &now);
	print_set("frame", &frame->uc_sigmask);
	puts("");
	if (edits)
		sigaddset(&frame->uc_sigmask, SIGUSR2);
	if (calls_too) {
		/* In here nothing is sent. */
		calls_too = 0;
		inside = NULL;
		call_work(5);
	}
	if (jumps)
		siglongjmp(back, 1);
}

static void send_all(void)
{
	int before = received;
	for (int i = 0; i < 4; i++)
		if (to_send[i] >= SIGRTMIN) {
			union sigval value = { .sival_int = 100 + i };
			MUST(sigqueue(getpid(), to_send[i], value));
		} else if (to_send[i]) {
			send_self(to_send[i]);
		}
	if (UPROBE_AVAILABLE() && received != before)
		puts("  a handler ran on top of the probe's");
}

static void handle(int signo, int flags, const int *masked)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags };
	for (; masked && *masked; masked++)
		sigaddset(&action.sa_mask, *masked);
	MUST(sigaction(signo, &action, NULL));
}

/* One call of `work`, with these signals sent while its probe's handler runs. */
static void round_of(const char *name, int a, int b, int c, int d)
{
	printf("%s\n", name);
	to_send[0] = a, to_send[1] = b, to_send[2] = c, to_send[3] = d;
	inside = send_all;
	if (sigsetjmp(back, 1) == 0) {
		call_work(a);
	} else {
		in_probe = 0;
		puts("  left by siglongjmp");
		/* Without the library it was the handler itself that was left. */
		if (!UPROBE_AVAILABLE())
			probe_runs++;
	}
	inside = NULL;
	call_work(0);
	print_mask(" after");
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	probe_work(argc > 1 && strcmp(argv[1], "return") == 0);
	const int some[] = { SIGUSR2, SIGALRM, 0 };
	int rt = SIGRTMIN + 3;
	sigset_t set;
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
	MUST(sigaltstack(&stack, NULL));

	handle(SIGUSR1, 0, NULL);
	round_of("plain", SIGUSR1, 0, 0, 0);
	handle(SIGUSR1, 0, some);
	round_of("with a mask", SIGUSR1, 0, 0, 0);
	handle(SIGUSR1, SA_NODEFER | SA_RESTART, some);
	round_of("not deferred", SIGUSR1, 0, 0, 0);
	handle(SIGUSR1, SA_ONSTACK, NULL);
	round_of("on the alternate stack", SIGUSR1, 0, 0, 0);
	handle(rt, 0, NULL);
	round_of("queued", rt, 0, 0, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	round_of("under a mask", SIGUSR1, 0, 0, 0);
	handle(SIGHUP, 0, NULL);
	round_of("blocked", SIGHUP, 0, 0, 0);
	puts("unblocked");
	MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
	call_work(1);
	calls_too = 1;
	round_of("the handler calls", SIGUSR1, 0, 0, 0);
	jumps = 1;
	round_of("left", SIGUSR1, 0, 0, 0);
	round_of("left, queued", rt, 0, 0, 0);
	jumps = 0;
	edits = 1;
	round_of("the frame's mask edited", SIGUSR1, 0, 0, 0);
	edits = 0;
	sigemptyset(&set);
	MUST(sigprocmask(SIG_SETMASK, &set, NULL));
	handle(SIGUSR1, (int)SA_RESETHAND, NULL);
	round_of("once", SIGUSR1, 0, 0, 0);
	struct sigaction now;
	MUST(sigaction(SIGUSR1, NULL, &now));
	printf("  reset %d\n", now.sa_handler == SIG_DFL);
	handle(SIGSEGV, 0, NULL);
	handle(SIGTRAP, 0, some);
	round_of("ours", SIGSEGV, 0, 0, 0);
	round_of("ours", SIGTRAP, 0, 0, 0);
	tell_probe();
	puts("end");
	return 0;
}
