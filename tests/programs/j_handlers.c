/* A handler that runs probed functions from the middle: the traps that stand there are no fault of its own. And
 * calls that go elsewhere, or back, by what handlers write into the registers. */
#include "handlers.h"
#include "windows.h"

FUNCTION long trigger(long a) { KEEP(); return a + 1; }
FUNCTION long other(long a) { KEEP(); return a + 1000; }

static long wrong, entries, undefined, int3, jumps;
static long expected[512][5];
static struct uprobe probes[512];

static int count(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }

static void enter_all(void)
{
	for (long i = 0; i < window_table_end - window_table; i++) {
		int offsets[5], n = boundaries(&window_table[i], offsets);
		for (int k = 0; k < n; k++, entries++)
			wrong += call_window(window_table[i].start + offsets[k], 3, 7) != expected[i][k];
	}
}

static int enter(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	enter_all();
	return 0;
}

static int divert(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rip = (uint64_t)(uintptr_t)other;
	regs->rdi += 5;
	return 1;
}

int main(void)
{
	NEED_LIBRARY();
	long n = window_table_end - window_table;
	for (long i = 0; i < n; i++) {
		int offsets[5], count_ = boundaries(&window_table[i], offsets);
		unsigned char original[5];
		memcpy(original, window_table[i].start, 5);
		for (int k = 0; k < count_; k++)
			expected[i][k] = call_window(window_table[i].start + offsets[k], 3, 7);
		probes[i].addr = window_table[i].start;
		probes[i].pre_handler = count;
		REGISTER(&probes[i]);
		jumps += (probes[i].flags & UPROBE_FLAG_OPTIMIZED) != 0;
		for (int k = 1; k < count_; k++) {
			unsigned char byte = window_table[i].start[offsets[k]];
			int3 += byte == 0xcc;
			undefined += byte != 0xcc && byte != original[offsets[k]];
		}
	}
	enter_all();
	long alone = entries;
	struct uprobe probe = PROBE(trigger, .pre_handler = enter);
	REGISTER(&probe);
	wrong += trigger(1) != 2;
	wrong += entries != 2 * alone;
	printf("wrong %ld, nhit %llu, gone %d\n", wrong, (unsigned long long)probe.nhit,
	       (probe.flags & UPROBE_FLAG_GONE) != 0);
	UNREGISTER(&probe);
	unsigned long long hits = 0, missed = 0;
	for (long i = 0; i < n; i++) {
		hits += probes[i].nhit;
		missed += probes[i].nmissed;
	}
	printf("hits %d, missed %d\n", hits == (unsigned long long)n, missed == (unsigned long long)n);
	struct uprobe diverting = PROBE(trigger, .pre_handler = divert);
	REGISTER(&diverting);
	long sum = 0;
	for (int i = 0; i < 1000; i++)
		sum += trigger(i);
	printf("diverted %ld of 1504500\n", sum);
	UNREGISTER(&diverting);
	fprintf(stderr, "jumps %ld of %ld, int3 %ld, undefined %ld\n", jumps, n, int3, undefined);
	return 0;
}
