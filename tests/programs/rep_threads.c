/* Threads call a function while it is replaced and given back: each call is one or the other, and the
 * replacement finds its `original` from its first call on. */
#include "handlers.h"
#include <pthread.h>

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
	unsigned long mine = 0, others = 0;
	(void)argument;
	for (long a = 1; !stop; a++) {
		long result = target(a);
		if (result == a + 1)
			mine++;
		else if (result == -(a + 1))
			others++;
		else
			__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	}
	__atomic_add_fetch(&own, mine, __ATOMIC_RELAXED);
	__atomic_add_fetch(&replaced, others, __ATOMIC_RELAXED);
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
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(threads[i], NULL));
	printf("wrong %lu, both seen: %s\n", wrong, own && replaced ? "yes" : "no");
	return 0;
}
