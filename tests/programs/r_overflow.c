/* The stack overflows in followed calls; the handler leaves them: r_overflow ROUNDS. How deep it came is
 * nobody's business. */
#include "returns.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf back;
static long rounds;

FUNCTION long down(long n)
{
	volatile char room[200];
	room[n & 127] = (char)n;
	long below = n < 0 ? 0 : down(n + 1 + (room[5] & 0));
	KEEP();
	return below + room[3];
}
static void on_overflow(int signo)
{
	siglongjmp(back, signo);
}
static void *run(void *arg)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	MUST(sigaltstack(&alternate, NULL));
	struct sigaction action = { .sa_handler = on_overflow, .sa_flags = SA_ONSTACK };
	MUST(sigaction(SIGSEGV, &action, NULL));
	for (volatile long i = 0; i < rounds; i++) {
		int signo = sigsetjmp(back, 1);
		if (signo == 0)
			down(0);
		EXPECT(signo, SIGSEGV);
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_attr_t attr;
	pthread_t thread;
	rounds = argc > 1 ? atol(argv[1]) : 50;
	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setstacksize(&attr, 262144));
	MUST(pthread_create(&thread, &attr, run, NULL));
	MUST(pthread_join(thread, NULL));
	printf("%ld overflows\n", rounds);
	return 0;
}
