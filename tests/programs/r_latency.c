/* Calls that take at least as long as they say: r_latency nested | recursion | threads. */
#include "returns.h"
#include <pthread.h>
#include <string.h>
#include <time.h>

static void pass(long ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
		;
}

FUNCTION void c(void) { pass(40); KEEP(); }
FUNCTION void b(void) { pass(20); c(); c(); KEEP(); }
FUNCTION void a(void) { pass(10); b(); KEEP(); }

FUNCTION long deep(long n)
{
	pass(n == 0 ? 1 : 20);
	long below = n == 0 ? 0 : deep(n - 1);
	KEEP();
	return below + n;
}
static void *run(void *arg)
{
	EXPECT(deep((long)arg), (long)arg * ((long)arg + 1) / 2);
	return NULL;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "nested";
	if (strcmp(way, "nested") == 0) {
		for (int i = 0; i < 3; i++)
			a();
		RETURNED("a", 3);
		RETURNED("b", 3);
		RETURNED("c", 6);
	} else if (strcmp(way, "recursion") == 0) {
		run((void *)4);
		RETURNED("deep", 5);
	} else {
		pthread_t thread[8];
		for (long i = 0; i < 8; i++)
			MUST(pthread_create(&thread[i], NULL, run, (void *)4));
		for (long i = 0; i < 8; i++)
			MUST(pthread_join(thread[i], NULL));
		RETURNED("deep", 40);
	}
	return 0;
}
