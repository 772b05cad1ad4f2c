/* newcomer: a SIGTRAP sent to each of many threads about when it runs into its first breakpoint. It was lost there, as the
 * kernel keeps one for a thread at a time, and who had not hit anything yet could not be told. */
#include "signals.h"
#include <pthread.h>

static __thread volatile int seen;
static volatile int sent;
static void on_trap(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)info, (void)context;
	seen = seen + 1;
}
FUNCTION int work(int a) { KEEP(); return a + 1; }

static void *newcomer(void *unused)
{
	(void)unused;
	/* A lost one will not be there after any number of turns. */
	for (long behind = 0; !seen && behind < 100000; behind += sent)
		work(1);
	return (void *)(long)seen;
}

int main(void)
{
	long wrong = 0;
	handle(SIGTRAP, on_trap, SA_RESTART, none());
	for (int i = 0; i < 4000; i++) {
		pthread_t thread;
		void *result;
		sent = 0;
		MUST(pthread_create(&thread, NULL, newcomer, NULL));
		for (volatile int turns = i % 100 * 150; turns > 0; turns--) { }
		MUST(pthread_kill(thread, SIGTRAP));
		sent = 1;
		MUST(pthread_join(thread, &result));
		wrong += result != (void *)1;
	}
	printf("wrong %ld\n", wrong);
	return 0;
}
