/* Each thread's jprobe sees that thread's arguments. */
#include "handlers.h"
#include <pthread.h>

enum { THREADS = 6, CALLS = 3000 };
static unsigned long seen[THREADS], wrong;

FUNCTION double target(long who, double a, long n, double b) { KEEP(); return (double)who + a + (double)n + b; }
static double entry(long who, double a, long n, double b)
{
	seen[who]++;
	if (a != (double)n * 2 || b != (double)who)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	ujprobe_return();
	return 0;
}
static void *work(void *argument)
{
	long who = (long)argument;
	for (long n = 0; n < CALLS; n++)
		if (target(who, (double)n * 2, n, (double)who) != (double)(3 * n + 2 * who))
			__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	return NULL;
}

int main(void)
{
	NEED_LIBRARY();
	struct ujprobe probe = { .up = PROBE(target), .entry = ENTRY(entry) };
	pthread_t threads[THREADS];
	REGISTER_AS(ujprobe, &probe);
	for (long i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, work, (void *)i));
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(threads[i], NULL));
	UNREGISTER_AS(ujprobe, &probe);
	for (int i = 0; i < THREADS; i++)
		wrong += seen[i] != CALLS;
	printf("wrong %lu, hits %llu\n", wrong, (unsigned long long)probe.up.nhit);
	return 0;
}
