/* Calls on stacks of the program's own making: r_contexts WAY. */
#include "returns.h"
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

FUNCTION void settle(void) { KEEP(); }
FUNCTION long work(long a) { KEEP(); return a + 1; }

/* One context that is returned to again and again. */
static void loop(void)
{
	static ucontext_t here;
	volatile long turns = 0, sum = 0;
	MUST(getcontext(&here));
	turns++;
	sum += work(turns);
	if (turns < 1000)
		MUST(setcontext(&here));
	settle();
	printf("turns %ld sum %ld\n", turns, sum);
	RETURNED("libc.so.6:getcontext", 1);
	UNWOUND("libc.so.6:setcontext", 999);
	RETURNED("work", 1000);
	RETURNED("settle", 1);
}

struct coroutine {
	ucontext_t context, caller;
	void *stack;
	size_t size;
	long id, result;
	int done;
};
static __thread struct coroutine *running;
static struct coroutine *all;

FUNCTION void *new_stack(long id, size_t size)
{
	void *stack = id % 2 ? malloc(size) : mmap(NULL, size, PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!stack || stack == MAP_FAILED)
		DIE("a stack");
	return stack;
}

FUNCTION void yield_to_caller(struct coroutine *self)
{
	MUST(swapcontext(&self->context, &self->caller));
	KEEP();
}

FUNCTION long step(struct coroutine *self, long n)
{
	long below = 0;
	if (n > 1)
		below = step(self, n - 1);
	else
		yield_to_caller(self);
	KEEP();
	return below + self->id + n;
}

FUNCTION long body(struct coroutine *self)
{
	long sum = 0;
	for (int i = 0; i < 3; i++)
		sum += step(self, 3);
	KEEP();
	return sum;
}

static void begin(unsigned low, unsigned high)
{
	struct coroutine *self = (struct coroutine *)((unsigned long)low | (unsigned long)high << 32);
	self->result = body(self);
	self->done = 1;
	setcontext(&self->caller);
	abort();
}

static void prepare(struct coroutine *c, long id, size_t size, void (*function)(unsigned, unsigned))
{
	c->id = id;
	c->size = size;
	if (!c->stack)
		c->stack = new_stack(id, size);
	c->done = 0;
	MUST(getcontext(&c->context));
	c->context.uc_stack.ss_sp = c->stack;
	c->context.uc_stack.ss_size = size;
	c->context.uc_link = NULL;
	makecontext(&c->context, (void (*)(void))function, 2, (unsigned)(unsigned long)c,
		    (unsigned)((unsigned long)c >> 32));
}

FUNCTION void resume(struct coroutine *c)
{
	running = c;
	MUST(swapcontext(&c->caller, &c->context));
	KEEP();
}

/* COUNT coroutines alive at once, each of them inside four followed calls, taken in turns; every
 * tenth is never taken up again. */
static void many(long count)
{
	all = calloc((size_t)count, sizeof *all);
	long abandoned = 0, resumes = 0;
	for (long i = 0; i < count; i++)
		prepare(&all[i], i, 16384 + (i % 3) * 4096, begin);
	for (int turn = 0; turn < 4; turn++)
		for (long i = 0; i < count; i++) {
			if (turn == 2 && i % 10 == 0)
				abandoned++;
			if (turn >= 2 && i % 10 == 0)
				continue;
			resume(&all[i]);
			resumes++;
		}
	for (long i = 0; i < count; i++) {
		EXPECT(all[i].done, i % 10 != 0);
		if (i % 10 != 0)
			EXPECT(all[i].result, 3 * (3 * i + 6));
	}
	settle();
	long through = count - abandoned;
	printf("%ld coroutines, %ld abandoned\n", count, abandoned);
	/* The abandoned ones have been through one round of steps, and are in the second. */
	CALLS("body", count, through, 0, abandoned);
	CALLS("step", 9 * through + 6 * abandoned, 9 * through + 3 * abandoned, 0, 3 * abandoned);
	CALLS("yield_to_caller", 3 * through + 2 * abandoned, 3 * through + abandoned, 0, abandoned);
	RETURNED("resume", resumes);
	RETURNED("settle", 1);
}

/* A coroutine that goes on in a fresh thread each time. */
FUNCTION long hop(struct coroutine *self, long n) { yield_to_caller(self); KEEP(); return n; }
FUNCTION long travel(struct coroutine *self)
{
	long sum = 0;
	for (long i = 0; i < 1000; i++)
		sum += hop(self, i);
	KEEP();
	return sum;
}
static void begin_travel(unsigned low, unsigned high)
{
	struct coroutine *self = (struct coroutine *)((unsigned long)low | (unsigned long)high << 32);
	self->result = travel(self);
	self->done = 1;
	setcontext(&self->caller);
	abort();
}
static void *on_a_thread(void *arg)
{
	resume(arg);
	return NULL;
}
static void migrate(void)
{
	static struct coroutine c;
	prepare(&c, 1, 65536, begin_travel);
	long resumes = 0;
	while (!c.done) {
		pthread_t thread;
		MUST(pthread_create(&thread, NULL, on_a_thread, &c));
		MUST(pthread_join(thread, NULL));
		resumes++;
	}
	settle();
	printf("result %ld\n", c.result);
	RETURNED("travel", 1);
	RETURNED("hop", 1000);
	RETURNED("yield_to_caller", 1000);
	RETURNED("resume", resumes);
	RETURNED("settle", 1);
}

/* One stack, left 2,000 times from inside 500 calls and used afresh. */
static volatile int leaving = 1;
FUNCTION long down(struct coroutine *self, long n)
{
	if (n == 1 && leaving) {
		setcontext(&self->caller);
		abort();
	}
	long below = n == 1 ? 0 : down(self, n - 1);
	KEEP();
	return below + 1;
}
static void begin_down(unsigned low, unsigned high)
{
	struct coroutine *self = (struct coroutine *)((unsigned long)low | (unsigned long)high << 32);
	down(self, 500);
	abort();
}
static void reuse(void)
{
	static struct coroutine c;
	long before = 0;
	for (int round = 0; round < 2000; round++) {
		prepare(&c, 1, 131072, begin_down);
		resume(&c);
		if (round == 50)
			before = resident();
	}
	settle();
	tell_growth(before, 1024);
	/* What takes the place of a call shows that it is over; the last 500 nobody has replaced. */
	CALLS("down", 1000000, 0, 999500, 500);
	RETURNED("resume", 2000);
	RETURNED("settle", 1);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "loop";
	if (strcmp(way, "loop") == 0)
		loop();
	else if (strcmp(way, "many") == 0)
		many(argc > 2 ? atol(argv[2]) : 10000);
	else if (strcmp(way, "migrate") == 0)
		migrate();
	else if (strcmp(way, "reuse") == 0)
		reuse();
	else
		return 1;
	return 0;
}
