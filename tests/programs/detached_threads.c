/* Detached threads end on their own, by return, pthread_exit or cancellation, while others
 * start; all call probed functions. */
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

static sem_t room;
static atomic_long cleaned;

FUNCTION void work(void) { KEEP(); }
FUNCTION void cleanup(void *arg) { (void)arg; KEEP(); atomic_fetch_add(&cleaned, 1); sem_post(&room); }

static void *run(void *arg)
{
	pthread_cleanup_push(cleanup, NULL);
	work();
	switch ((long)arg % 3) {
	case 0: break;
	case 1: pthread_exit(NULL);
	default: pthread_cancel(pthread_self()); pthread_testcancel();
	}
	pthread_cleanup_pop(1);
	return NULL;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 3000;
	MUST(sem_init(&room, 0, 50));
	pthread_attr_t attr;
	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
	for (int i = 0; i < count; i++) {
		pthread_t thread;
		sem_wait(&room);
		MUST(pthread_create(&thread, &attr, run, (void *)(long)i));
	}
	for (int i = 0; i < 50; i++)
		sem_wait(&room);
	TELL("work", count);
	TELL("cleanup", count);
	return atomic_load(&cleaned) != count;
}
