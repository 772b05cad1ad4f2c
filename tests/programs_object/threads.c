/* Loads and unloads libraries in several threads, in every mode: threads ROUNDS LIBRARY... Tells how often each
 * function was run. Thread N has the Nth library for itself, and the last with all others. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { LOADED, UNLOADED, WORKED, RESOLVED, CHOSEN, ENDED, KINDS };
static atomic_int counts[KINDS];
void counted(int what, int n) { atomic_fetch_add(&counts[what], n); }

static int rounds, libraries;
static char **paths;

static void *loads(void *number)
{
	static const int modes[] = { RTLD_NOW, RTLD_LAZY, RTLD_NOW | RTLD_GLOBAL, RTLD_LAZY | RTLD_DEEPBIND };
	int me = (int)(long)number;

	for (int i = 0; i < rounds; i++) {
		char *path = paths[i % 3 == 2 ? libraries - 1 : me];
		void *handle = dlopen(path, modes[(i + me) % 4]);
		int (*work)(int) = handle ? (int (*)(int))dlsym(handle, "busy_work") : NULL;

		if (!work) {
			fprintf(stderr, "%s\n", dlerror());
			exit(98);
		}
		for (int k = 0; k < 5; k++)
			if (work(k) != k + 1)
				exit(97);
		if (dlclose(handle) != 0)
			exit(96);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[16];

	rounds = atoi(argv[1]);
	libraries = argc - 2;
	paths = argv + 2;
	for (long i = 0; i < libraries - 1; i++)
		MUST(pthread_create(&threads[i], NULL, loads, (void *)i));
	for (int i = 0; i < libraries - 1; i++)
		pthread_join(threads[i], NULL);
	printf("loads as unloads: %d\n", counts[LOADED] == counts[UNLOADED]);
	printf("work %d\n", (int)counts[WORKED]);
	/* These are different in each run: the last library's last user unloads it. */
	fprintf(stderr, "told busy_at_load %d\ntold busy_at_unload %d\ntold busy_work %d\ntold choose %d\n"
			"told busy_chosen_one %d\n",
		(int)counts[LOADED], (int)counts[UNLOADED], (int)counts[WORKED], (int)counts[RESOLVED],
		(int)counts[CHOSEN]);
	return 0;
}
