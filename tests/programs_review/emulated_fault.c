/* Faults of instructions that are emulated show the program a processor's fault, not the trap's. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

static char *page, *usable;
static volatile int faults;

static void on_fault(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;
	printf("signal %d code %d address %ld error %lld trap %lld cr2 %ld\n", signo, info->si_code,
	       (long)((char *)info->si_addr - page), r[REG_ERR], r[REG_TRAPNO], (long)(r[REG_CR2] - (uintptr_t)page));
	if (++faults > 8)
		_Exit(1);
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

/* push, call, pop, ret with rsp in the page: on another stack for one instruction. */
void push_there(char *sp);
void call_there(char *sp);
void pop_there(char *sp);
__asm__(".text\n.globl push_there, push_insn, call_there, call_insn, pop_there, pop_insn\n"
	".type push_there,@function\npush_there: mov %rsp, %rcx\n mov %rdi, %rsp\n"
	"push_insn: push %rax\n mov %rcx, %rsp\n ret\n.size push_there, .-push_there\n"
	".type call_there,@function\ncall_there: mov %rsp, %rcx\n mov %rdi, %rsp\n"
	"call_insn: call 1f\n1: mov %rcx, %rsp\n ret\n.size call_there, .-call_there\n"
	".type pop_there,@function\npop_there: mov %rsp, %rcx\n mov %rdi, %rsp\n"
	"pop_insn: pop %rax\n mov %rcx, %rsp\n ret\n.size pop_there, .-pop_there\n");

int main(void)
{
	static char alternate[1 << 16];
	stack_t alt = { .ss_sp = alternate, .ss_size = sizeof alternate };
	sigaltstack(&alt, NULL);
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaction(SIGSEGV, &action, NULL);
	/* A usable page under and over the one that faults: the trap's own frame fits. */
	usable = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page = usable + 3 * 4096;
	mprotect(page, 4096, PROT_NONE);
	push_there(page + 8);
	mprotect(page, 4096, PROT_READ);
	push_there(page + 8);
	mprotect(page, 4096, PROT_READ);
	call_there(page + 8);
	mprotect(page, 4096, PROT_NONE);
	pop_there(page);
	puts("hits push_insn 2\nhits call_insn 1\nhits pop_insn 1");
	return 0;
}
