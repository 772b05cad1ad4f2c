/* A program that forbids itself the time stamp counter, and reads it all the same. */
#include "check.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <x86intrin.h>

FUNCTION int work(int a) { KEEP(); return a + 1; }

static sigjmp_buf back;
static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	siglongjmp(back, info->si_code);
}

static void try_it(const char *who)
{
	int code = sigsetjmp(back, 1);
	if (code == 0)
		printf("%s: counter %d\n", who, __rdtsc() != 0);
	else
		printf("%s: fault %#x\n", who, code);
	fflush(stdout);
}

static void *other(void *unused)
{
	for (int i = 0; i < 1000; i++)
		work(i);
	try_it("a thread");
	return unused;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	sigaction(SIGSEGV, &action, NULL);
	try_it("before");
	printf("prctl %d\n", prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
	for (int i = 0; i < 1000; i++)
		work(i);
	try_it("after");
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, other, NULL));
	pthread_join(thread, NULL);
	TELL("exe:work", 2000);
	return 0;
}
