/* odd CHECK: programs that do with signals and the processor what debuggers, collectors and runtimes do. */
#include "signals.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>

static volatile int works;
FUNCTION int work(int a) { KEEP(); works++; return a + 1; }

/* The trap flag: the program steps through its own code and counts the instructions of it. Calls of probed
 * functions lie outside of what is stepped: their code is another one. */
static volatile int steps;
static volatile int stepping_code;
static void on_step(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)context;
	steps++;
	stepping_code = info->si_code;
}
static void check_stepping(void)
{
	handle(SIGTRAP, on_step, 0, none());
	for (int i = 0; i < 3; i++) {
		work(i);
		__asm__ volatile(
			"pushfq\n orl $0x100, (%%rsp)\n popfq\n"
			"nop\n nop\n mov $5, %%eax\n 1: dec %%eax\n jnz 1b\n"
			"pushfq\n andl $~0x100, (%%rsp)\n popfq\n nop\n nop\n" ::: "rax", "cc", "memory");
		printf("steps %d code %d\n", steps, stepping_code);
	}
}

/* The flag set in the context, cleared after a number of steps: by handler. */
static int most;
static void step_on(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)signo, (void)info;
	steps++;
	if (steps < most)
		uc->uc_mcontext.gregs[REG_EFL] |= 0x100;
	else
		uc->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}
static void check_stepping_by_context(void)
{
	handle(SIGTRAP, step_on, 0, none());
	for (most = 1; most < 6; most++) {
		steps = 0;
		__asm__ volatile("int3\n nop\n nop\n nop\n nop\n nop\n nop\n" ::: "memory");
		printf("most %d steps %d\n", most, steps);
	}
}

/* Own breakpoints, planted into a page of code and taken away again. */
static unsigned char *code;
static unsigned char kept;
static volatile int hits;
static void on_breakpoint(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)signo;
	unsigned char *at = (unsigned char *)uc->uc_mcontext.gregs[REG_RIP] - 1;
	hits++;
	printf("  at %td code %d\n", at - code, info->si_code);
	*at = kept;
	uc->uc_mcontext.gregs[REG_RIP]--;
}
static void check_own_breakpoints(void)
{
	static const unsigned char text[] = { 0x8d, 0x47, 0x01, 0x83, 0xc0, 0x02, 0xc3 }; /* lea 1(%rdi),%eax; add $2,%eax; ret */
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, text, sizeof text);
	handle(SIGTRAP, on_breakpoint, 0, none());
	static const int at[] = { 0, 3, 6 };
	for (int i = 0; i < COUNT(at); i++) {
		kept = code[at[i]];
		code[at[i]] = 0xcc;
		printf("%d\n", ((int (*)(int))code)(work(4)));
		printf("%d\n", ((int (*)(int))code)(work(5)));
	}
	printf("hits %d\n", hits);
}

/* A collector's write barrier and its read barrier: pages are opened by the handler. */
enum { PAGES = 64 };
static char *heap;
static volatile int opened;
static int protection;
static void open_page(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)context;
	opened++;
	MUST(mprotect((void *)((uintptr_t)info->si_addr & ~4095ul), 4096, protection));
}
static void check_barriers(void)
{
	heap = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	handle(SIGSEGV, open_page, 0, none());
	protection = PROT_READ | PROT_WRITE;
	for (int round = 0; round < 4; round++) {
		long sum = 0;
		MUST(mprotect(heap, PAGES * 4096, round & 1 ? PROT_NONE : PROT_READ));
		/* By our own code, and by libc's. */
		for (int i = 0; i < PAGES; i++)
			if (i % 4 == 0)
				memset(heap + i * 4096 + 100, i, 300);
			else if (i % 4 == 1)
				snprintf(heap + i * 4096 + 100, 300, "page %d", i);
			else if (i % 4 == 2)
				memcpy(heap + i * 4096 + 100, heap + (i - 1) * 4096 + 100, 300);
			else
				heap[i * 4096 + 100] = (char)work(i);
		for (int i = 0; i < PAGES; i++)
			sum += heap[i * 4096 + 100] + (long)strlen(heap + i * 4096 + 100) % 100;
		printf("opened %d sum %ld\n", opened, sum);
	}
}

/* Calls on a stack switched by hand. What is there is all there is. */
__asm__(".text\n .type call_on, @function\n call_on: push %rbp\n mov %rsp, %rbp\n mov %rdx, %rsp\n mov %rsi, %rax\n"
	"call *%rax\n leave\n ret\n .size call_on, . - call_on\n");
