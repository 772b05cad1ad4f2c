/* One handler at a place, called from the jump without much ado: whatever it does, and whatever comes in between,
 * the program sees what it would see with a breakpoint. With argument "spare": handlers that promise to touch no
 * vector register, whose way is the shorter one. */
#define _GNU_SOURCE
#include "handlers.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPARING __attribute__((target("general-regs-only")))

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long other(long a) { KEEP(); return a + 1000; }
FUNCTION long inner(long a) { KEEP(); return a + 2; }
FUNCTION long counted(long a) { KEEP(); return a + 3; } /* by the config */
FUNCTION long timed(long a) { KEEP(); return a + 4; }   /* by the config */
/* Flags that live across the place in the middle. */
extern long flagged(long, long), flagged_place(void);
__asm__(".text\n.p2align 4\n.globl flagged, flagged_place\n.type flagged, @function\nflagged:\n"
	"cmp %rsi, %rdi\nflagged_place:\nmov $0, %eax\nmov $0, %edx\nsetl %al\nseto %dl\nlea (%rax,%rdx,2), %rax\nret\n"
	".size flagged, . - flagged\n");
/* No C at either end: entered with the direction flag set, it must come out with it. */
extern long backward(long), backward_call(long);
__asm__(".text\n.p2align 4\n.globl backward, backward_call\n.type backward, @function\nbackward:\n"
	"lea 5(%rdi), %rax\nmov %rax, %rdx\nret\n.size backward, . - backward\n"
	".type backward_call, @function\nbackward_call:\nstd\ncall backward\npushfq\ncld\npop %rdx\n"
	"and $0x400, %edx\nadd %rdx, %rax\nret\n.size backward_call, . - backward_call\n");

static long wrong;
static volatile int delivered, *nowhere;
#define CHECK(what) do { if (!(what)) { wrong++; printf("line %d: not so: %s\n", __LINE__, #what); } } while (0)

static void on_usr1(int signo) { (void)signo; delivered++; }

static SPARING int nothing(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static SPARING int spoil(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	errno = 77;
	/* A handler expects the direction flag as any function, and leaves the others as it likes. */
	unsigned long flags;
	__asm__ volatile("pushfq\npop %0\nadd $0x7f, %%al\nstc" : "=r"(flags) :: "rax", "cc");
	return regs->rdi == 4711 && (flags & 0x400) != 0 ? 1 : 0;
}
static SPARING int swap(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rdi += 10;
	regs->rbx ^= 0; /* as it was, but written */
	return 0;
}
static SPARING int divert(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rip = (uint64_t)(uintptr_t)other;
	regs->rdi += 5;
	return 1;
}
static SPARING int crash(struct uprobe *probe, struct uprobe_regs *regs)
{
	errno = 88;
	if (probe->data)
		regs->rdi = 99;
	return *nowhere;
}
/* Its own hits are missed, and the signal waits for its end, also at the end of those. */
static int before_delivery;
static SPARING int nest(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe; (void)regs;
	syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGUSR1);
	long sum = inner(1) + counted(1) + timed(1) + inner(1);
	before_delivery = delivered;
	return sum == 3 + 4 + 5 + 3 ? 0 : 1;
}

static volatile int entered, release, has_left;
static SPARING int linger(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe; (void)regs;
	entered = 1;
	while (!release)
		sched_yield();
	has_left = 1;
	return 0;
}
static void *call_target(void *n)
{
	for (long i = 0; i < (long)n; i++)
		CHECK(target(i) == i + 1);
	return NULL;
}
static void *let_go(void *unused)
{
	usleep(20000);
	release = 1;
	return unused;
}

