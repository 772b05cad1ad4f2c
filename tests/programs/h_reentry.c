/* A hit inside a handler of the same thread is not followed: it is counted in nmissed, and the
 * function runs as if unprobed. Other threads are not concerned. */
#include "handlers.h"
#include <pthread.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long other(long a) { KEEP(); return a + 2; }

static int depth, deepest;
static int recurse(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	if (++depth > deepest)
		deepest = depth;
	if (target(1) != 2 || other(1) != 3)
		printf("a function went wrong inside the handler\n");
	depth--;
	return 0;
}
static int nothing(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
	target(5);
}
static void *thread(void *arg)
{
	for (int i = 0; i < 1000; i++)
		other(i);
	return arg;
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe on_target = PROBE(target, .pre_handler = recurse);
	struct uprobe on_other = PROBE(other, .pre_handler = nothing);
	REGISTER(&on_target);
	REGISTER(&on_other);
	pthread_t another;
	MUST(pthread_create(&another, NULL, thread, NULL));
	for (int i = 0; i < 1000; i++)
		if (target(i) != i + 1)
			printf("wrong result\n");
	MUST(pthread_join(another, NULL));
	printf("target: hits %llu nmissed %llu\n", (unsigned long long)on_target.nhit, (unsigned long long)on_target.nmissed);
	printf("other: hits %llu nmissed %llu\n", (unsigned long long)on_other.nhit, (unsigned long long)on_other.nmissed);
	printf("deepest %d\n", deepest);
	UNREGISTER(&on_target);
	UNREGISTER(&on_other);

	struct uprobe after = PROBE(target, .pre_handler = nothing, .post_handler = post);
	REGISTER(&after);
	for (int i = 0; i < 10; i++)
		target(i);
	printf("from a post_handler: hits %llu nmissed %llu\n", (unsigned long long)after.nhit, (unsigned long long)after.nmissed);
	return 0;
}
