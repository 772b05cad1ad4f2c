/* Threads call a function while it is replaced and given back: each call is one or the other, and the
 * replacement finds its `original` from its first call on. */
#include "handlers.h"
#include <pthread.h>
#include <sched.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }

static long (*original)(long);
static volatile int stop;
static unsigned long wrong, own, replaced;

static long replacement(long a)
{
	long (*real)(long) = __atomic_load_n(&original, __ATOMIC_ACQUIRE);
	if (real == NULL) {
		__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
		return 0;
	}
	return real(a) * -1;
}
static void *work(void *argument)
{
	(void)argument;
	for (long a = 1; !stop; a++) {
		long result = target(a);
		if (result == a + 1)
			__atomic_add_fetch(&own, 1, __ATOMIC_RELAXED);
		else if (result == -(a + 1))
			__atomic_add_fetch(&replaced, 1, __ATOMIC_RELAXED);
		else
			__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

int main(void)
{
	enum { THREADS = 4, ROUNDS = 300 };
	NEED_LIBRARY();
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, work, NULL));
	for (int i = 0; i < ROUNDS; i++) {
		if (uprobe_replace(NULL, "target", ENTRY(replacement), (void **)&original))
			wrong++;
		if (target(1) != -2)
			wrong++;
		if (uprobe_replace(NULL, "target", NULL, NULL))
			wrong++;
		if (target(1) != 2)
			wrong++;
	}
	/* However seldom they have run: now they see both. */
	wrong += uprobe_replace(NULL, "target", ENTRY(replacement), (void **)&original) != 0;
	while (__atomic_load_n(&replaced, __ATOMIC_RELAXED) == 0)
		sched_yield();
	wrong += uprobe_replace(NULL, "target", NULL, NULL) != 0;
	while (__atomic_load_n(&own, __ATOMIC_RELAXED) == 0)
		sched_yield();
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(threads[i], NULL));
	printf("wrong %lu\n", wrong);
	return 0;
}
