/* What POSIX promises about signals, as a program sees it: signals CHECK.
 * Each check prints what it observed, or ends as it must. The output with probes at work(),
 * at faulting instructions and in libc must be that without. Every check runs probed code
 * before, inside and after what it looks at. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Winfinite-recursion"
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static const int ours[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
#define EACH(signo) for (int i_ = 0, signo; i_ < 5 && (signo = ours[i_], 1); i_++)

static volatile int works;
FUNCTION int work(int a) { KEEP(); works++; return a + 1; }

static volatile int *nowhere;
static volatile int zero;
static char *page;

extern void fault_store(volatile void *where, long what);
extern char fault_store_insn[];
__asm__(".text\n .globl fault_store, fault_store_insn\n .type fault_store, @function\n"
	"fault_store: nop\n fault_store_insn: mov %rsi, (%rdi)\n nop\n ret\n .size fault_store, . - fault_store\n");
extern void fault_ill(void);
extern char fault_ill_insn[];
__asm__(".text\n .globl fault_ill, fault_ill_insn\n .type fault_ill, @function\n"
	"fault_ill: nop\n fault_ill_insn: ud2\n ret\n .size fault_ill, . - fault_ill\n");
extern int fault_div(int a, int b);
extern char fault_div_insn[];
__asm__(".text\n .globl fault_div, fault_div_insn\n .type fault_div, @function\n"
	"fault_div: mov %edi, %eax\n cltd\n fault_div_insn: idivl %esi\n ret\n .size fault_div, . - fault_div\n");
extern void own_int3(void);
extern char after_int3[];
__asm__(".text\n .globl own_int3, after_int3\n .type own_int3, @function\n"
	"own_int3: nop\n int3\n after_int3: ret\n .size own_int3, . - own_int3\n");

static const char *name(int signo)
{
	static char other[32];
	switch (signo) {
	case SIGTRAP: return "SIGTRAP";
	case SIGSEGV: return "SIGSEGV";
	case SIGBUS: return "SIGBUS";
	case SIGFPE: return "SIGFPE";
	case SIGILL: return "SIGILL";
	case SIGUSR1: return "SIGUSR1";
	case SIGUSR2: return "SIGUSR2";
	}
	snprintf(other, sizeof other, "signal %d", signo);
	return other;
}

static void print_mask(const char *what, const sigset_t *set)
{
	printf("%s:", what);
	for (int i = 1; i <= 64; i++)
		if (sigismember(set, i) == 1)
			printf(" %d", i);
	printf("\n");
}

static void print_action(const char *what, const struct sigaction *a)
{
	printf("%s: handler %s flags %#x", what,
	       a->sa_handler == SIG_DFL ? "DFL" : a->sa_handler == SIG_IGN ? "IGN" : "set",
	       (unsigned)a->sa_flags & ~0x04000000u);
	print_mask(" mask", &a->sa_mask);
}

static volatile int seen, seen_signo, seen_code, seen_on_altstack;
static volatile uintptr_t seen_addr, seen_rip;
static sigset_t seen_mask;
static char *altstack;

static void on_signal(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	char here;
	seen++;
	seen_signo = signo;
	seen_code = info->si_code;
	seen_addr = (uintptr_t)info->si_addr;
	seen_rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	seen_on_altstack = altstack && &here >= altstack && &here < altstack + 65536;
	work(1);
	pthread_sigmask(SIG_SETMASK, NULL, &seen_mask);
	work(2);
}
static void on_signal_simple(int signo) { seen++; seen_signo = signo; work(3); }

static void install(int signo, int flags)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = on_signal;
	action.sa_flags = SA_SIGINFO | flags;
	sigaddset(&action.sa_mask, SIGUSR2);
	MUST(sigaction(signo, &action, NULL));
}

static void report(const char *what)
{
	printf("%s: seen %d %s code %d\n", what, seen, seen ? name(seen_signo) : "", seen_code);
	print_mask("  mask in the handler", &seen_mask);
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	print_mask("  mask after", &now);
}

/* sigaction and its relatives give back what was given. */
static void check_oldact(void)
{
	EACH(signo) {
		struct sigaction a, old;
		memset(&old, 0x77, sizeof old);
		MUST(sigaction(signo, NULL, &old));
		print_action(name(signo), &old);
		memset(&a, 0, sizeof a);
		a.sa_sigaction = on_signal;
		a.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
		sigfillset(&a.sa_mask);
		MUST(sigaction(signo, &a, &old));
		print_action("  was", &old);
		work(1);
		MUST(sigaction(signo, NULL, &old));
		print_action("  is", &old);
		printf("  same handler %d\n", old.sa_sigaction == on_signal);
		work(1);
		printf("  signal() gives %d\n", signal(signo, SIG_IGN) == (void (*)(int))(uintptr_t)on_signal);
		MUST(sigaction(signo, NULL, &old));
		print_action("  ignored", &old);
		printf("  signal() gives %s\n", signal(signo, SIG_DFL) == SIG_IGN ? "IGN" : "?");
		printf("  sysv_signal %s\n", sysv_signal(signo, on_signal_simple) == SIG_DFL ? "DFL" : "?");
		MUST(sigaction(signo, NULL, &old));
		print_action("  sysv", &old);
		work(1);
	}
	struct sigaction a = { .sa_handler = SIG_IGN };
	printf("SIGKILL: %d %s\n", sigaction(SIGKILL, &a, NULL), strerror(errno));
	printf("0: %d %s\n", sigaction(0, &a, NULL), strerror(errno));
	printf("65: %d %s\n", sigaction(65, &a, NULL), strerror(errno));
	printf("signal(SIGSTOP): %d\n", signal(SIGSTOP, on_signal_simple) == SIG_ERR);
}

