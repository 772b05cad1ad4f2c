/* uprobe_stack at every instruction of functions of each shape, in signal handlers, threads, on another
 * stack, and across a library that comes and goes; then with registers full of garbage. */
#define _GNU_SOURCE
#include "handlers.h"
#include "h_stack.h"
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define SHAPE __attribute__((noinline, noclone, used, optimize("O2", "omit-frame-pointer")))
#define FRAMED __attribute__((noinline, noclone, used, optimize("no-omit-frame-pointer")))
#define KEEP_FRAME() __asm__ volatile("" ::: "memory")

SHAPE long leaf(long a, long b) { return (a ^ b) * 3 + (a >> 3) - (b << 2); }
SHAPE long saves(long a, long (*f)(long, long))
{
	long b = f(a, 1), c = f(a, 2), d = f(b, 3), e = f(c, 4), g = f(d, 5);
	return f(a, b) + f(c, d) + f(e, g) + a + b + c + d + e + g;
}
FRAMED long framed(long a) { long r = saves(a, leaf); KEEP_FRAME(); return r + 1; }
SHAPE long grows(long n)
{
	volatile char *room = alloca(n + 16);
	room[n] = 1;
	long r = framed(n);
	return r + room[n];
}
SHAPE long aligned(long n)
{
	volatile long wide[8] __attribute__((aligned(64)));
	wide[n & 7] = n;
	long r = grows(n);
	return r + wide[n & 7] + ((long)wide & 63);
}
SHAPE long deep(long n)
{
	if (n == 0)
		return aligned(33);
	long r = deep(n - 1);
	KEEP_FRAME();
	return r + 1;
}
SHAPE _Noreturn void leaves(long *out)
{
	*out = deep(2);
	KEEP_FRAME();
	pthread_exit(NULL);
}
/* A tail call, a function whose last instruction is a call that does not return. */
SHAPE long passes_on(long n) { return deep(n + 1); }
SHAPE void *in_thread(void *arg)
{
	passes_on(1);
	leaves(arg);
}

static long seen;
SHAPE void on_signal(int signo) { seen += deep(signo & 1); }
SHAPE void on_other_stack(int signo, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	seen += deep(signo & 3);
}
SHAPE long raises(long n) { raise(SIGUSR1); return deep(n); }

static int by_size(const void *a, const void *b) { return deep(1) ? *(const int *)a - *(const int *)b : 0; }

/* Assembler that describes itself, and some that does not. */
extern long described(long), undescribed(long), bare(long);
__asm__(".text\n.globl described\n.type described,@function\ndescribed:\n.cfi_startproc\n"
	"push %rbx\n.cfi_adjust_cfa_offset 8\n.cfi_offset rbx,-16\n"
	"lea 1(%rdi),%rdi\ncall leaf\npop %rbx\n.cfi_adjust_cfa_offset -8\nret\n.cfi_endproc\n.size described,.-described\n"
	".globl undescribed\n.type undescribed,@function\nundescribed:\n"
	"push %rbp\nmov %rsp,%rbp\nsub $32,%rsp\nmov $1,%esi\ncall called_by_undescribed\nleave\nret\n.size undescribed,.-undescribed\n"
	".globl bare\n.type bare,@function\nbare:\n"
	"lea 1(%rdi),%rax\nret\n.size bare,.-bare\n");

SHAPE long called_by_undescribed(long a) { return a * 5; }
SHAPE long calls_undescribed(long a) { long r = undescribed(a); KEEP_FRAME(); return r + 1; }
SHAPE long calls_bare(long a) { long r = bare(a); KEEP_FRAME(); return r + 1; }

/* backtrace ends there: what comes first is known. */
static int in_bare, through_undescribed;
static int inside(void *address, long (*function)(long))
{
	return (char *)address > (char *)function && (char *)address < (char *)function + 32;
}
static int at_bare(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	void *mine[4];
	in_bare = uprobe_stack(regs, mine, 4) == 4 && inside(mine[0], calls_bare);
	return 0;
}
static int below_undescribed(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	void *mine[4];
	through_undescribed = uprobe_stack(regs, mine, 4) == 4 && inside(mine[0], undescribed) &&
			      inside(mine[1], calls_undescribed);
	return 0;
}

static unsigned long long noise = 88172645463325252ull;
static unsigned long long next(void)
{
	noise ^= noise << 13;
	noise ^= noise >> 7;
	noise ^= noise << 17;
	return noise;
}

