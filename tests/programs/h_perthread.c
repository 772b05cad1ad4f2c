/* UPROBE_FLAG_PERTHREAD: whoever asks finds every hit of every thread in nhit, dead threads' and a parent's too.
 * Arguments: more flags of the probes, as a number. */
#include "handlers.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define MANY 1500 /* more than there are counts for each thread to keep */

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long returning(long a) { KEEP(); return a + 2; }
FUNCTION long several(long a) { KEEP(); return a + 3; }
FUNCTION long jumped(long a) { KEEP(); return a + 4; }

static long wrong, calls = 100000;
#define CHECK(what) do { if (!(what)) { wrong++; printf("line %d: not so: %s\n", __LINE__, #what); } } while (0)

static __attribute__((target("general-regs-only"))) int nothing(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe; (void)regs;
	return 0;
}
static int ask(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)regs;
	CHECK(uprobe_sync(probe) == 0);
	return 0;
}
static int ended(struct uretprobe_instance *ri, struct uprobe_regs *regs) { (void)ri; (void)regs; return 0; }
static int only_even(struct uretprobe_instance *ri, struct uprobe_regs *regs) { (void)ri; return regs->rdi & 1; }
static long entered(long a) { return a; }

static void *call_all(void *unused)
{
	for (long i = 0; i < calls; i++)
		CHECK(target(i) == i + 1 && returning(i) == i + 2 && several(i) == i + 3 && jumped(i) == i + 4);
	return unused;
}
static uint64_t synced(struct uprobe *probe)
{
	CHECK(uprobe_sync(probe) == 0);
	return probe->nhit;
}

int main(int argc, char **argv)
{
	unsigned flags = UPROBE_FLAG_PERTHREAD | (argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 0);
	NEED_LIBRARY();
	struct uprobe one = PROBE(target, .pre_handler = nothing, .flags = flags);
	struct uprobe first = PROBE(several, .pre_handler = nothing, .flags = flags);
	struct uprobe second = PROBE(several, .pre_handler = nothing, .flags = flags & ~UPROBE_FLAG_PERTHREAD);
	struct uretprobe rp = { .up = PROBE(returning, .flags = flags), .handler = ended, .entry_handler = only_even };
	struct ujprobe jp = { .up = PROBE(jumped, .flags = flags), .entry = ENTRY(entered) };
	REGISTER(&one);
	CHECK(uprobe_sync(&first) == -EINVAL && uprobe_sync(NULL) == -EINVAL);
	REGISTER(&first);
	REGISTER(&second);
	REGISTER_AS(uretprobe, &rp);
	REGISTER_AS(ujprobe, &jp);
	CHECK(one.flags & rp.up.flags & UPROBE_FLAG_PERTHREAD);
	if (!(one.flags & UPROBE_FLAG_OPTIMIZED))
		calls = 2000; /* a trap takes its time */

	/* Alone, then not. */
	call_all(NULL);
	CHECK(one.nhit == 0 && synced(&one) == (uint64_t)calls);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, call_all, NULL);
	uint64_t last = 0;
	for (int i = 0; i < 200; i++) {
		uint64_t now = synced(&one);
		CHECK(now >= last && now <= (THREADS + 1ull) * (uint64_t)calls);
		last = now;
	}
	call_all(NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	uint64_t all = (THREADS + 2ull) * (uint64_t)calls;
	CHECK(synced(&one) == all && synced(&first) == all && second.nhit == all && synced(&second) == all);
	CHECK(synced(&rp.up) == all / 2 && synced(&jp.up) == all);

	/* A child counts on from there. */
	int status;
	pid_t child = fork();
	if (child == 0) {
		target(1);
		returning(2);
		several(3);
		CHECK(synced(&one) == all + 1 && synced(&rp.up) == all / 2 + 1 && synced(&first) == all + 1);
		fflush(stdout);
		_exit(wrong != 0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(synced(&one) == all && synced(&rp.up) == all / 2);

	target(1);
	CHECK(one.nhit == all);
	MUST(disable_uprobe(&one));
	CHECK(one.nhit == all + 1);
	target(1);
	CHECK(synced(&one) == all + 1);
	MUST(enable_uprobe(&one));
	target(1);
	target(1);
	returning(1);
	returning(2);
	UNREGISTER(&one);
	UNREGISTER(&first);
	UNREGISTER(&second);
	UNREGISTER_AS(uretprobe, &rp);
	UNREGISTER_AS(ujprobe, &jp);
	CHECK(one.nhit == all + 3 && rp.up.nhit == all / 2 + 1 && first.nhit == all && jp.up.nhit == all);
	CHECK(uprobe_sync(&one) == -EINVAL);

	/* Registered again it begins at 0, in cells that others have left. */
	struct uprobe again = PROBE(target, .pre_handler = ask, .flags = flags & ~UPROBE_FLAG_NOVEC);
	REGISTER(&again);
	for (uint64_t i = 1; i <= 10; i++) {
		target(1);
		CHECK(again.nhit == i);
	}
	UNREGISTER(&again);
	CHECK(again.nhit == 10);

	/* At one place, so that each call is a hit of all. */
	static struct uprobe many[MANY];
	struct uprobe *pointers[MANY];
	for (int i = 0; i < MANY; i++) {
		many[i] = (struct uprobe)PROBE(target, .pre_handler = nothing, .flags = flags);
		pointers[i] = &many[i];
	}
	MUST(register_uprobes(pointers, MANY));
	for (int i = 0; i < 10; i++)
		target(i);
	CHECK(synced(&many[0]) == 10 && synced(&many[MANY - 1]) == 10);
	/* The one that is left alone may be called directly, and has no count of its own for a thread. */
	MUST(unregister_uprobes(pointers, MANY - 1));
	for (int i = 0; i < 10; i++)
		target(i);
	UNREGISTER(&many[MANY - 1]);
	for (int i = 0; i < MANY; i++)
		CHECK(many[i].nhit == (i < MANY - 1 ? 10 : 20));
	printf("wrong %ld\n", wrong);
	return 0;
}