/* What a handler is called with when the signal is raised, sent, queued. */
static void check_raise(void)
{
	EACH(signo) {
		static const int flags[] = { 0, SA_NODEFER, SA_RESETHAND, SA_RESTART };
		for (int f = 0; f < 4; f++) {
			struct sigaction old;
			install(signo, flags[f]);
			seen = 0;
			printf("%s flags %#x\n", name(signo), (unsigned)flags[f]);
			work(1);
			raise(signo);
			work(1);
			report("  raise");
			MUST(sigaction(signo, NULL, &old));
			print_action("  then", &old);
			install(signo, flags[f]);
			kill(getpid(), signo);
			report("  kill");
			install(signo, flags[f]);
			union sigval value = { .sival_int = 5 };
			sigqueue(getpid(), signo, value);
			report("  sigqueue");
			install(signo, flags[f]);
			pthread_kill(pthread_self(), signo);
			report("  pthread_kill");
		}
	}
}

/* Block, send, pending, unblock. */
static void check_blocked(void)
{
	EACH(signo) {
		sigset_t set, old, pending;
		install(signo, 0);
		sigemptyset(&set);
		sigaddset(&set, signo);
		MUST(sigprocmask(SIG_BLOCK, &set, &old));
		print_mask("before", &old);
		seen = 0;
		work(1);
		raise(signo);
		raise(signo);
		work(1);
		sigpending(&pending);
		print_mask("pending", &pending);
		printf("seen %d\n", seen);
		MUST(sigprocmask(SIG_BLOCK, NULL, &old));
		print_mask("mask", &old);
		MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
		work(1);
		report("unblocked");
		sigpending(&pending);
		print_mask("pending", &pending);
	}
	sigset_t all, old;
	sigfillset(&all);
	MUST(pthread_sigmask(SIG_BLOCK, &all, NULL));
	for (int i = 0; i < 100; i++)
		work(i);
	MUST(pthread_sigmask(SIG_SETMASK, NULL, &old));
	print_mask("all blocked", &old);
	printf("bad how: %d\n", pthread_sigmask(77, &all, NULL));
	printf("bad how: %d %s\n", sigprocmask(77, &all, NULL), strerror(errno));
}

