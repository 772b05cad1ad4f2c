/* Loads and unloads a shared object many times: host ROUNDS CALLS PATH... (the paths by turns). */
#include "check.h"
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int stop;
FUNCTION long own(long a) { KEEP(); return a + 1; }

static void *other(void *arg)
{
	/* Meanwhile somebody else looks at, loads and unloads objects. */
	while (!atomic_load(&stop)) {
		void *handle = dlopen("libm.so.6", RTLD_NOW);
		own(1);
		if (handle)
			dlclose(handle);
	}
	return arg;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1, calls = argc > 2 ? atoi(argv[2]) : 1;
	int threaded = getenv("OTHER_THREAD") != NULL, namespace = getenv("NAMESPACE") != NULL;
	pthread_t thread;
	if (threaded)
		MUST(pthread_create(&thread, NULL, other, NULL));
	long sum = 0;
	for (int i = 0; i < rounds; i++) {
		const char *path = argv[3 + i % (argc - 3)];
		void *handle = namespace ? dlmopen(LM_ID_NEWLM, path, RTLD_NOW) : dlopen(path, i % 2 ? RTLD_NOW : RTLD_LAZY);
		if (!handle) {
			printf("dlopen: %s\n", dlerror());
			return 1;
		}
		long (*work)(long) = (long (*)(long))dlsym(handle, "plugged_work");
		long (*chosen)(long) = (long (*)(long))dlsym(handle, "plugged_chosen");
		for (int k = 0; k < calls; k++)
			sum += work(k) + chosen(k);
		/* Twice open is once loaded. */
		void *again = namespace ? NULL : dlopen(path, RTLD_NOW);
		if (again && dlclose(again) != 0)
			return 2;
		if (dlclose(handle) != 0)
			return 2;
		if (dlopen("/no/such/object.so", RTLD_NOW))
			return 3;
	}
	atomic_store(&stop, 1);
	if (threaded)
		MUST(pthread_join(thread, NULL));
	printf("sum %ld\n", sum);
	return 0;
}
