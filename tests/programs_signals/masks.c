/* masks CHECK: what a program sees of signal masks, wherever it can look or set them. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Wcpp"
#include "signals.h"
#include <pthread.h>
#include <setjmp.h>
#include <ucontext.h>

static volatile int depth;
static int edit_add, edit_remove; /* what the handler does to uc_sigmask */
static void (*inside)(void);

static void print_uc(const char *what, ucontext_t *uc)
{
	/* The kernel writes 8 bytes of it. */
	sigset_t seen;
	sigemptyset(&seen);
	memcpy(&seen, &uc->uc_sigmask, 8);
	print_set(what, &seen);
}

static void on_signal(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	depth++;
	printf("%d in %s code %d\n", depth, name_of(signo), info->si_code);
	print_uc("  uc_sigmask", uc);
	print_mask("  mask");
	if (edit_add)
		sigaddset(&uc->uc_sigmask, edit_add);
	if (edit_remove)
		sigdelset(&uc->uc_sigmask, edit_remove);
	if (inside) {
		void (*once)(void) = inside;
		inside = NULL;
		once();
		print_mask("  mask at its end");
	}
	depth--;
}

/* uc_sigmask is the mask of what was interrupted; sa_mask and the signal itself come on top. */
static void each_combination(handler_t *handler, void (*act)(int signo))
{
	int all[COUNT(five) + COUNT(others)];
	memcpy(all, five, sizeof five);
	memcpy(all + COUNT(five), others, sizeof others);
	for (int i = 0; i < COUNT(all); i++) {
		static const int flags[] = { 0, SA_NODEFER };
		for (int f = 0; f < 2; f++) {
			handle(all[i], handler, flags[f], set_of(SIGTRAP, SIGFPE, SIGUSR2));
			block_only(set_of(SIGSEGV, SIGTRAP, SIGALRM));
			if (all[i] == SIGSEGV || all[i] == SIGTRAP)
				block_only(set_of(SIGBUS, SIGALRM, 0));
			printf("== %s flags %#x\n", name_of(all[i]), (unsigned)flags[f]);
			act(all[i]);
			print_mask("after");
			block_only(none());
		}
	}
}
static void by_raise(int signo) { raise(signo); }
static void by_kill(int signo) { kill(getpid(), signo); }
static void check_seen(void) { each_combination(on_signal, by_raise); each_combination(on_signal, by_kill); }

/* What a handler writes into uc_sigmask is the mask afterwards. */
static void check_edited(void)
{
	static const int edited[] = { SIGTRAP, SIGSEGV, SIGILL, SIGUSR2, SIGTERM };
	for (int i = 0; i < COUNT(edited); i++) {
		edit_add = edited[i];
		edit_remove = 0;
		each_combination(on_signal, by_raise);
		edit_add = 0;
		edit_remove = edited[i];
		each_combination(on_signal, by_raise);
	}
}

/* One that is sent before is delivered when uc_sigmask lets it through, at the return. */
static void unblock_at_return(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	printf("in %s code %d\n", name_of(signo), info->si_code);
	for (int i = 0; i < COUNT(five); i++)
		sigdelset(&uc->uc_sigmask, five[i]);
	print_pending("  pending");
}
static void check_let_through(void)
{
	for (int i = 0; i < COUNT(five); i++) {
		handle(five[i], on_signal, 0, none());
		handle(SIGUSR1, unblock_at_return, 0, none());
		block_only(set_of(five[i], 0, 0));
		kill(getpid(), five[i]);
		print_pending("pending");
		raise(SIGUSR1);
		print_mask("after");
		print_pending("pending");
		block_only(none());
	}
}

/* Blocked inside a handler by sigprocmask: until it returns. */
static void block_all(void)
{
	sigset_t all = full();
	MUST(sigprocmask(SIG_BLOCK, &all, NULL));
	for (int i = 0; i < COUNT(five); i++)
		raise(five[i]);
	print_pending("  pending");
}
static void check_blocked_inside(void)
{
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_signal, 0, none());
	for (int i = 0; i < COUNT(others); i++) {
		handle(others[i], on_signal, 0, none());
		inside = block_all;
		raise(others[i]);
		print_mask("after");
		print_pending("pending");
	}
	for (int i = 0; i < COUNT(five); i++) {
		inside = block_all;
		raise(five[i]);
		print_mask("after");
		print_pending("pending");
	}
}

/* sa_mask holds the five back while another handler runs. */
static void send_five(void)
{
	for (int i = 0; i < COUNT(five); i++)
		kill(getpid(), five[i]);
	print_pending("  pending");
}
static void check_held_by_sa_mask(void)
{
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_signal, 0, full());
	for (int i = 0; i < COUNT(others); i++) {
		handle(others[i], on_signal, 0, full());
		inside = send_five;
		raise(others[i]);
		print_mask("after");
	}
}