static void check_sigwait(void)
{
	sigset_t set;
	sigemptyset(&set);
	EACH(signo) {
		install(signo, 0);
		sigaddset(&set, signo);
	}
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	EACH(signo) {
		int got = 0;
		work(1);
		raise(signo);
		work(1);
		printf("sigwait %d", sigwait(&set, &got));
		printf(" %s\n", name(got));
		siginfo_t info;
		memset(&info, 0, sizeof info);
		kill(getpid(), signo);
		got = sigwaitinfo(&set, &info);
		printf("sigwaitinfo %s code %d pid %d\n", name(got), info.si_code, info.si_pid == getpid());
		union sigval value = { .sival_int = 42 };
		sigqueue(getpid(), signo, value);
		struct timespec now = { 5, 0 };
		memset(&info, 0, sizeof info);
		got = sigtimedwait(&set, &info, &now);
		printf("sigtimedwait %s code %d value %d\n", name(got), info.si_code, info.si_value.sival_int);
	}
	struct timespec none = { 0, 0 };
	errno = 0;
	int got = sigtimedwait(&set, NULL, &none);
	printf("nothing left: %d %s\n", got, strerror(errno));
	printf("seen %d\n", seen);
}

static void check_sigsuspend(void)
{
	EACH(signo) {
		sigset_t set, none;
		install(signo, 0);
		sigemptyset(&none);
		sigemptyset(&set);
		sigaddset(&set, signo);
		MUST(sigprocmask(SIG_BLOCK, &set, NULL));
		seen = 0;
		raise(signo);
		work(1);
		errno = 0;
		int result = sigsuspend(&none);
		printf("sigsuspend %d %s\n", result, strerror(errno));
		report("  after");
		MUST(sigprocmask(SIG_UNBLOCK, &set, NULL));
	}
}

/* A real fault at a probed instruction, repaired: the instruction runs again, and is one hit. */
static void repair(int signo, siginfo_t *info, void *context)
{
	on_signal(signo, info, context);
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void check_repair(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	action.sa_sigaction = repair;
	MUST(sigaction(SIGSEGV, &action, NULL));
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 5; i++) {
		MUST(mprotect(page, 4096, PROT_READ));
		seen = 0;
		work(1);
		fault_store(page + 8, i + 1);
		work(1);
		printf("wrote %d seen %d code %d addr %d rip %d\n", page[8], seen, seen_code,
		       seen_addr == (uintptr_t)page + 8, seen_rip == (uintptr_t)fault_store_insn);
		report("  masks");
	}
	TELL("fault_store_insn", 5);
}

static void skip(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	on_signal(signo, info, context);
	/* idivl %esi and ud2 and mov %rsi,(%rdi) are 2, 2 and 3 bytes long. */
	uc->uc_mcontext.gregs[REG_RIP] += signo == SIGSEGV || signo == SIGBUS ? 3 : 2;
}

static void check_skip(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	action.sa_sigaction = skip;
	EACH(signo)
		if (signo != SIGTRAP)
			MUST(sigaction(signo, &action, NULL));
	for (int i = 0; i < 3; i++) {
		seen = 0;
		fault_store((void *)16, 1);
		printf("%s code %d addr %d rip %d seen %d\n", name(seen_signo), seen_code, seen_addr == 16,
		       seen_rip == (uintptr_t)fault_store_insn, seen);
		fault_store((void *)0x8000000000000000, 1);
		printf("%s code %d addr %d rip %d seen %d\n", name(seen_signo), seen_code, (int)seen_addr,
		       seen_rip == (uintptr_t)fault_store_insn, seen);
		fault_div(1, 0);
		printf("%s code %d addr %d rip %d seen %d\n", name(seen_signo), seen_code,
		       seen_addr == (uintptr_t)fault_div_insn, seen_rip == (uintptr_t)fault_div_insn, seen);
		fault_ill();
		printf("%s code %d addr %d rip %d seen %d\n", name(seen_signo), seen_code,
		       seen_addr == (uintptr_t)fault_ill_insn, seen_rip == (uintptr_t)fault_ill_insn, seen);
	}
	TELL("fault_store_insn", 6);
	TELL("fault_div_insn", 3);
	TELL("fault_ill_insn", 3);
}

static sigjmp_buf out;
static void leave(int signo, siginfo_t *info, void *context)
{
	on_signal(signo, info, context);
	siglongjmp(out, signo);
}

