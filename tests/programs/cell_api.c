/* The counts of the C API's structs are exact with one thread, with eight, and again with one; return
 * probes come and go by the thousand, and each sees its own calls only; so does a fork child's. */
#include "handlers.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 5000, THREADS = 8, PROBES = 3000 };

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long missed(long a) { KEEP(); return a + 2; }

static long handled, returned;
static int on_hit(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe; (void)regs;
	__atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
	missed(0);
	return 0;
}
static int on_return(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri; (void)regs;
	__atomic_add_fetch(&returned, 1, __ATOMIC_RELAXED);
	return 0;
}
static struct uprobe entry = PROBE(target, .pre_handler = on_hit);
static struct uprobe inner = PROBE(missed, .pre_handler = on_hit);
static struct uretprobe back = { .up = PROBE(target), .handler = on_return };

static void *run(void *arg)
{
	for (long i = 0; i < ROUNDS; i++)
		target(i);
	return arg;
}

static void tell(const char *what)
{
	printf("%s: nhit %llu, handled %ld, missed %llu, returns %llu, returned %ld\n", what,
	       (unsigned long long)entry.nhit, handled, (unsigned long long)inner.nmissed,
	       (unsigned long long)back.up.nhit, returned);
	fflush(stdout);
}

int main(void)
{
	NEED_LIBRARY();
	pthread_t thread[THREADS];
	int status, bad = 0;
	REGISTER(&entry);
	REGISTER(&inner);
	REGISTER_AS(uretprobe, &back);
	run(NULL);
	tell("one");
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	run(NULL);
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(thread[i], NULL));
	tell("nine");
	pid_t child = fork();
	run(NULL);
	if (child == 0) {
		tell("child");
		/* Nothing is under way: its memory can be given up. */
		UNREGISTER_AS(uretprobe, &back);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status != 0)
		DIE("child");
	tell("parent");
	UNREGISTER(&entry);
	UNREGISTER(&inner);
	UNREGISTER_AS(uretprobe, &back);
	for (int i = 0; i < PROBES; i++) {
		struct uretprobe probe = { .up = PROBE(target), .handler = on_return };
		returned = 0;
		REGISTER_AS(uretprobe, &probe);
		for (int call = 0; call < i % 5; call++)
			target(call);
		UNREGISTER_AS(uretprobe, &probe);
		bad += probe.up.nhit != (unsigned)i % 5 || returned != i % 5;
	}
	printf("wrong: %d of %d\n", bad, PROBES);
	return 0;
}
