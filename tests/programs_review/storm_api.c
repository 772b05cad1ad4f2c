/* Four threads run four places all the time; four others register, disable, enable and unregister
 * probes there, whose structs are unmapped as soon as unregister returns. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <uprobe.h>

static volatile int stop;
static volatile long bad;

#define PLACE(n) \
	__attribute__((noinline, noclone)) int place##n(int x) { __asm__ volatile("" : "+r"(x)); return x * 3 + n; }
PLACE(0) PLACE(1) PLACE(2) PLACE(3)
static int (*const places[])(int) = { place0, place1, place2, place3 };
static const char *const names[] = { "place0", "place1", "place2", "place3" };

static void *run(void *arg)
{
	int id = (int)(long)arg;
	while (!stop)
		for (int i = 0; i < 4; i++)
			if (places[(i + id) & 3](i) != i * 3 + ((i + id) & 3))
				__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
	return NULL;
}

struct box { struct uprobe up; unsigned long alive, hits, posts; };

static int pre(struct uprobe *up, struct uprobe_regs *regs)
{
	struct box *box = up->data;
	if (box->alive != 0x600d600d)
		__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&box->hits, 1, __ATOMIC_RELAXED);
	/* Nested: counted as missed at the neighbour's. */
	places[regs->rip & 3](1);
	return 0;
}
static void post(struct uprobe *up, struct uprobe_regs *regs, unsigned long flags)
{
	struct box *box = up->data;
	(void)regs, (void)flags;
	if (box->alive != 0x600d600d)
		__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&box->posts, 1, __ATOMIC_RELAXED);
}

static void *change(void *arg)
{
	int id = (int)(long)arg;
	for (int round = 0; round < 150; round++) {
		struct box *box = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		box->up.symbol_name = names[(round + id) & 3];
		box->up.offset = 0;
		box->up.pre_handler = pre;
		box->up.post_handler = round & 1 ? post : NULL;
		box->up.data = box;
		box->alive = 0x600d600d;
		int result = register_uprobe(&box->up);
		if (result) {
			printf("register %d\n", result);
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
			continue;
		}
		for (int i = 0; i < 2000 && !box->hits; i++)
			sched_yield();
		if (round % 3 == 0) {
			disable_uprobe(&box->up);
			unsigned long before = box->hits, missed = box->up.nmissed;
			for (int i = 0; i < 20; i++)
				sched_yield();
			if (box->hits != before || box->up.nmissed != missed)
				__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
			enable_uprobe(&box->up);
		}
		if (unregister_uprobe(&box->up))
			__atomic_fetch_add(&bad, 1, __ATOMIC_RELAXED);
		munmap(box, 4096);
	}
	return NULL;
}

int main(void)
{
	pthread_t runners[4], changers[4];
	for (long i = 0; i < 4; i++)
		pthread_create(&runners[i], NULL, run, (void *)i);
	for (long i = 0; i < 4; i++)
		pthread_create(&changers[i], NULL, change, (void *)i);
	for (int i = 0; i < 4; i++)
		pthread_join(changers[i], NULL);
	stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(runners[i], NULL);
	printf("bad %ld\n", bad);
	return bad != 0;
}
