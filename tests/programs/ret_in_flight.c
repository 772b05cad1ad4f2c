/* Calls that are under way when their probe goes: they return, and no handler runs; the struct may be
 * used anew at once. Also from the function's own inside, from its handlers, and with many threads. */
#include "handlers.h"
#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 8 };
static sem_t inside, go;
static int handlers;
static struct uretprobe probe;

FUNCTION long wait_inside(long a)
{
	sem_post(&inside);
	while (sem_wait(&go) != 0)
		;
	return a + 1;
}
FUNCTION long unregisters(long a)
{
	printf("from inside: %s\n", error_name(unregister_uretprobe(&probe)));
	return a + 2;
}
FUNCTION long target(long a) { KEEP(); return a + 3; }

static int leave(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri; (void)regs;
	__atomic_add_fetch(&handlers, 1, __ATOMIC_RELAXED);
	return 0;
}
static int leave_and_go(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	leave(ri, regs);
	return unregister_uretprobe(ri->rp);
}
static int enter_and_go(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)regs;
	struct uretprobe *rp = ri->rp;
	unregister_uretprobe(rp);
	memset(rp, 0, sizeof *rp); /* the caller's again */
	return 0;
}
static void *caller(void *argument)
{
	long a = (long)argument;
	return (void *)(wait_inside(a) - a);
}

int main(void)
{
	NEED_LIBRARY();
	pthread_t threads[THREADS];
	MUST(sem_init(&inside, 0, 0));
	MUST(sem_init(&go, 0, 0));
	probe = (struct uretprobe){ .up = PROBE(wait_inside), .handler = leave, .data_size = 100 };
	REGISTER_AS(uretprobe, &probe);
	for (long i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, caller, (void *)i));
	for (int i = 0; i < THREADS; i++)
		while (sem_wait(&inside) != 0)
			;
	printf("under way %llu\n", (unsigned long long)probe.up.nhit);
	UNREGISTER_AS(uretprobe, &probe);
	memset(&probe, 0x5a, sizeof probe);
	/* More of them, so that the library has reason to look at what it keeps. */
	for (int i = 0; i < 100; i++) {
		probe = (struct uretprobe){ .up = PROBE(target), .handler = leave };
		REGISTER_AS(uretprobe, &probe);
		target(i);
		UNREGISTER_AS(uretprobe, &probe);
	}
	printf("handlers %d\n", handlers);
	long right = 0;
	for (int i = 0; i < THREADS; i++)
		sem_post(&go);
	for (int i = 0; i < THREADS; i++) {
		void *result;
		MUST(pthread_join(threads[i], &result));
		right += (long)result == 1;
	}
	printf("returned right %ld, handlers %d\n", right, handlers);

	probe = (struct uretprobe){ .up = PROBE(unregisters), .handler = leave };
	REGISTER_AS(uretprobe, &probe);
	long result = unregisters(1);
	printf("result %ld, handlers %d, hits %llu\n", result, handlers, (unsigned long long)probe.up.nhit);
	probe = (struct uretprobe){ .up = PROBE(target), .handler = leave_and_go };
	REGISTER_AS(uretprobe, &probe);
	result = target(1) + target(1);
	printf("from its handler: %ld, handlers %d, hits %llu\n", result, handlers, (unsigned long long)probe.up.nhit);
	probe = (struct uretprobe){ .up = PROBE(target), .handler = leave, .entry_handler = enter_and_go };
	REGISTER_AS(uretprobe, &probe);
	result = target(1) + target(1);
	printf("from its entry_handler: %ld, handlers %d, hits %llu\n", result, handlers,
	       (unsigned long long)probe.up.nhit);
	sem_post(&go);
	probe = (struct uretprobe){ .up = PROBE(wait_inside), .handler = leave };
	REGISTER_AS(uretprobe, &probe);
	wait_inside(1);
	printf("enabled: handlers %d\n", handlers);
	UNREGISTER_AS(uretprobe, &probe);
	return 0;
}
