/* One probe after the other is switched on and off while threads run there, entering at its place, and at
 * the instructions behind it that a jump covers. Each call's result is checked; the toggling thread
 * checks between the turns that its own calls are hit, all or none.
 *   toggle TURNS [storm] [int3]   TURNS for all windows together; with signals all the while
 */
#include "handlers.h"
#include "windows.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

enum { INPUTS = 4 };
static struct window const *_Atomic current;
static atomic_int stop;
static atomic_long bad_results, bad_handlers, calls, inner_calls;
static _Thread_local unsigned long mine;
/* By offset of entry, and input. */
static long expected[512][5][INPUTS];

static int handler(struct uprobe *probe, struct uprobe_regs *regs)
{
	if (regs->rip != (uint64_t)(uintptr_t)probe->addr || regs->rbx != regs->rip ||
	    *(uint64_t *)(uintptr_t)regs->rsp != (uint64_t)(uintptr_t)call_window_back)
		atomic_fetch_add(&bad_handlers, 1);
	mine++;
	return 0;
}

static void check(const struct window *w, int boundary, int offset, unsigned input)
{
	if (call_window(w->start + offset, input, 7) != expected[w - window_table][boundary][input])
		atomic_fetch_add(&bad_results, 1);
}

static void *caller(void *arg)
{
	long n = 0;
	for (; !atomic_load(&stop); n++)
		check(atomic_load(&current), 0, 0, n % INPUTS);
	atomic_fetch_add(&calls, n);
	return arg;
}

static void *inner_caller(void *arg)
{
	long n = 0;
	while (!atomic_load(&stop)) {
		const struct window *w = atomic_load(&current);
		int offsets[5], count = boundaries(w, offsets);
		for (int i = 1; i < count; i++, n++)
			check(w, i, offsets[i], n % INPUTS);
	}
	atomic_fetch_add(&inner_calls, n);
	return arg;
}

/* What stands at the boundaries inside a jump. */
static struct { long jumps, others, kept, int3, undefined; } seen;

static void look(const struct window *w, const unsigned char *original)
{
	int offsets[5], count = boundaries(w, offsets);
	if (w->start[0] != 0xe9) {
		seen.others++;
		return;
	}
	seen.jumps++;
	for (int i = 1; i < count; i++) {
		unsigned char byte = w->start[offsets[i]];
		if (byte == original[offsets[i]])
			seen.kept++;
		else if (byte == 0xcc)
			seen.int3++;
		else
			seen.undefined++;
	}
}

static long wrong_counts;
static void expect_hits(const struct window *w, unsigned long hits)
{
	unsigned long before = mine;
	for (unsigned i = 0; i < INPUTS; i++)
		check(w, 0, 0, i);
	wrong_counts += mine - before != hits;
}

static void toggle(const struct window *w, long turns, uint32_t flags)
{
	struct uprobe probe;
	unsigned char original[16];
	memcpy(original, w->start, sizeof original);
	atomic_store(&current, w);
	for (long turn = 0; turn < turns; turn++) {
		if (turn % 64 == 0) {
			memset(&probe, 0, sizeof probe);
			probe.addr = w->start;
			probe.pre_handler = handler;
			probe.flags = flags;
			REGISTER(&probe);
		} else {
			MUST(enable_uprobe(&probe));
		}
		if (turn % 16 == 0) {
			expect_hits(w, INPUTS);
			look(w, original);
		}
		if (turn % 64 == 63 || turn == turns - 1)
			UNREGISTER(&probe);
		else
			MUST(disable_uprobe(&probe));
		if (turn % 16 == 0)
			expect_hits(w, 0);
	}
	wrong_counts += memcmp(original, w->start, sizeof original) != 0;
}

static atomic_long signals_seen;
static void on_signal(int signal) { (void)signal; atomic_fetch_add(&signals_seen, 1); }

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	long turns = argc > 1 ? atol(argv[1]) : 1000, count = window_table_end - window_table;
	uint32_t flags = argc > 2 && !strcmp(argv[argc - 1], "int3") ? UPROBE_FLAG_INT3 : 0;
	int storm = argc > 2 && !strcmp(argv[2], "storm");
	for (long i = 0; i < count; i++) {
		int offsets[5], n = boundaries(&window_table[i], offsets);
		for (int k = 0; k < n; k++)
			for (unsigned input = 0; input < INPUTS; input++)
				expected[i][k][input] = call_window(window_table[i].start + offsets[k], input, 7);
	}
	atomic_store(&current, window_table);
	if (storm) {
		struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
		struct itimerval every = { { 0, 500 }, { 0, 500 } };
		MUST(sigaction(SIGALRM, &action, NULL));
		MUST(setitimer(ITIMER_REAL, &every, NULL));
	}
	pthread_t thread[3];
	for (int i = 0; i < 3; i++)
		MUST(pthread_create(&thread[i], NULL, i < 2 ? caller : inner_caller, NULL));
	for (long i = 0; i < count; i++)
		toggle(&window_table[i], turns / count + 1, flags);
	/* And one of them as often as all of those together. */
	toggle(window_table_end - 1, turns, flags);
	atomic_store(&stop, 1);
	for (int i = 0; i < 3; i++)
		MUST(pthread_join(thread[i], NULL));
	printf("wrong results: %ld\nwrong handlers: %ld\nwrong counts: %ld\n", atomic_load(&bad_results),
	       atomic_load(&bad_handlers), wrong_counts);
	printf("threads ran: %s\n", atomic_load(&calls) > 0 && atomic_load(&inner_calls) > 0 ? "yes" : "no");
	printf("jumps %ld others %ld kept %ld int3 %ld undefined %ld\n", seen.jumps, seen.others, seen.kept,
	       seen.int3, seen.undefined);
	fprintf(stderr, "calls %ld, inside %ld, signals %ld\n", atomic_load(&calls), atomic_load(&inner_calls),
	        atomic_load(&signals_seen));
	return 0;
}
