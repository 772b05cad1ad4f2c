/* Registers and unregisters inside a callback of dl_iterate_phdr, which holds the linker's lock, beside threads
 * that do so outside, that load and unload, and that list. callbacks ROUNDS LIBRARY */
#include "check.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uprobe.h>

static atomic_int stop, failures, handled;
static const char *library;
void counted(int what, int n) { (void)what; (void)n; }
FUNCTION int work(int a) { KEEP(); return a + 1; }
FUNCTION int other(int a) { KEEP(); return a + 2; }

static int on_hit(struct uprobe *p, struct uprobe_regs *regs)
{
	(void)p; (void)regs;
	atomic_fetch_add(&handled, 1);
	return 0;
}
static void come_and_go(const char *symbol)
{
	struct uprobe probe = { .symbol_name = symbol, .pre_handler = on_hit };

	if (register_uprobe(&probe) != 0 || unregister_uprobe(&probe) != 0)
		atomic_fetch_add(&failures, 1);
}
static int in_callback(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)info; (void)size; (void)unused;
	come_and_go("work");
	return 1;
}
static void *inside(void *rounds)
{
	for (long i = 0; i < (long)rounds; i++)
		dl_iterate_phdr(in_callback, NULL);
	stop = 1;
	return NULL;
}
static void *outside(void *unused)
{
	while (!stop)
		come_and_go("other");
	return unused;
}
static void *loads(void *unused)
{
	while (!stop) {
		void *handle = dlopen(library, RTLD_NOW);

		if (!handle || dlclose(handle) != 0)
			atomic_fetch_add(&failures, 1);
	}
	return unused;
}
static void *calls(void *unused)
{
	while (!stop)
		work(other(1));
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t threads[6];
	long rounds = atol(argv[1]);

	(void)argc;
	library = argv[2];
	/* The first use of all may be in a callback, too. */
	MUST(pthread_create(&threads[0], NULL, inside, (void *)rounds));
	MUST(pthread_create(&threads[1], NULL, outside, NULL));
	MUST(pthread_create(&threads[2], NULL, loads, NULL));
	MUST(pthread_create(&threads[3], NULL, calls, NULL));
	MUST(pthread_create(&threads[4], NULL, inside, (void *)rounds));
	MUST(pthread_create(&threads[5], NULL, outside, NULL));
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	printf("failures %d\n", (int)failures);
	return 0;
}
