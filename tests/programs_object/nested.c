/* A library that loads another in its constructor and stays for ever (RTLD_NODELETE), and thread-local objects
 * with destructors: nested ROUNDS OUTER INNER, or, with -DOUTER, the library. */
#ifdef OUTER
#include <dlfcn.h>
#include <stdlib.h>
#define FUNCTION __attribute__((noinline, used, noipa))

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;
static __thread int in_thread;
static void *inner;

FUNCTION void outer_loads(void) { inner = dlopen(getenv("INNER"), RTLD_NOW | RTLD_LOCAL); }
FUNCTION void outer_unloads(void) { if (inner) dlclose(inner); }
__attribute__((constructor)) static void at_load(void) { outer_loads(); }
__attribute__((destructor)) static void at_unload(void) { outer_unloads(); }
FUNCTION void outer_thread_ends(void *object) { *(int *)object = 0; }
FUNCTION int outer_work(int a)
{
	int (*work)(int) = (int (*)(int))dlsym(inner, "busy_work");

	if (in_thread++ == 0)
		__cxa_thread_atexit_impl(outer_thread_ends, &in_thread, &__dso_handle);
	return work ? work(a) : -1;
}
#else
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>

static int works;
void counted(int what, int n) { if (what == 2) __sync_fetch_and_add(&works, n); }
static int (*work)(int);
static void *calls(void *unused) { for (int i = 0; i < 3; i++) if (work(i) != i + 1) exit(97); return unused; }

int main(int argc, char **argv)
{
	int rounds = atoi(argv[1]);

	(void)argc;
	setenv("INNER", argv[3], 1);
	for (int i = 0; i <= rounds; i++) {
		/* The last time it stays. */
		void *handle = dlopen(argv[2], RTLD_NOW | (i == rounds ? RTLD_NODELETE : 0));
		pthread_t thread;

		work = handle ? (int (*)(int))dlsym(handle, "outer_work") : NULL;
		if (!work)
			return 98;
		MUST(pthread_create(&thread, NULL, calls, NULL));
		pthread_join(thread, NULL);
		dlclose(handle);
	}
	calls(NULL);
	printf("works %d\n", works);
	return 0;
}
#endif