static void check_longjmp(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	action.sa_sigaction = leave;
	EACH(signo)
		MUST(sigaction(signo, &action, NULL));
	for (volatile int i = 0; i < 100; i++) {
		for (volatile int save = 0; save < 2; save++) {
			int came = sigsetjmp(out, save);
			if (came == 0) {
				work(1);
				if (i % 3 == 0)
					fault_store((void *)16, 1);
				else if (i % 3 == 1)
					fault_div(1, 0);
				else
					fault_ill();
			}
			sigset_t now, none;
			pthread_sigmask(SIG_SETMASK, NULL, &now);
			if (i < 3) {
				printf("left %s save %d\n", name(came), save);
				print_mask("  mask", &now);
			}
			sigemptyset(&none);
			pthread_sigmask(SIG_SETMASK, &none, NULL);
		}
		work(1);
	}
	printf("seen %d\n", seen);
	TELL("fault_store_insn", 68);
	TELL("fault_div_insn", 66);
	TELL("fault_ill_insn", 66);
}

static void check_altstack(void)
{
	stack_t stack = { .ss_size = 65536 }, old;
	altstack = stack.ss_sp = malloc(65536);
	MUST(sigaltstack(&stack, NULL));
	MUST(sigaltstack(NULL, &old));
	printf("altstack %d %zu %d\n", old.ss_sp == altstack, old.ss_size, old.ss_flags);
	EACH(signo) {
		install(signo, SA_ONSTACK);
		seen = 0;
		work(1);
		raise(signo);
		printf("%s on the alternate stack: %d\n", name(signo), seen_on_altstack);
		install(signo, 0);
		raise(signo);
		printf("%s on the alternate stack: %d\n", name(signo), seen_on_altstack);
	}
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK };
	action.sa_sigaction = skip;
	MUST(sigaction(SIGSEGV, &action, NULL));
	fault_store((void *)16, 1);
	printf("fault on the alternate stack: %d rip %d\n", seen_on_altstack, seen_rip == (uintptr_t)fault_store_insn);
}

/* A stack overflow is survived on the alternate stack. */
FUNCTION int overflow(int n)
{
	volatile char frame[4096];
	frame[n & 4095] = (char)n;
	return overflow(n + 1) + frame[n & 4095];
}
static void check_overflow(void)
{
	stack_t stack = { .ss_size = 65536 };
	altstack = stack.ss_sp = malloc(65536);
	MUST(sigaltstack(&stack, NULL));
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK };
	action.sa_sigaction = leave;
	MUST(sigaction(SIGSEGV, &action, NULL));
	for (volatile int i = 0; i < 3; i++) {
		if (sigsetjmp(out, 1) == 0)
			overflow(0);
		printf("survived on the alternate stack: %d\n", seen_on_altstack);
	}
}

/* The program's own breakpoint. */
static void check_int3(void)
{
	install(SIGTRAP, 0);
	for (int i = 0; i < 3; i++) {
		seen = 0;
		work(1);
		own_int3();
		work(1);
		printf("own int3: seen %d code %d rip %d\n", seen, seen_code, seen_rip == (uintptr_t)after_int3);
		report("  masks");
	}
	signal(SIGTRAP, SIG_DFL);
	own_int3();
	printf("not reached\n");
}
static void check_int3_ignored(void) { signal(SIGTRAP, SIG_IGN); work(1); fflush(stdout); own_int3(); printf("not reached\n"); }
static void check_int3_blocked(void)
{
	sigset_t set;
	install(SIGTRAP, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	work(1);
	own_int3();
	printf("not reached\n");
}
static void check_raise_default(void) { work(1); fflush(stdout); raise(SIGTRAP); printf("not reached\n"); }
static void check_raise_ignored(void)
{
	EACH(signo) {
		signal(signo, SIG_IGN);
		work(1);
		raise(signo);
		kill(getpid(), signo);
	}
	printf("reached\n");
}

/* A real fault kills where its signal is ignored, blocked or at its default. */
static void check_fault_default(void) { work(1); fault_store((void *)16, 1); printf("not reached\n"); }
static void check_fault_ignored(void) { signal(SIGSEGV, SIG_IGN); work(1); fault_store((void *)16, 1); printf("not reached\n"); }
static void check_fault_blocked(void)
{
	sigset_t set;
	install(SIGSEGV, 0);
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	work(1);
	fault_store((void *)16, 1);
	printf("not reached\n");
}
static void check_div_default(void) { work(1); fault_div(1, 0); printf("not reached\n"); }
static void check_ill_ignored(void) { signal(SIGILL, SIG_IGN); work(1); fault_ill(); printf("not reached\n"); }
static void crash_again(int signo) { (void)signo; work(1); fault_store((void *)16, 1); }
static void check_double_fault(void)
{
	/* SIGSEGV is blocked in its own handler: the second fault kills. */
	signal(SIGSEGV, crash_again);
	fault_store((void *)16, 1);
	printf("not reached\n");
}
static volatile int depth;
static void nested(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)info;
	work(1);
	if (++depth < 4)
		fault_store((void *)16, 1);
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
}
static void check_nested(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_NODEFER };
	action.sa_sigaction = nested;
	MUST(sigaction(SIGSEGV, &action, NULL));
	fault_store((void *)16, 1);
	printf("depth %d\n", depth);
}
static void check_unprobed_fault(void) { *nowhere = zero; printf("not reached\n"); }

