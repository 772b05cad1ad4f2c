/* Registering for ever.
 *
 *   linker OBJECT   while another thread loads and unloads OBJECT: both come to an end. A dlsym of the library's
 *                   under the lock of dl_iterate_phdr waited for the lock of dlopen, which waited for that one.
 *   growth          there is always a later registration alive: numbers of the earlier were never given back,
 *                   half a kilobyte for each. */
#include "handlers.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define TURNS 1500
#define MANY 12000
#define WARM 4000
#define MOST_KIB 2048

FUNCTION long target(long a) { KEEP(); return a + 1; }
static atomic_int over;

static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }

static void *load(void *path)
{
	while (!atomic_load(&over)) {
		void *object = dlopen(path, RTLD_NOW);
		if (!object)
			DIE("dlopen");
		dlclose(object);
	}
	return NULL;
}

static void linker(char *path)
{
	pthread_t thread;
	long sum = 0;
	MUST(pthread_create(&thread, NULL, load, path));
	for (int turn = 0; turn < TURNS; turn++) {
		struct uprobe probe = PROBE(target, .pre_handler = fine);
		MUST(register_uprobe(&probe));
		target(turn);
		MUST(unregister_uprobe(&probe));
		sum += (long)probe.nhit;
	}
	atomic_store(&over, 1);
	MUST(pthread_join(thread, NULL));
	printf("%ld hits\n", sum);
}

static long resident_kib(void)
{
	long pages = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2)
		DIE("statm");
	fclose(file);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void growth(void)
{
	struct uprobe probes[2];
	long before = 0;
	for (int turn = 0; turn < MANY; turn++) {
		struct uprobe *now = &probes[turn % 2], *last = &probes[(turn + 1) % 2];
		*now = (struct uprobe)PROBE(target, .pre_handler = fine);
		now->flags = UPROBE_FLAG_DISABLED;
		MUST(register_uprobe(now));
		if (turn > 0)
			MUST(unregister_uprobe(last));
		if (turn == WARM)
			before = resident_kib();
	}
	long grown = resident_kib() - before;
	printf(grown < MOST_KIB ? "no growth\n" : "%ld KiB more\n", grown);
}

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	if (argc == 3)
		linker(argv[2]);
	else
		growth();
	return 0;
}