int main(int argc, char **argv)
{
	unsigned flag = argc > 1 && !strcmp(argv[1], "spare") ? UPROBE_FLAG_NOVEC : 0;
	NEED_LIBRARY();
	signal(SIGUSR1, on_usr1);

	struct uprobe probe = PROBE(target, .pre_handler = spoil, .flags = flag);
	REGISTER(&probe);
	for (int i = 0; i < 1000; i++) {
		errno = 5;
		CHECK(target(4711) == 4712 && errno == 5);
	}
	CHECK(probe.nhit == 1000);
	UNREGISTER(&probe);

	struct uprobe middle = { .addr = (void *)(uintptr_t)flagged_place, .pre_handler = spoil, .flags = flag };
	struct uprobe std = PROBE(backward, .pre_handler = spoil, .flags = flag);
	REGISTER(&middle);
	REGISTER(&std);
	for (int i = 0; i < 3; i++) {
		CHECK(flagged(1, 2) == 1 && flagged(2, 1) == 0);
		CHECK(flagged((long)(1ul << 63), 1) == 3 && flagged(-5, -4) == 1);
		CHECK(backward(4711) == 4716 && backward_call(4711) == 4716 + 0x400);
	}
	CHECK(middle.nhit == 12 && std.nhit == 6);
	UNREGISTER(&middle);
	UNREGISTER(&std);

	struct uprobe swapping = PROBE(target, .pre_handler = swap, .flags = flag);
	REGISTER(&swapping);
	CHECK(target(1) == 12 && target(2) == 13);
	UNREGISTER(&swapping);
	struct uprobe diverting = PROBE(target, .pre_handler = divert, .flags = flag);
	REGISTER(&diverting);
	CHECK(target(1) == 1006 && target(2) == 1007);
	UNREGISTER(&diverting);

	struct uprobe nested = PROBE(target, .pre_handler = nest, .flags = flag);
	struct uprobe deeper = PROBE(inner, .pre_handler = nothing, .flags = flag);
	REGISTER(&nested);
	REGISTER(&deeper);
	for (int i = 0; i < 10; i++) {
		CHECK(target(i) == i + 1 && before_delivery == i && delivered == i + 1);
		CHECK(inner(1) + counted(1) + timed(1) == 12);
	}
	CHECK(nested.nhit == 10 && deeper.nhit == 10 && deeper.nmissed == 20);
	UNREGISTER(&nested);
	UNREGISTER(&deeper);

	for (int round = 0; round < 2; round++) {
		/* What a handler wrote before it crashed stays where it spares vectors, or not: nobody's business. */
		struct uprobe crashing = PROBE(target, .pre_handler = crash, .flags = flag);
		crashing.data = flag ? NULL : &crashing;
		struct uprobe beside = PROBE(other, .pre_handler = nothing, .flags = flag);
		REGISTER(&crashing);
		REGISTER(&beside);
		errno = 5;
		CHECK(target(1) == 2 && errno == 5);
		CHECK((crashing.flags & UPROBE_FLAG_GONE) != 0);
		CHECK(target(2) == 3 && other(1) == 1001 && crashing.nhit <= 1 && beside.nhit == 1);
		raise(SIGUSR1);
		CHECK(delivered == 11 + round);
		UNREGISTER(&crashing);
		UNREGISTER(&beside);
	}

	/* A second thread, whose coming changes how is counted, while the first is in the middle of it. */
	struct uprobe shared = PROBE(target, .pre_handler = nothing, .flags = flag);
	REGISTER(&shared);
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, call_target, (void *)200000L);
	call_target((void *)200000L);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CHECK(shared.nhit == 800000);
	UNREGISTER(&shared);

	struct uprobe lingering = PROBE(target, .pre_handler = linger, .flags = flag);
	REGISTER(&lingering);
	pthread_create(&threads[0], NULL, call_target, (void *)1L);
	while (!entered)
		sched_yield();
	pthread_create(&threads[1], NULL, let_go, NULL);
	UNREGISTER(&lingering);
	CHECK(has_left);
	memset(&lingering, 0xee, sizeof lingering); /* nobody looks at it any more */
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	printf("wrong %ld\n", wrong);
	return 0;
}
