/* Three handlers in three threads, each of which unregisters the next one's probe: nobody waits for ever. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include <uprobe.h>

#define PLACE(n) __attribute__((noinline, noclone)) void place##n(void) { __asm__ volatile("nop; nop"); }
PLACE(0) PLACE(1) PLACE(2)
static void (*const places[])(void) = { place0, place1, place2 };
static struct uprobe up[3];
static pthread_barrier_t barrier;
static int results[3];

static int pre(struct uprobe *self, struct uprobe_regs *regs)
{
	long id = self - up;
	(void)regs;
	pthread_barrier_wait(&barrier);
	results[id] = unregister_uprobe(&up[(id + 1) % 3]);
	return 0;
}
static void *run(void *arg) { places[(long)arg](); return NULL; }

int main(void)
{
	static const char *const names[] = { "place0", "place1", "place2" };
	pthread_t threads[3];
	alarm(10);
	pthread_barrier_init(&barrier, NULL, 3);
	for (int i = 0; i < 3; i++) {
		up[i].symbol_name = names[i];
		up[i].pre_handler = pre;
		printf("register %d\n", register_uprobe(&up[i]));
	}
	for (long i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, run, (void *)i);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	printf("results %d %d %d\n", results[0], results[1], results[2]);
	return 0;
}
