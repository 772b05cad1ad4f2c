/* Eight threads register, hit and unregister their own probes at one place: the counts of each
 * are bounded exactly: at least its own thread's calls, at most everybody's. */
#include "handlers.h"
#include <pthread.h>
#include <stdatomic.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }
static atomic_long started, done;
static atomic_long bad;
static pthread_barrier_t all;

static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void *run(void *arg)
{
	struct uprobe probe = PROBE(target, .pre_handler = fine);
	pthread_barrier_wait(&all);
	for (int turn = 0; turn < 20; turn++) {
		memset(&probe, 0, sizeof probe);
		probe.symbol_name = "target";
		probe.pre_handler = fine;
		long before = atomic_load(&done);
		if (register_uprobe(&probe) != 0)
			atomic_fetch_add(&bad, 1);
		for (int i = 0; i < 200; i++) {
			atomic_fetch_add(&started, 1);
			target(i);
			atomic_fetch_add(&done, 1);
		}
		if (unregister_uprobe(&probe) != 0)
			atomic_fetch_add(&bad, 1);
		long after = atomic_load(&started);
		if (probe.nhit < 200 || probe.nhit > (unsigned long)(after - before) || probe.nmissed != 0)
			atomic_fetch_add(&bad, 1);
	}
	return arg;
}

int main(void)
{
	NEED_LIBRARY();
	pthread_t thread[8];
	MUST(pthread_barrier_init(&all, NULL, 8));
	for (int i = 0; i < 8; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	for (int i = 0; i < 8; i++)
		MUST(pthread_join(thread[i], NULL));
	printf("out of bounds: %ld\n", atomic_load(&bad));
	printf("calls: %ld\n", atomic_load(&done));
	return 0;
}
