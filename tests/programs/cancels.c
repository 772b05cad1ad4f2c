/* Threads that end inside calls that are followed: cancels SCENARIO. 50 rounds: a thread goes down
 * DEPTH frames, each with a cleanup handler, and is cancelled there, or exits. */
#include "returns.h"
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 50, DEPTH = 20 };
static sem_t ready;
static volatile long cleaned, spun;
static volatile int going;

#ifdef __cplusplus
struct Kept {
	~Kept() { __atomic_fetch_add(&cleaned, 1, __ATOMIC_RELAXED); }
};
#define KEPT_BEGIN { Kept kept;
#define KEPT_END }
extern "C" {
#else
static void clean(void *unused) { (void)unused; __atomic_fetch_add(&cleaned, 1, __ATOMIC_RELAXED); }
#define KEPT_BEGIN pthread_cleanup_push(clean, NULL)
#define KEPT_END pthread_cleanup_pop(1);
#endif

typedef void (*end_t)(void);
FUNCTION void waits(void) { sem_post(&ready); for (;;) pause(); }
FUNCTION void tests(void) { sem_post(&ready); for (;;) pthread_testcancel(); }
FUNCTION void exits(void) { KEEP(); pthread_exit((void *)7); }
FUNCTION void returns(void) { KEEP(); }
FUNCTION void spins(void)
{
	sem_post(&ready);
	for (;;)
		spun++;
}
FUNCTION long leaf(long a) { KEEP(); return a + 1; }
FUNCTION void calls(void)
{
	sem_post(&ready);
	for (;;)
		spun = leaf(spun);
}
FUNCTION int down(int depth, end_t end)
{
	volatile int sum = 0;
	KEPT_BEGIN
	if (depth > 1)
		sum = down(depth - 1, end);
	else
		end();
	KEEP();
	KEPT_END
	return sum + 1;
}
FUNCTION void *starts(void *end) { down(DEPTH, *(end_t *)end); return (void *)8; }
FUNCTION void *starts_async(void *end)
{
	MUST(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
	down(DEPTH, *(end_t *)end);
	return (void *)8;
}
FUNCTION void settle(void) { KEEP(); }
#ifdef __cplusplus
}
#endif

static void rounds(end_t end, void *(*start)(void *), int cancelled)
{
	long ended = 0;
	for (int i = 0; i < ROUNDS; i++) {
		pthread_t thread;
		void *result;
		MUST(pthread_create(&thread, NULL, start, &end));
		if (cancelled) {
			sem_wait(&ready);
			/* Sometimes at once, sometimes well under way. */
			if (i % 3 == 0)
				usleep(500);
			MUST(pthread_cancel(thread));
		}
		MUST(pthread_join(thread, &result));
		ended += cancelled ? result == PTHREAD_CANCELED : result == (void *)7 || result == (void *)8;
	}
	printf("ended %ld cleaned %ld\n", ended, cleaned);
}

static void *after_main(void *main_thread)
{
	void *result;
	MUST(pthread_join(*(pthread_t *)main_thread, &result));
	printf("main ended with %ld cleaned %ld\n", (long)result, cleaned);
	UNWOUND("down", 5);
	UNWOUND("exits", 1);
	exit(3);
}

int main(int argc, char **argv)
{
	const char *scenario = argc > 1 ? argv[1] : "";
	MUST(sem_init(&ready, 0, 0));
#define SCENARIO(name) if (argc < 2) puts(name); else if (strcmp(scenario, name) == 0)
	SCENARIO("waiting") {
		rounds(waits, starts, 1);
		UNWOUND("waits", ROUNDS);
		UNWOUND("down", DEPTH * ROUNDS);
		UNWOUND("starts", ROUNDS);
	}
	SCENARIO("testing") {
		rounds(tests, starts, 1);
		UNWOUND("tests", ROUNDS);
		UNWOUND("down", DEPTH * ROUNDS);
		UNWOUND("starts", ROUNDS);
	}
	SCENARIO("exiting") {
		rounds(exits, starts, 0);
		UNWOUND("exits", ROUNDS);
		UNWOUND("down", DEPTH * ROUNDS);
		UNWOUND("starts", ROUNDS);
	}
	SCENARIO("returning") {
		rounds(returns, starts, 0);
		RETURNED("returns", ROUNDS);
		RETURNED("down", DEPTH * ROUNDS);
		RETURNED("starts", ROUNDS);
	}
	SCENARIO("async_waiting") {
		rounds(waits, starts_async, 1);
		UNWOUND("waits", ROUNDS);
		UNWOUND("down", DEPTH * ROUNDS);
		UNWOUND("starts_async", ROUNDS);
	}
	SCENARIO("async_spinning") {
		rounds(spins, starts_async, 1);
		UNWOUND("spins", ROUNDS);
		UNWOUND("down", DEPTH * ROUNDS);
		UNWOUND("starts_async", ROUNDS);
	}
	/* Anywhere in a call that is followed, so that leaf() itself can't be told. */
	SCENARIO("async_calling") {
		rounds(calls, starts_async, 1);
		UNWOUND("calls", ROUNDS);
		UNWOUND("down", DEPTH * ROUNDS);
		UNWOUND("starts_async", ROUNDS);
	}
	SCENARIO("main") {
		static pthread_t self;
		pthread_t thread;
		self = pthread_self();
		MUST(pthread_create(&thread, NULL, after_main, &self));
		going = down(5, exits);
	}
	if (argc < 2)
		return 0;
	settle();
	RETURNED("settle", 1);
	return 0;
}