extern int call_on(int argument, int (*function)(int), void *top);
static int many(int n) { for (int i = 0; i < n; i++) work(i); return works; }
static void check_stack_by_hand(void)
{
	for (int size = 8192; size <= 65536; size *= 2) {
		char *stack = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		MUST(mprotect(stack, 4096, PROT_NONE));
		printf("size %d works %d\n", size, call_on(100, many, stack + size + 4096));
	}
}

/* A stack inside of an array, and an alternate stack that is one. */
static char inner[65536] __attribute__((aligned(16)));
static char alternate[65536];
static void on_alternate(int signo, siginfo_t *info, void *context)
{
	(void)info, (void)context;
	char here;
	works++;
	printf("in %s on it %d works %d\n", name_of(signo), &here >= alternate && &here < alternate + sizeof alternate, many(10));
}
static void check_stacks_in_arrays(void)
{
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
	MUST(sigaltstack(&stack, NULL));
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_alternate, SA_ONSTACK, none());
	for (int i = 0; i < COUNT(others); i++)
		handle(others[i], on_alternate, SA_ONSTACK, none());
	for (int i = 0; i < COUNT(five); i++)
		raise(five[i]);
	for (int i = 0; i < COUNT(others); i++)
		raise(others[i]);
	/* Blocked first, delivered by the change of the mask. */
	for (int i = 0; i < COUNT(five); i++) {
		block_only(set_of(five[i], 0, 0));
		raise(five[i]);
		block_only(none());
	}
	printf("in an array %d\n", call_on(100, many, inner + sizeof inner));
}

/* Handlers that switch to another thread of control, and come back later. */
static ucontext_t scheduler, tasks[4];
static char task_stacks[4][65536];
static int current;
static volatile int done;
static void on_tick(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info, (void)context;
	swapcontext(&tasks[current], &scheduler);
}
static void task(int number)
{
	for (int i = 0; i < 100; i++)
		work(number);
	for (int i = 0; i < 5; i++) {
		raise(SIGUSR1);
		raise(SIGTRAP);
		work(number);
	}
	done++;
	swapcontext(&tasks[number], &scheduler);
}
static void check_preempted_contexts(void)
{
	handle(SIGUSR1, on_tick, 0, none());
	handle(SIGTRAP, on_tick, 0, set_of(SIGFPE, 0, 0));
	for (int i = 0; i < 4; i++) {
		getcontext(&tasks[i]);
		tasks[i].uc_stack.ss_sp = task_stacks[i];
		tasks[i].uc_stack.ss_size = sizeof task_stacks[i];
		makecontext(&tasks[i], (void (*)(void))task, 1, i);
	}
	for (int round = 0; done < 4; round++) {
		current = round % 4;
		swapcontext(&scheduler, &tasks[current]);
		if (round < 6)
			print_mask("scheduler");
	}
	printf("works %d\n", works);
	print_mask("at the end");
}

/* A debugger of its own children: steps, breakpoints, registers. */
static void check_tracer(void)
{
	fflush(stdout);
	signal(SIGUSR1, SIG_IGN);
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		work(1);
		raise(SIGUSR1);
		raise(SIGTRAP);
		__asm__ volatile("int3");
		_exit(7);
	}
	int status;
	for (int stops = 0; waitpid(child, &status, 0) == child && WIFSTOPPED(status) && stops < 50; stops++) {
		int signo = WSTOPSIG(status);
		siginfo_t info;
		MUST(ptrace(PTRACE_GETSIGINFO, child, 0, &info));
		/* Ours are hidden from nobody who debugs: only what the child raised itself is told. */
		if (signo != SIGTRAP || info.si_code == SI_TKILL)
			printf("stopped by %s\n", name_of(signo));
		int pass = signo == SIGSTOP || (signo == SIGTRAP && info.si_code == SI_TKILL) ? 0 : signo;
		if (signo == SIGTRAP && info.si_code == SI_KERNEL && stops > 40)
			break;
		ptrace(PTRACE_CONT, child, 0, pass);
	}
	printf("ended %#x\n", (unsigned)status);
}

int main(int argc, char **argv)
{
	static const struct check checks[] = {
		CHECK(stepping), CHECK(stepping_by_context), CHECK(own_breakpoints), CHECK(barriers), CHECK(stack_by_hand),
		CHECK(stacks_in_arrays), CHECK(preempted_contexts), CHECK(tracer),
	};
	return run_checks(checks, COUNT(checks), argc, argv);
}
