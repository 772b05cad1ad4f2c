/* The object of a replaced function is unloaded: when it comes back its functions are its own, and can be
 * replaced again.    rep_unload LIBRARY (linked.c as a shared object) */
#include "handlers.h"
#include <dlfcn.h>

static long (*original)(long);
static long replacement(long a) { return 1000 + original(a); }

static void call(void *object, const char *when)
{
	long (*function)(long);
	*(void **)&function = dlsym(object, "rep_function");
	printf("%s: %ld\n", when, function(1));
}
static int replace(void *with) { return uprobe_replace("rep_library.so", "rep_function", with, (void **)&original); }

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	if (argc < 2)
		return 1;
	for (int round = 0; round < 2; round++) {
		printf("not loaded: %s\n", error_name(replace(ENTRY(replacement))));
		void *object = dlopen(argv[1], RTLD_NOW);
		if (!object)
			return 1;
		call(object, "loaded");
		printf("replace: %s\n", error_name(replace(ENTRY(replacement))));
		call(object, "replaced");
		dlclose(object);
	}
	void *object = dlopen(argv[1], RTLD_NOW);
	call(object, "loaded again");
	printf("end: %s\n", error_name(uprobe_replace("rep_library.so", "rep_function", NULL, NULL)));
	return 0;
}
