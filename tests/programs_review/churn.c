/* Two libraries come and go by turns, mostly at the same address, while another thread comes and goes
 * too and calls its own; a probe on each counts every call, the constructor's too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const char *paths[3];
static volatile int bad;

static long use(const char *path, int expect)
{
	void *handle = dlopen(path, RTLD_NOW);
	if (!handle) {
		printf("%s\n", dlerror());
		bad++;
		return 0;
	}
	int (*answer)(int) = (int (*)(int))dlsym(handle, "answer");
	int (*constructed)(void) = (int (*)(void))dlsym(handle, "was_constructed");
	long calls = 1;
	if (constructed() != expect)
		bad++;
	for (int i = 0; i < 5; i++, calls++)
		if (answer(i) != i + expect)
			bad++;
	dlclose(handle);
	return calls;
}

static void *other(void *arg)
{
	long calls = 0;
	for (int i = 0; i < 40; i++)
		calls += use(paths[2], 3);
	*(long *)arg = calls;
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	for (int i = 0; i < 3; i++)
		paths[i] = argv[i + 1];
	long calls[3] = { 0, 0, 0 };
	pthread_t thread;
	pthread_create(&thread, NULL, other, &calls[2]);
	for (int i = 0; i < 80; i++)
		calls[i & 1] += use(paths[i & 1], (i & 1) + 1);
	pthread_join(thread, NULL);
	printf("bad %d\ncalls %ld %ld %ld\n", bad, calls[0], calls[1], calls[2]);
	return bad != 0;
}
