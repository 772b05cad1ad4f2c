/* Threads that end inside followed calls: r_threads WAY [COUNT]. */
#include "returns.h"
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

static long count = 2000;
static volatile int leaving = 1;
static sem_t inside;

FUNCTION long leave(long n)
{
	if (n == 1 && leaving)
		pthread_exit((void *)5);
	long below = n == 1 ? 0 : leave(n - 1);
	KEEP();
	return below + n;
}
FUNCTION long work(long n)
{
	long below = n == 1 ? 0 : work(n - 1);
	KEEP();
	return below + n;
}
FUNCTION void *start(void *arg)
{
	long id = (long)arg;
	EXPECT(work(3), 6);
	if (id % 2)
		leave(3);
	KEEP();
	return (void *)4;
}
FUNCTION void *stay(void *arg)
{
	(void)arg;
	sem_post(&inside);
	for (;;)
		pause();
	return NULL;
}

static void make(pthread_t *thread, size_t stack, void *(*function)(void *), long id)
{
	pthread_attr_t attr;
	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setstacksize(&attr, stack));
	MUST(pthread_create(thread, &attr, function, (void *)id));
	MUST(pthread_attr_destroy(&attr));
}

static void end(void)
{
	pthread_t thread[20];
	void *value;
	/* The first to leave loads the unwinder, for which 16 KiB are too few. */
	make(&thread[0], 1 << 20, start, 1);
	MUST(pthread_join(thread[0], &value));
	long before = 0;
	for (long done = 0; done < count; done += 20) {
		if (done == count / 5)
			before = resident();
		for (long i = 0; i < 20; i++)
			make(&thread[i], 16384, start, i);
		for (long i = 0; i < 20; i++) {
			MUST(pthread_join(thread[i], &value));
			EXPECT((long)value, i % 2 ? 5 : 4);
		}
	}
	tell_growth(before, 1024);
	long left = count / 2 + 1;
	CALLS("start", count + 1, count / 2, left, 0);
	UNWOUND("leave", 3 * left);
	RETURNED("work", 3 * (count + 1));
	UNWOUND("libc.so.6:pthread_exit", left);
}

static void cancel(void)
{
	for (long i = 0; i < 100; i++) {
		pthread_t thread;
		void *value;
		make(&thread, 65536, stay, i);
		while (sem_wait(&inside) != 0)
			;
		MUST(pthread_cancel(thread));
		MUST(pthread_join(thread, &value));
		EXPECT(value == PTHREAD_CANCELED, 1);
	}
	UNWOUND("stay", 100);
	UNWOUND("libc.so.6:pause", 100);
}

/* One after the other, so that never more than one is inside; at last the main thread comes back. */
static void *leaves(void *arg)
{
	leave(1);
	return arg;
}
static void in_turns(void)
{
	pthread_t thread;
	void *value;
	for (long i = 0; i < count; i++) {
		make(&thread, 1 << 20, leaves, 0);
		MUST(pthread_join(thread, &value));
		EXPECT((long)value, 5);
	}
	leaving = 0;
	EXPECT(leave(1), 1);
	CALLS("leave", count + 1, 1, count, 0);
}

/* All at once. */
static void *works(void *arg)
{
	for (long i = 0; i < count; i++)
		EXPECT(work(2), 3);
	return arg;
}
static void at_once(void)
{
	pthread_t thread[8];
	for (long i = 0; i < 8; i++)
		make(&thread[i], 65536, works, i);
	for (long i = 0; i < 8; i++)
		MUST(pthread_join(thread[i], NULL));
	RETURNED("work", 16 * count);
	RETURNED("works", 8);
}

/* The process ends around them. */
static void around(void)
{
	for (long i = 0; i < 10; i++) {
		pthread_t thread;
		make(&thread, 65536, stay, i);
	}
	for (int i = 0; i < 10; i++)
		while (sem_wait(&inside) != 0)
			;
	CALLS("stay", 10, 0, 0, 10);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "end";
	count = argc > 2 ? atol(argv[2]) : count;
	MUST(sem_init(&inside, 0, 0));
	if (strcmp(way, "end") == 0)
		end();
	else if (strcmp(way, "cancel") == 0)
		cancel();
	else if (strcmp(way, "in-turns") == 0)
		in_turns();
	else if (strcmp(way, "at-once") == 0)
		at_once();
	else if (strcmp(way, "around") == 0)
		around();
	else
		return 1;
	return 0;
}
