/* A place that was probed and is not any more holds an int3 of the program's own: it is the program's. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <stdint.h>
#include <ucontext.h>
#include <uprobe.h>

static volatile int trapped;
__attribute__((noinline)) int work(int n) { __asm__ volatile("" : "+r"(n)); return n + 1; }

static void on_trap(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info;
	ucontext_t *uc = context;
	trapped += uc->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)work + 1;
	*(volatile unsigned char *)work = (unsigned char)(uintptr_t)info->si_value.sival_ptr;
	uc->uc_mcontext.gregs[REG_RIP]--;
}
static unsigned char original;
static void on_trap_restore(int signo, siginfo_t *info, void *context)
{
	info->si_value.sival_ptr = (void *)(uintptr_t)original;
	on_trap(signo, info, context);
}

int main(void)
{
	static struct uprobe up = { .symbol_name = "work" };
	struct sigaction action = { .sa_sigaction = on_trap_restore, .sa_flags = SA_SIGINFO };
	sigaction(SIGTRAP, &action, NULL);
	original = *(unsigned char *)work;
	mprotect((void *)((uintptr_t)work & -4096), 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
	int sum = 0;
	for (int i = 0; i < 3; i++) {
		printf("register %d\n", register_uprobe(&up));
		sum += work(i);
		printf("unregister %d\n", unregister_uprobe(&up));
		*(volatile unsigned char *)work = 0xCC;
		sum += work(i);
	}
	printf("trapped %d sum %d nhit %lu\n", trapped, sum, (unsigned long)up.nhit);
	return 0;
}
