/* A stack that overflows in a probed function: the handler on the alternate stack sees the fault at
 * the guard page that it would see without the probe, not the trap's frame that found no room. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf out;
static volatile uintptr_t address, error, trapno;
static volatile int code;
static char *stack;
static volatile long calls;

static void on_fault(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	(void)signo;
	address = (uintptr_t)info->si_addr;
	code = info->si_code;
	error = (uintptr_t)uc->uc_mcontext.gregs[REG_ERR];
	trapno = (uintptr_t)uc->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(out, 1);
}

/* Frames larger than the kernel's: what is left at the end has no room for the trap's frame. */
#pragma GCC diagnostic ignored "-Winfinite-recursion"
__attribute__((noinline, noclone)) int recurse(int n)
{
	volatile char frame[5000];
	frame[0] = (char)n;
	calls++;
	return recurse(n + 1) + frame[0];
}

/* Small ones: here there is room for the frame, and none for the handler behind it. */
__attribute__((noinline, noclone)) int trickle(int n) { calls++; return trickle(n + 1) + n; }
__attribute__((noinline, noclone)) void tick(void) { __asm__ volatile(""); }

static void *run(void *arg)
{
	static char alternate[1 << 16];
	stack_t alt = { .ss_sp = alternate, .ss_size = sizeof alternate };
	sigaltstack(&alt, NULL);
	for (volatile int i = 0; i < 3; i++) {
		calls = 0;
		if (!sigsetjmp(out, 1))
			recurse(0);
		tick();
		printf("round %d: code %d error %lu trap %lu, %ld calls, at the guard %d\n", i, code, (unsigned long)error,
		       (unsigned long)trapno, calls,
		       address >= (uintptr_t)stack - 65536 && address < (uintptr_t)stack);
	}
	for (volatile int i = 0; i < 3; i++) {
		if (!sigsetjmp(out, 1))
			trickle(0);
		tick();
	}
	return arg;
}

int main(void)
{
	char *memory = mmap(NULL, 3 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	stack = memory + (1 << 16);
	mprotect(stack, 1 << 16, PROT_READ | PROT_WRITE);
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	sigaction(SIGSEGV, &action, NULL);
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, stack, 1 << 16);
	pthread_create(&thread, &attr, run, NULL);
	pthread_join(thread, NULL);
	puts("hits tick 6");
	return 0;
}