/* A handler left by longjmp keeps its mask, by siglongjmp with a mask gets the one saved. */
static sigjmp_buf out;
static void leave(int signo, siginfo_t *info, void *context)
{
	(void)info, (void)context;
	siglongjmp(out, signo);
}
static void check_left(void)
{
	int all[COUNT(five) + COUNT(others)];
	memcpy(all, five, sizeof five);
	memcpy(all + COUNT(five), others, sizeof others);
	for (volatile int i = 0; i < COUNT(all); i++)
		for (volatile int save = 0; save < 2; save++) {
			handle(all[i], leave, 0, set_of(SIGTRAP, SIGILL, SIGUSR2));
			block_only(set_of(SIGALRM, 0, 0));
			int came = sigsetjmp(out, save);
			if (came == 0)
				raise(all[i]);
			printf("left %s saved %d\n", name_of(came), save);
			print_mask("after");
			block_only(none());
		}
}

/* Contexts carry masks. */
static ucontext_t main_context, other_context;
static char stack[65536];
static void coroutine(int a)
{
	for (int i = 0; i < 3; i++) {
		printf("coroutine %d\n", a + i);
		print_mask("  mask");
		sigset_t more = set_of(five[i], others[i], 0);
		MUST(sigprocmask(SIG_BLOCK, &more, NULL));
		MUST(swapcontext(&other_context, &main_context));
	}
	print_mask("  last");
}
static void check_contexts(void)
{
	block_only(set_of(SIGTRAP, SIGUSR1, 0));
	MUST(getcontext(&other_context));
	print_uc("got", &other_context);
	other_context.uc_stack.ss_sp = stack;
	other_context.uc_stack.ss_size = sizeof stack;
	other_context.uc_link = &main_context;
	sigaddset(&other_context.uc_sigmask, SIGSEGV);
	makecontext(&other_context, (void (*)(void))coroutine, 1, 7);
	for (int i = 0; i < 4; i++) {
		block_only(set_of(SIGFPE, SIGUSR2, 0));
		MUST(swapcontext(&main_context, &other_context));
		print_uc("main's", &main_context);
		print_mask("main");
	}
	volatile int rounds = 0;
	block_only(set_of(SIGILL, 0, 0));
	MUST(getcontext(&main_context));
	print_mask("again");
	sigdelset(&main_context.uc_sigmask, SIGILL);
	sigaddset(&main_context.uc_sigmask, five[rounds]);
	if (rounds++ < 4)
		setcontext(&main_context);
	/* What is pending is delivered when a context lets it through. */
	handle(SIGTRAP, on_signal, 0, none());
	handle(SIGSEGV, on_signal, 0, none());
	block_only(none());
	rounds = 0;
	MUST(getcontext(&main_context));
	if (rounds++ == 0) {
		block_only(full());
		raise(SIGTRAP);
		raise(SIGSEGV);
		print_pending("pending");
		setcontext(&main_context);
	}
	print_mask("open");
	print_pending("pending");
}

/* A context that a handler got, resumed later. */
static void resume_elsewhere(int signo, siginfo_t *info, void *context)
{
	(void)info;
	ucontext_t *uc = context, copy;
	printf("in %s\n", name_of(signo));
	/* (The kernel's is shorter than libc's.) */
	MUST(getcontext(&copy));
	memcpy(copy.uc_mcontext.gregs, uc->uc_mcontext.gregs, sizeof copy.uc_mcontext.gregs);
	memcpy(&copy.uc_sigmask, &uc->uc_sigmask, 8);
	sigaddset(&copy.uc_sigmask, SIGBUS);
	setcontext(&copy);
}
static void check_context_of_handler(void)
{
	for (int i = 0; i < COUNT(others); i++) {
		handle(others[i], resume_elsewhere, 0, set_of(SIGTRAP, 0, 0));
		block_only(set_of(SIGFPE, 0, 0));
		raise(others[i]);
		print_mask("after");
		block_only(none());
	}
}

