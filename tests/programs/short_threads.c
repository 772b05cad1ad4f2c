/* Threads come and go by the thousand, each with 16 KiB of stack, and each calls probed
 * functions: short_threads COUNT ROUNDS. The memory of the process must not grow with their
 * number: it tells how much it grew after the first tenth. */
#include "check.h"
#include <pthread.h>
#include <unistd.h>

static int rounds;

FUNCTION long work(long a) { KEEP(); return a + 1; }
FUNCTION long store(long *a) { KEEP(); *a += 1; return *a; }

static void *run(void *arg)
{
	long local = (long)arg;
	for (int i = 0; i < rounds; i++) {
		local = work(local);
		store(&local);
	}
	return NULL;
}

static void memory(long *virtual_pages, long *resident_pages)
{
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%ld %ld", virtual_pages, resident_pages) != 2)
		DIE("statm");
	fclose(file);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 20000;
	rounds = argc > 2 ? atoi(argv[2]) : 3;
	long virtual_then = 0, resident_then = 0, virtual_now, resident_now;
	pthread_attr_t attr;
	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setstacksize(&attr, 16384));
	for (int done = 0; done < count; done += 20) {
		pthread_t thread[20];
		if (done == count / 10)
			memory(&virtual_then, &resident_then);
		for (int i = 0; i < 20; i++)
			MUST(pthread_create(&thread[i], &attr, run, (void *)(long)i));
		for (int i = 0; i < 20; i++)
			MUST(pthread_join(thread[i], NULL));
	}
	memory(&virtual_now, &resident_now);
	TELL("work", (long)count * rounds);
	TELL("store", (long)count * rounds);
	int bounded = (virtual_now - virtual_then) * 4 < 2048 && (resident_now - resident_then) * 4 < 1024;
	printf("%s\n", bounded ? "bounded" : "grew");
	if (!bounded)
		printf("by %ld KiB virtual, %ld KiB resident\n", (virtual_now - virtual_then) * 4,
		       (resident_now - resident_then) * 4);
	return 0;
}
