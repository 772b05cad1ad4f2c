/* The function's own first instruction faults past the probe: the program's handler sees the function's
 * address, repairs the register and returns, and the call goes on, not replaced a second time. */
#include "handlers.h"
#include <signal.h>
#include <ucontext.h>

extern long load(long *);
extern long jump(long *);
__asm__(".text\n .globl load, jump\n .type load, @function\n .type jump, @function\n"
	"load: mov (%rdi), %rax\n ret\n .size load, . - load\n"
	"jump: jmp *8(%rdi)\n .size jump, . - jump\n");

static long fine[2] = { 42, 0 };
static long (*original)(long *);
static int calls, faults, foreign;
static long (*probed)(long *);

static long replacement(long *at) { calls++; return original(at); }
static void repair(int signo, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	(void)signo; (void)info;
	faults++;
	foreign += regs[REG_RIP] != (greg_t)(uintptr_t)probed;
	regs[REG_RDI] = (greg_t)(uintptr_t)fine;
}
static void try(const char *name, long (*function)(long *))
{
	calls = faults = foreign = 0;
	probed = function;
	if (uprobe_replace(NULL, name, ENTRY(replacement), (void **)&original))
		exit(1);
	long a = function(fine), b = function(NULL);
	if (uprobe_replace(NULL, name, NULL, NULL))
		exit(1);
	long c = original(NULL);
	printf("%s: %ld %ld %ld, calls %d, faults %d, foreign rip %d\n", name, a, b, c, calls, faults, foreign);
}

int main(void)
{
	NEED_LIBRARY();
	struct sigaction action = { .sa_sigaction = repair, .sa_flags = SA_SIGINFO };
	MUST(sigaction(SIGSEGV, &action, NULL));
	fine[1] = (long)(uintptr_t)load;
	try("load", load);
	try("jump", jump);
	return 0;
}
