/* One probe is switched on and off while two threads call its function, which lies across a cache line or
 * a page. Hits are calls made while it was on: each that began after it was on and was over before it was
 * switched off, and none that was over before or began behind.
 *   toggle_bounds line|page TURNS
 */
#include "handlers.h"
#include <pthread.h>
#include <stdatomic.h>

/* The bytes of the jump lie on both sides; threads may stand at each instruction inside it. */
#define PLACED(name, at) \
	".balign 4096\n.skip " #at "\n.globl " #name "\n.type " #name ", @function\n" \
	#name ": push %rbp; mov %rsp, %rbp; lea 7(%rdi), %rax; pop %rbp; ret\n.size " #name ", . - " #name "\n"
__asm__(".text\n" PLACED(over_line, 64 * 5 - 3) PLACED(over_page, 4096 - 3));
long over_line(long), over_page(long);

struct caller { _Alignas(128) atomic_long began, over; long wrong; pthread_t thread; };
static struct caller callers[2];
static long (*function)(long);
static atomic_int stop;
static _Alignas(128) atomic_long hits;

static int handler(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	atomic_fetch_add(&hits, 1);
	return 0;
}

static void *call(void *arg)
{
	struct caller *self = arg;
	for (long n = 0; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
		atomic_fetch_add(&self->began, 1);
		self->wrong += function(n) != n + 7;
		atomic_fetch_add(&self->over, 1);
	}
	return NULL;
}

static long sum(int over)
{
	return atomic_load(over ? &callers[0].over : &callers[0].began) +
	       atomic_load(over ? &callers[1].over : &callers[1].began);
}

int main(int argc, char **argv)
{
	static struct uprobe probe;
	long turns, least = 0, most = 0, wrong = 0, jumps = 0;
	NEED_LIBRARY();
	if (argc < 3)
		return 2;
	function = !strcmp(argv[1], "page") ? over_page : over_line;
	turns = atol(argv[2]);
	for (int i = 0; i < 2; i++)
		MUST(pthread_create(&callers[i].thread, NULL, call, &callers[i]));
	while (!atomic_load(&callers[0].over) || !atomic_load(&callers[1].over))
		sched_yield();
	for (long turn = 0; turn < turns; turn++) {
		/* One of eight turns by register and unregister. */
		int first = turn % 8 == 0, last = turn % 8 == 7 || turn == turns - 1;
		long over_before = sum(1);
		if (first) {
			memset(&probe, 0, sizeof probe);
			probe.addr = (void *)function;
			probe.pre_handler = handler;
			REGISTER(&probe);
		} else {
			MUST(enable_uprobe(&probe));
		}
		long began_on = sum(0);
		jumps += *(volatile unsigned char *)(void *)function == 0xe9;
		/* Sometimes long enough for the others to have their turn. */
		if (turn % 16 == 0)
			for (long spins = 0; sum(1) < began_on + 10 && spins < 1000000; spins++)
				__builtin_ia32_pause();
		long over_on = sum(1);
		if (last)
			UNREGISTER(&probe);
		else
			MUST(disable_uprobe(&probe));
		long began_after = sum(0);
		least += over_on > began_on ? over_on - began_on : 0;
		most += began_after - over_before;
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 2; i++) {
		MUST(pthread_join(callers[i].thread, NULL));
		wrong += callers[i].wrong;
	}
	long counted = atomic_load(&hits);
	printf("wrong results: %ld\nwithin bounds: %s\nhits: %s\njumps: %s\n", wrong,
	       least <= counted && counted <= most ? "yes" : "no", least > 0 && counted > 0 ? "yes" : "no",
	       jumps == turns ? "all" : jumps ? "some" : "none");
	fprintf(stderr, "%ld <= %ld <= %ld of %ld calls\n", least, counted, most, sum(1));
	return 0;
}