/* The old interfaces. */
static void on_old(int signo) { printf("in %s\n", name_of(signo)); print_mask("  mask"); }
static void check_old(void)
{
	for (int i = 0; i < COUNT(five); i++) {
		int s = five[i];
		printf("== %s\n", name_of(s));
		printf("sigset %d\n", sigset(s, on_old) == SIG_DFL);
		raise(s);
		printf("sighold %d\n", sighold(s));
		print_mask("held");
		raise(s);
		print_pending("pending");
		printf("sigset hold %d\n", sigset(s, SIG_HOLD) == SIG_HOLD);
		printf("sigpause %d", sigpause(s));
		printf(" %s\n", strerror(errno));
		print_mask("held");
		printf("sigrelse %d\n", sigrelse(s));
		print_mask("released");
		printf("siginterrupt %d\n", siginterrupt(s, 1));
		raise(s);
		printf("siginterrupt %d\n", siginterrupt(s, 0));
		int before = sigblock(1 << (s - 1));
		printf("sigblock %#x\n", (unsigned)before);
		print_mask("blocked");
		raise(s);
		printf("sigsetmask %#x\n", (unsigned)sigsetmask(before));
		print_mask("set");
		printf("siggetmask %#x\n", (unsigned)siggetmask());
		printf("sigignore %d\n", sigignore(s));
		raise(s);
		printf("was ignored %d\n", signal(s, on_old) == SIG_IGN);
		raise(s);
		printf("ssignal %d\n", ssignal(s, SIG_DFL) == on_old);
		sigset_t only = set_of(s, 0, 0);
		printf("sigisemptyset %d\n", sigisemptyset(&only));
		sigset(s, on_old);
		printf("hold and back %d\n", sigset(s, SIG_HOLD) == on_old);
		raise(s);
		printf("hold and back %d\n", sigset(s, on_old) == SIG_HOLD);
		signal(s, SIG_DFL);
	}
}

/* A thread begins with its creator's mask, or its attribute's. */
static void *in_thread(void *what)
{
	print_mask(what);
	for (int i = 0; i < COUNT(five); i++)
		pthread_kill(pthread_self(), five[i]);
	print_pending("  pending");
	sigset_t set = full();
	struct timespec now = { 0, 0 };
	for (int got; (got = sigtimedwait(&set, NULL, &now)) > 0;)
		printf("  took %s\n", name_of(got));
	return NULL;
}
static void check_threads(void)
{
	pthread_t thread;
	pthread_attr_t attr;
	sigset_t set = full(), got;
	block_only(full());
	MUST(pthread_create(&thread, NULL, in_thread, "inherited"));
	MUST(pthread_join(thread, NULL));
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_signal, 0, none());
	block_only(set_of(SIGTRAP, SIGUSR1, 0));
	sigdelset(&set, SIGFPE);
	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setsigmask_np(&attr, &set));
	MUST(pthread_attr_getsigmask_np(&attr, &got));
	print_set("attribute", &got);
	MUST(pthread_create(&thread, &attr, in_thread, "of the attribute"));
	MUST(pthread_join(thread, NULL));
	print_mask("creator");
	set = none();
	MUST(pthread_attr_setsigmask_np(&attr, &set));
	MUST(pthread_create(&thread, &attr, in_thread, "empty attribute"));
	MUST(pthread_join(thread, NULL));
	print_mask("creator");
}

/* A thread that libc started with everything blocked, and that opens its mask by a system call of its own: so Go
 * does, whose threads then repair faults. */
static volatile int *volatile nowhere = (int *)16;
static void skip_fault(int signo, siginfo_t *info, void *context)
{
	(void)context;
	printf("in %s code %d\n", name_of(signo), info->si_code);
	siglongjmp(out, signo);
}
static void *opens_its_mask(void *unused)
{
	unsigned long empty = 0;
	long result = 14; /* rt_sigprocmask */
	register long size __asm__("r10") = 8;
	__asm__ volatile("syscall" : "+a"(result) : "D"(SIG_SETMASK), "S"(&empty), "d"(0), "r"(size) : "rcx", "r11", "memory");
	for (volatile int i = 0; i < 3; i++)
		if (sigsetjmp(out, 1) == 0)
			*nowhere = 1;
	print_mask("mask");
	raise(SIGTRAP);
	raise(SIGUSR1);
	return unused;
}
static void check_opened_by_number(void)
{
	pthread_t thread;
	handle(SIGSEGV, skip_fault, 0, none());
	handle(SIGTRAP, on_signal, 0, none());
	handle(SIGUSR1, on_signal, 0, none());
	block_only(full());
	MUST(pthread_create(&thread, NULL, opens_its_mask, NULL));
	MUST(pthread_join(thread, NULL));
	print_mask("creator");
}

int main(int argc, char **argv)
{
	static const struct check checks[] = {
		CHECK(seen), CHECK(edited), CHECK(let_through), CHECK(blocked_inside), CHECK(held_by_sa_mask),
		CHECK(left), CHECK(contexts), CHECK(context_of_handler), CHECK(old), CHECK(threads),
		CHECK(opened_by_number),
	};
	return run_checks(checks, COUNT(checks), argc, argv);
}
