/* As Go's code runs: on stacks of 2 KiB with other data, not a guard page, below; on threads that have
 * an alternate stack; with system calls of its own. Says how often `compute` was called, and whether anything
 * was written below the small stack that the program didn't write itself. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "left_call.h"

#define CALLS 1000
#define SMALL 2048
#define BELOW 65536
/* What a function may use without asking the runtime (StackSmall), and the little that ours here need. */
#define OWN 512

__attribute__((section(".gopclntab"), used)) static const char table[] = "functions";

__attribute__((noinline)) long compute(long n)
{
	__asm__ volatile("");
	return n * 3 + 1;
}

__asm__(".text\n"
	/* Those that Go's runtime has, with their numbers as it has them. */
	".globl rtsigprocmask\n"
	".type rtsigprocmask, @function\n"
	"rtsigprocmask:\n"
	"	mov %rcx, %r10\n"
	"	mov $14, %eax\n"
	"	syscall\n"
	"	ret\n"
	".size rtsigprocmask, . - rtsigprocmask\n"
	".globl sysSigaction\n"
	".type sysSigaction, @function\n"
	"sysSigaction:\n"
	"	mov %rcx, %r10\n"
	"	mov $13, %eax\n"
	"	syscall\n"
	"	ret\n"
	".size sysSigaction, . - sysSigaction\n"
	".globl sysExit\n"
	".type sysExit, @function\n"
	"sysExit:\n"
	"	mov $231, %eax\n"
	"	syscall\n"
	"	hlt\n"
	".size sysExit, . - sysExit\n"
	/* on_stack(top, function): function() there. */
	".globl on_stack\n"
	".type on_stack, @function\n"
	"on_stack:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	mov %rdi, %rsp\n"
	"	call *%rsi\n"
	"	mov %rbp, %rsp\n"
	"	pop %rbp\n"
	"	ret\n"
	".size on_stack, . - on_stack\n");
long rtsigprocmask(int how, const uint64_t *set, uint64_t *old, size_t size);
long sysSigaction(int signal, const void *action, void *old, size_t size);
void sysExit(int status);
void on_stack(void *top, void (*function)(void));

static long sum;

static void work(void)
{
	uint64_t all = ~0ull, before;
	for (int i = 0; i < CALLS / 2; i++)
		__atomic_fetch_add(&sum, compute(i), __ATOMIC_RELAXED);
	/* As the runtime does around the creation of a thread. */
	if (rtsigprocmask(SIG_SETMASK, &all, &before, 8))
		__atomic_fetch_sub(&sum, 1000000000, __ATOMIC_RELAXED);
	for (int i = 0; i < CALLS / 2; i++)
		__atomic_fetch_add(&sum, compute(i), __ATOMIC_RELAXED);
	rtsigprocmask(SIG_SETMASK, &before, NULL, 8);
}

static char memory[2][BELOW + SMALL] __attribute__((aligned(4096)));

static void *thread(void *which)
{
	char *own = memory[(long)which], alternate[32768];
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
	sigaltstack(&stack, NULL);
	memset(own, 0x5a, sizeof memory[0]);
	on_stack(own + sizeof memory[0], work);
	long touched = 0;
	for (int i = 0; i < BELOW + SMALL - OWN; i++)
		touched += own[i] != 0x5a;
	return (void *)touched;
}

static void on_fault(int signal)
{
	(void)signal;
	sysExit(3);
}

int main(void)
{
	/* What it asks the kernel for itself: is SIGTRAP what it set, and does it stay that? */
	struct { void *handler; uint64_t flags; void *restorer; uint64_t mask; } action = { 0 }, now = { 0 };
	action.handler = SIG_IGN;
	sysSigaction(SIGTRAP, &action, NULL, 8);
	sysSigaction(SIGTRAP, NULL, &now, 8);
	pthread_t threads[2];
	long touched = 0;
	for (long i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, thread, (void *)i);
	for (int i = 0; i < 2; i++) {
		void *result;
		pthread_join(threads[i], &result);
		touched += (long)result;
	}
	printf("ignored %d, below %ld, sum %ld\nhits compute %d\n", now.handler == SIG_IGN, touched, sum, 2 * CALLS);
	fflush(stdout);
	/* So that faults go to the alternate stack, on which the process ends. */
	struct sigaction faults = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_sp = malloc(BELOW), .ss_size = BELOW };
	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &faults, NULL);
	leave_a_call();
	sysExit(7);
}