/* A million sets of registers: wild, or with some that lead to code, tables and the stack. */
static void garbage(void)
{
	void *libc = dlsym(RTLD_DEFAULT, "qsort"), *mine[33];
	char here;
	for (long i = 0; i < 1000000; i++) {
		struct uprobe_regs regs;
		unsigned long long *words = (unsigned long long *)&regs;
		for (size_t w = 0; w < sizeof regs / 8; w++)
			words[w] = next();
		switch (next() % 4) {
		case 0: regs.rip = (unsigned long)garbage + next() % 4096 - 2048; break;
		case 1: regs.rip = (unsigned long)libc + next() % 0x80000 - 0x10000; break;
		default: break;
		}
		switch (next() % 4) {
		case 0: regs.rsp = (unsigned long)&here + next() % 4096; break;
		case 1: regs.rsp = next() % 2 ? 0 : -8ull; break;
		case 2: regs.rsp = (unsigned long)&here & -8ull; regs.rbp = regs.rsp + next() % 128 * 8; break;
		default: break;
		}
		mine[32] = &here;
		long n = uprobe_stack(&regs, mine, 32);
		if (n < 0 || n > 32 || mine[32] != &here) {
			printf("garbage: %ld\n", n);
			return;
		}
	}
	struct uprobe_regs nothing = { 0 };
	printf("nothing: %ld, no room: %ld, no buffer: %ld\n", uprobe_stack(&nothing, mine, 32),
	       uprobe_stack(&nothing, mine, 0), uprobe_stack(&nothing, NULL, 3));
}

static volatile int stop;
static void *come_and_go(void *path)
{
	while (!stop) {
		void *object = dlopen(path, RTLD_NOW);
		if (object)
			dlclose(object);
	}
	return NULL;
}

static void report(const char *what)
{
	printf("%s: %s, %s\n", what, compared ? "compared" : "never hit", different ? "different" : "the same");
	compared = different = 0;
}

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	warm_up();
	void *functions[] = { leaf, saves, framed, grows, aligned, deep, leaves, passes_on, in_thread, on_signal,
			      on_other_stack, raises, by_size, described };
	int armed = 0;
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
		armed += probe_each(functions[i]);
	printf("more than 150 instructions: %d\n", armed > 150);

	deep(3);
	described(7);
	report("functions");
	passes_on(100);
	printf("deeper than 100: %d\n", deepest > 100);
	report("recursion");
	int numbers[] = { 3, 1, 2 };
	qsort(numbers, 3, sizeof *numbers, by_size);
	report("a callback of libc");

	pthread_t thread;
	long result;
	pthread_create(&thread, NULL, in_thread, &result);
	pthread_join(thread, NULL);
	report("a thread");

	signal(SIGUSR1, on_signal);
	raises(1);
	report("a signal handler");
	stack_t other = { .ss_sp = malloc(1 << 17), .ss_size = 1 << 17 };
	sigaltstack(&other, NULL);
	struct sigaction action = { .sa_sigaction = on_other_stack, .sa_flags = SA_ONSTACK | SA_SIGINFO };
	sigaction(SIGUSR1, &action, NULL);
	raises(1);
	report("a signal stack");
	/* Interrupted anywhere: in slots too. */
	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; i < 100; i++) {
		/* Once each time: what the handler does takes longer than any such time. */
		struct itimerval once = { { 0, 0 }, { 0, 50 + 61 * i } };
		setitimer(ITIMER_REAL, &once, NULL);
		deep(1);
	}
	/* None in another thread later: in its first instructions an object has code that backtrace() finds no way out of. */
	struct itimerval never = { { 0, 0 }, { 0, 0 } };
	setitimer(ITIMER_REAL, &never, NULL);
	report("a timer");

	struct uprobe on_bare = PROBE(bare, .pre_handler = at_bare);
	struct uprobe on_called = PROBE(called_by_undescribed, .pre_handler = below_undescribed);
	REGISTER(&on_bare);
	REGISTER(&on_called);
	calls_bare(1);
	calls_undescribed(1);
	printf("in code without a description: %d, through it: %d\n", in_bare, through_undescribed);
	if (argc > 1) {
		pthread_create(&thread, NULL, come_and_go, argv[1]);
		for (int i = 0; i < 30; i++)
			deep(2);
		stop = 1;
		pthread_join(thread, NULL);
		report("objects come and go");
	}
	garbage();
	return 0;
}