/* Threads start with the mask of their creator. */
static void *thread_all_blocked(void *arg)
{
	sigset_t now;
	for (int i = 0; i < 100; i++)
		work(i);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	print_mask("in the thread", &now);
	raise(SIGTRAP);
	sigpending(&now);
	print_mask("pending there", &now);
	return arg;
}
static void check_thread_mask(void)
{
	sigset_t all, now;
	install(SIGTRAP, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < 3; i++) {
		pthread_t thread;
		MUST(pthread_create(&thread, NULL, thread_all_blocked, NULL));
		MUST(pthread_join(thread, NULL));
	}
	pthread_attr_t attr;
	sigset_t some;
	sigemptyset(&some);
	sigaddset(&some, SIGTRAP);
	sigaddset(&some, SIGUSR1);
	pthread_attr_init(&attr);
	MUST(pthread_attr_setsigmask_np(&attr, &some));
	pthread_t thread;
	MUST(pthread_create(&thread, &attr, thread_all_blocked, NULL));
	MUST(pthread_join(thread, NULL));
	sigpending(&now);
	print_mask("pending here", &now);
	printf("seen %d\n", seen);
}

/* Other interfaces to the mask. */
static void check_old_interfaces(void)
{
	sigset_t now;
	install(SIGTRAP, 0);
	seen = 0;
	printf("sighold %d\n", sighold(SIGTRAP));
	raise(SIGTRAP);
	work(1);
	printf("seen %d\n", seen);
	printf("sigrelse %d\n", sigrelse(SIGTRAP));
	printf("seen %d\n", seen);
	printf("siginterrupt %d\n", siginterrupt(SIGTRAP, 1));
	printf("sigset %d\n", sigset(SIGTRAP, SIG_HOLD) == (void (*)(int))(uintptr_t)on_signal);
	raise(SIGTRAP);
	work(1);
	sigpending(&now);
	print_mask("pending", &now);
	printf("sigset %d\n", sigset(SIGTRAP, SIG_IGN) == SIG_HOLD);
	sigpending(&now);
	print_mask("pending", &now);
	printf("sigignore %d\n", sigignore(SIGTRAP));
	raise(SIGTRAP);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	print_mask("mask", &now);
}

static void check_signalfd(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTRAP);
	sigaddset(&set, SIGSEGV);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	int fd = signalfd(-1, &set, SFD_NONBLOCK);
	static const int send[] = { SIGUSR1, SIGTRAP, SIGSEGV };
	for (int i = 0; i < 3; i++) {
		struct signalfd_siginfo info;
		raise(send[i]);
		work(1);
		long n = read(fd, &info, sizeof info);
		printf("signalfd %ld %s\n", n, n > 0 ? name((int)info.ssi_signo) : strerror(errno));
	}
}

