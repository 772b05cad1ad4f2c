/* What ends a thread or the process arrives while a probe's handler runs. */
#include "defer.h"
#include <pthread.h>
#include <stdatomic.h>

static atomic_int entered, sent;

static void die_at_the_hundredth(void)
{
	if (calls == 100)
		send_self(SIGTERM);
}

static void wait_for_it(void)
{
	atomic_store(&entered, 1);
	while (atomic_load(&sent) == 0)
		spin(10);
	spin(10000);
}

static void cleaned(void *arg)
{
	printf("cleaned up, in the probe's handler: %d\n", in_probe && UPROBE_AVAILABLE());
	*(int *)arg = 1;
}

static void *be_cancelled(void *arg)
{
	pthread_cleanup_push(cleaned, arg);
	MUST(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	for (long i = 0;; i++)
		call_work(i);
	pthread_cleanup_pop(0);
	return NULL;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3)
		return 2;
	probe_work(strcmp(argv[1], "return") == 0);
	if (strcmp(argv[2], "kill") == 0) {
		inside = die_at_the_hundredth;
		for (long i = 0;; i++)
			call_work(i);
	}
	for (int i = 0; i < 20; i++) {
		pthread_t thread;
		void *result;
		int clean = 0;
		atomic_store(&entered, 0);
		atomic_store(&sent, 0);
		inside = wait_for_it;
		MUST(pthread_create(&thread, NULL, be_cancelled, &clean));
		while (atomic_load(&entered) == 0)
			usleep(50);
		MUST(pthread_cancel(thread));
		atomic_store(&sent, 1);
		MUST(pthread_join(thread, &result));
		printf("cancelled %d, clean %d\n", result == PTHREAD_CANCELED, clean);
	}
	return 0;
}
