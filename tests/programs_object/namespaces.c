/* dlmopen and dlclose for ever: each namespace has its own libc. namespaces ROUNDS LIBRARY */
#include "check.h"
#include <dlfcn.h>

int main(int argc, char **argv)
{
	int rounds = atoi(argv[1]), works = 0;

	(void)argc;
	for (int i = 0; i < rounds; i++) {
		void *handle = dlmopen(LM_ID_NEWLM, argv[2], RTLD_NOW);
		int (*work)(int) = handle ? (int (*)(int))dlsym(handle, "busy_work") : NULL;

		if (!work) {
			printf("%s\n", dlerror());
			return 98;
		}
		for (int k = 0; k < 5; k++)
			works += work(k) == k + 1;
		if (dlclose(handle) != 0)
			return 96;
	}
	printf("works %d\n", works);
	return 0;
}