/* Realtime signals queue: each that is sent is received, wherever it lands. */
static volatile int received;
static volatile long order_wrong, last_value;
static void on_rt(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	received++;
	if (info->si_value.sival_int != last_value + 1)
		order_wrong++;
	last_value = info->si_value.sival_int;
	work(1);
}
static pthread_t main_thread;
static volatile int sent_all;
static void *send_rt(void *arg)
{
	for (int i = 1; i <= 3000; i++) {
		union sigval value = { .sival_int = i };
		while (pthread_sigqueue(main_thread, SIGRTMIN + 1, value) == EAGAIN)
			usleep(100);
	}
	sent_all = 1;
	return arg;
}
static void check_realtime(void)
{
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART };
	action.sa_sigaction = on_rt;
	MUST(sigaction(SIGRTMIN + 1, &action, NULL));
	main_thread = pthread_self();
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, send_rt, NULL));
	long wrong = 0;
	int i = 0;
	page = malloc(64);
	while (!sent_all || received < 3000) {
		wrong += work(i) != i + 1;
		fault_store(page, i);
		wrong += *(int *)page != i;
		i++;
	}
	MUST(pthread_join(thread, NULL));
	printf("received %d out of order %ld wrong %ld\n", received, order_wrong, wrong);
}

/* EINTR and SA_RESTART stay what they are when read() itself is probed. */
static int pipes[2];
static pid_t main_tid;
static volatile int has_read;
/* Until the main thread waits in read(), however slowly it gets there, or has left it. */
static void wait_for_read(void)
{
	char path[64], text[16] = "";
	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", main_tid);
	while (strncmp(text, "0 ", 2) != 0 && !has_read) {
		FILE *file = fopen(path, "r");
		if (!file || !fgets(text, sizeof text, file))
			text[0] = 0;
		if (file)
			fclose(file);
		usleep(1000);
	}
}
static void *poke(void *arg)
{
	wait_for_read();
	pthread_kill(main_thread, SIGUSR1);
	while (!seen)
		usleep(1000);
	wait_for_read();
	if (write(pipes[1], "x", 1) != 1)
		abort();
	return arg;
}
static void check_eintr(void)
{
	main_thread = pthread_self();
	main_tid = gettid();
	MUST(pipe(pipes));
	for (int restart = 0; restart < 2; restart++) {
		char c;
		pthread_t thread;
		install(SIGUSR1, restart ? SA_RESTART : 0);
		seen = has_read = 0;
		MUST(pthread_create(&thread, NULL, poke, NULL));
		long n = read(pipes[0], &c, 1);
		has_read = 1;
		printf("read %ld %s seen %d\n", n, n < 0 ? strerror(errno) : "", seen);
		MUST(pthread_join(thread, NULL));
		if (n < 0 && read(pipes[0], &c, 1) != 1)
			abort();
	}
	struct timespec wait = { 0, 1000 }, left = { 0, 0 };
	printf("nanosleep %d\n", nanosleep(&wait, &left));
}

static const struct {
	const char *name;
	void (*run)(void);
} checks[] = {
#define CHECK(n) { #n, check_##n }
	CHECK(oldact), CHECK(raise), CHECK(blocked), CHECK(sigwait), CHECK(sigsuspend), CHECK(repair),
	CHECK(skip), CHECK(longjmp), CHECK(altstack), CHECK(overflow), CHECK(int3), CHECK(int3_ignored),
	CHECK(int3_blocked), CHECK(raise_default), CHECK(raise_ignored), CHECK(fault_default), CHECK(fault_ignored),
	CHECK(fault_blocked), CHECK(div_default), CHECK(ill_ignored), CHECK(double_fault), CHECK(nested),
	CHECK(unprobed_fault), CHECK(thread_mask), CHECK(old_interfaces), CHECK(signalfd), CHECK(realtime), CHECK(eintr),
};

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < sizeof checks / sizeof *checks; i++) {
		if (argc > 1 && strcmp(argv[1], checks[i].name) == 0) {
			checks[i].run();
			printf("end\n");
			return 0;
		}
		if (argc < 2)
			puts(checks[i].name);
	}
	return argc > 1;
}
