/* The probed instruction itself faults. The fault_handler is told, with the original registers;
 * where it repairs and says 1 the program goes on, where it says 0 or there is none the program's
 * own handler sees the fault as if there were no probe. One execution is one hit. */
#include "handlers.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

extern void store(volatile int *where, int what);
extern char at_store[], after_store[];
__asm__(".text\n .globl store, at_store, after_store\n .type store, @function\n"
	"store: nop\n at_store: movl %esi, (%rdi)\n after_store: ret\n .size store, . - store\n");

static char *page;
static int faults, signals, rip_right, addr_right;
static sigjmp_buf out;

static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static int repair(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	faults += signo == SIGSEGV;
	rip_right = regs->rip == (uint64_t)(uintptr_t)probe->addr;
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
	return 1;
}
static int step_over(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	(void)probe;
	faults += signo == SIGSEGV;
	regs->rip = (uint64_t)(uintptr_t)after_store;
	return 1;
}
static int not_mine(struct uprobe *probe, struct uprobe_regs *regs, int signo)
{
	(void)probe;
	(void)regs;
	faults += signo == SIGSEGV;
	return 0;
}
static void on_segv(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)signo;
	signals++;
	rip_right = uc->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)at_store;
	addr_right = info->si_addr == page + 16;
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}
static void on_segv_jump(int signo)
{
	(void)signo;
	signals++;
	siglongjmp(out, 1);
}

static void try(const char *what, uprobe_fault_handler_t handler, void (*segv)(int), int post)
{
	struct uprobe probe = { .addr = at_store, .pre_handler = fine, .fault_handler = handler };
	(void)post;
	faults = signals = rip_right = addr_right = 0;
	mprotect(page, 4096, PROT_READ);
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	action.sa_sigaction = on_segv;
	if (segv) {
		action.sa_flags = 0;
		action.sa_handler = segv;
	}
	MUST(sigaction(SIGSEGV, &action, NULL));
	REGISTER(&probe);
	if (sigsetjmp(out, 1) == 0)
		store((int *)(page + 16), 7);
	int first = *(int *)(page + 16);
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
	store((int *)(page + 16), 8);
	printf("%s: wrote %d then %d, hits %llu, fault_handler %d, SIGSEGV %d, rip %d, si_addr %d\n", what, first,
	       *(int *)(page + 16), (unsigned long long)probe.nhit, faults, signals, rip_right, addr_right);
	UNREGISTER(&probe);
	*(int *)(page + 16) = 0;
}

int main(void)
{
	NEED_LIBRARY();
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	try("repaired by the fault_handler", repair, NULL, 0);
	try("stepped over by it", step_over, NULL, 0);
	try("not its own", not_mine, NULL, 0);
	try("no fault_handler", NULL, NULL, 0);
	try("left by siglongjmp", NULL, on_segv_jump, 0);
	try("left by siglongjmp, asked first", not_mine, on_segv_jump, 0);
	return 0;
}
