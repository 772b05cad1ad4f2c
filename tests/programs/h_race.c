/* Threads register and unregister probes as fast as they can, at the same few places, while
 * others call the functions all the time. Checked: every call's result; a handler never runs
 * outside its registration; a hit is counted once; at the end the text is what it was. */
#include "handlers.h"
#include <pthread.h>
#include <stdatomic.h>

#define CALLERS 3
#define CHANGERS 3
#define TURNS 300

FUNCTION long one(long a) { KEEP(); return a + 1; }
FUNCTION long two(long a) { volatile long b = a; KEEP(); return b * 2; }
FUNCTION long three(long a) { KEEP(); return a > 10 ? one(a) : two(a); }

static atomic_int stop;
static atomic_long bad, calls_made;

struct registration {
	struct uprobe probe;
	atomic_int live;
	atomic_long ran;
};

static int handler(struct uprobe *probe, struct uprobe_regs *regs)
{
	struct registration *mine = probe->data;
	(void)regs;
	if (!atomic_load(&mine->live))
		atomic_fetch_add(&bad, 1);
	atomic_fetch_add(&mine->ran, 1);
	return 0;
}

static void *caller(void *arg)
{
	long n = 0;
	for (; !atomic_load(&stop); n++) {
		if (one(n) != n + 1 || two(n) != n * 2 || three(20) != 21 || three(5) != 10)
			atomic_fetch_add(&bad, 1000000);
	}
	atomic_fetch_add(&calls_made, n);
	return arg;
}

static void *changer(void *arg)
{
	static const char *const names[] = { "one", "two", "three" };
	struct registration *r = calloc(1, sizeof *r);
	for (int turn = 0; turn < TURNS; turn++) {
		memset(r, 0, sizeof *r);
		r->probe.symbol_name = names[(turn + (long)arg) % 3];
		r->probe.pre_handler = handler;
		r->probe.data = r;
		atomic_store(&r->live, 1);
		if (register_uprobe(&r->probe) != 0)
			atomic_fetch_add(&bad, 1000);
		if (turn % 3 == 0 && (disable_uprobe(&r->probe) != 0 || enable_uprobe(&r->probe) != 0))
			atomic_fetch_add(&bad, 1000);
		one(turn);
		if (unregister_uprobe(&r->probe) != 0)
			atomic_fetch_add(&bad, 1000);
		atomic_store(&r->live, 0);
		if ((unsigned long)atomic_load(&r->ran) != r->probe.nhit)
			atomic_fetch_add(&bad, 1);
	}
	free(r);
	return NULL;
}

int main(void)
{
	NEED_LIBRARY();
	unsigned char before[3][16], after[3][16];
	void *functions[3] = { (void *)one, (void *)two, (void *)three };
	for (int i = 0; i < 3; i++)
		memcpy(before[i], functions[i], 16);
	pthread_t thread[CALLERS + CHANGERS];
	for (long i = 0; i < CALLERS + CHANGERS; i++)
		MUST(pthread_create(&thread[i], NULL, i < CALLERS ? caller : changer, (void *)i));
	for (int i = CALLERS; i < CALLERS + CHANGERS; i++)
		MUST(pthread_join(thread[i], NULL));
	atomic_store(&stop, 1);
	for (int i = 0; i < CALLERS; i++)
		MUST(pthread_join(thread[i], NULL));
	for (int i = 0; i < 3; i++)
		memcpy(after[i], functions[i], 16);
	printf("wrong: %ld\n", atomic_load(&bad));
	printf("callers ran: %s\n", atomic_load(&calls_made) > 0 ? "yes" : "no");
	printf("text restored: %s\n", memcmp(before, after, sizeof before) == 0 ? "yes" : "no");
	return 0;
}
