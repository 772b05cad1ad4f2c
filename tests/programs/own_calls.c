/* As Free Pascal's runtime: makes its system calls itself, all of them in one function, and takes SIGSEGV so, with a
 * restorer of its own. It repairs faults, finds its handler where it put it, blocks all signals, and ends by
 * exit_group, with a call under way on a stack that is gone. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "left_call.h"

long own_call(long number, ...);
void own_restorer(void);
__asm__(".text\n"
	".globl own_call\n"
	".type own_call, @function\n"
	"own_call:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 2f\n"
	"	ret\n"
	"2:	or $-1, %rax\n"
	"	ret\n"
	".size own_call, . - own_call\n"
	".globl own_restorer\n"
	".type own_restorer, @function\n"
	"own_restorer:\n"
	"	mov $15, %eax\n"
	"	syscall\n"
	".size own_restorer, . - own_restorer\n");

struct action { void *handler; uint64_t flags; void *restorer; uint64_t mask; };

static char *page;
static volatile int repaired;

static void on_segv(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	if ((char *)info->si_addr != page + 8)
		own_call(SYS_exit_group, 3);
	repaired++;
	own_call(SYS_mprotect, page, 4096, PROT_READ | PROT_WRITE);
}

int main(void)
{
	struct action action = { (void *)on_segv, SA_SIGINFO | 0x04000000, (void *)own_restorer, 0 }, now = { 0 };
	uint64_t all = ~0ull, before, during;
	own_call(SYS_rt_sigaction, SIGSEGV, &action, NULL, 8);
	own_call(SYS_rt_sigaction, SIGSEGV, NULL, &now, 8);
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[8] = 1;
	own_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
	own_call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &during, 8);
	puts("signals are blocked");
	own_call(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
	printf("handler %d, repaired %d, blocked %lx\n", now.handler == (void *)on_segv, repaired, (long)during);
	fflush(stdout);

	leave_a_call();
	own_call(SYS_exit_group, 7);
}
