/* A handler that takes 10 ms, while other threads hit other probes and the same one, and while
 * somebody waits in unregister for it to be done. */
#include "handlers.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long quick(long a) { KEEP(); return a + 2; }

static atomic_int running, ran;
static atomic_bool ended;
static int slow(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	atomic_fetch_add(&running, 1);
	struct timespec wait = { 0, 10 * 1000 * 1000 };
	while (nanosleep(&wait, &wait) != 0)
		;
	if (atomic_load(&ended))
		printf("a handler runs after unregister\n");
	atomic_fetch_sub(&running, 1);
	atomic_fetch_add(&ran, 1);
	return 0;
}
static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void *calls(void *arg)
{
	for (int i = 0; i < 20; i++)
		target(i);
	return arg;
}
static void *quick_calls(void *arg)
{
	for (int i = 0; i < 2000; i++)
		quick(i);
	return arg;
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe probe = PROBE(target, .pre_handler = slow), beside = PROBE(quick, .pre_handler = fine);
	REGISTER(&probe);
	REGISTER(&beside);
	pthread_t thread[4];
	for (int i = 0; i < 4; i++)
		MUST(pthread_create(&thread[i], NULL, i < 3 ? calls : quick_calls, NULL));
	while (atomic_load(&ran) < 5)
		;
	UNREGISTER(&probe);
	int inside = atomic_load(&running);
	atomic_store(&ended, 1);
	printf("inside a handler when unregister returned: %d\n", inside);
	for (int i = 0; i < 4; i++)
		MUST(pthread_join(thread[i], NULL));
	printf("ran as often as counted: %s\n", (unsigned long long)atomic_load(&ran) == probe.nhit ? "yes" : "no");
	printf("quick: hits %llu\n", (unsigned long long)beside.nhit);
	return 0;
}
