/* Many threads, alive at once, each with hits; then many more, one after another: what a thread costs,
 * and that it is given back. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_barrier_t together;
static int calls;
__attribute__((noinline, noclone)) void work(void)
{
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
}
static void *thread(void *wait)
{
	for (int i = 0; i < 10; i++)
		work();
	if (wait) {
		pthread_barrier_wait(&together);
		pthread_barrier_wait(&together);
	}
	return NULL;
}
static size_t vm(const char *field)
{
	char line[256];
	size_t kb = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, field, strlen(field)))
			kb = strtoul(line + strlen(field) + 1, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}
int main(int argc, char **argv)
{
	int many = argc > 1 ? atoi(argv[1]) : 2000;
	pthread_t *threads = calloc((size_t)many, sizeof *threads);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	pthread_barrier_init(&together, NULL, (unsigned)many + 1);
	size_t before = vm("VmRSS");
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < many; i++)
			if (pthread_create(&threads[i], &attr, thread, &together))
				return 1;
		pthread_barrier_wait(&together);
		size_t at_once = vm("VmRSS");
		pthread_barrier_wait(&together);
		for (int i = 0; i < many; i++)
			pthread_join(threads[i], NULL);
		fprintf(stderr, "round %d: %zu bytes a thread\n", round, (at_once - before) * 1024 / (size_t)many);
		fprintf(stderr, "resident %zu\n", vm("VmRSS"));
	}
	for (int i = 0; i < 5 * many; i++) {
		pthread_create(&threads[0], &attr, thread, NULL);
		pthread_join(threads[0], NULL);
	}
	fprintf(stderr, "resident %zu\n", vm("VmRSS"));
	printf("hits work %d\n", calls);
	return 0;
}
