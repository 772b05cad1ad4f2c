// What happens while an exception is on its way, or on a stack or in a context of its own: pads SCENARIO.
// Destructors and handlers that call, throw and catch; coroutines; exceptions out of signal handlers.
#include "returns.h"
#include <cstdlib>
#include <cstring>
#include <setjmp.h>
#include <signal.h>
#include <stdexcept>
#include <string>
#include <sys/time.h>
#include <thread>
#include <ucontext.h>

struct Odd {
	int number;
};
static long destroyed, noted, handled;

extern "C" {
FUNCTION int thrower(int n) { KEEP(); if (n) throw Odd{n}; return 0; }
FUNCTION int recover(int n) { try { return thrower(n); } catch (const Odd &odd) { return odd.number; } }
// Deep below the frame it is called from, and back.
FUNCTION int note(int depth) { noted++; int sum = depth > 1 ? note(depth - 1) : recover(1); KEEP(); return sum; }
}
struct Noting {
	~Noting() { destroyed++; note(3); }
};
extern "C" {
FUNCTION int nest(int depth, int n)
{
	Noting noting;
	int sum = depth > 1 ? nest(depth - 1, n) : thrower(n);
	KEEP();
	return sum + 1;
}
// Each level handles it, goes deeper than ever, and throws it on.
FUNCTION int climb(int depth, int n)
{
	try {
		return depth > 1 ? climb(depth - 1, n) : thrower(n);
	} catch (const Odd &) {
		handled++;
		note(40);
		throw;
	}
}
FUNCTION void settle(void) { KEEP(); }
}

static int caught(int (*function)(int, int), int depth, int n)
{
	try {
		return function(depth, n);
	} catch (const Odd &odd) {
		return -odd.number;
	}
}

static void destructors()
{
	int sum = 0;
	for (int i = 0; i < 100; i++)
		sum += caught(nest, 10, i % 2);
	printf("sum %d\n", sum);
	CALLS("nest", 1000, 500, 500, 0);
	RETURNED("note", 3000);
	RETURNED("recover", 1000);
	CALLS("thrower", 100 + 1000, 50, 50 + 1000, 0);
}
static void handlers()
{
	int sum = 0;
	for (int i = 0; i < 20; i++)
		sum += caught(climb, 10, i + 1);
	printf("sum %d\n", sum);
	UNWOUND("climb", 200);
	RETURNED("note", 8000);
	RETURNED("recover", 200);
	UNWOUND("thrower", 220);
}

static ucontext_t main_context, contexts[4];
static int results[4];
// Catches its own, goes back to main in between, and ends.
static void coroutine(int me)
{
	for (int i = 0; i < 50; i++) {
		results[me] += recover(i);
		swapcontext(&contexts[me], &main_context);
		results[me] += caught(nest, 3, i);
	}
}
static void coroutines()
{
	static char stacks[4][1 << 16];
	for (int c = 0; c < 4; c++) {
		getcontext(&contexts[c]);
		contexts[c].uc_stack.ss_sp = stacks[c];
		contexts[c].uc_stack.ss_size = sizeof stacks[c];
		contexts[c].uc_link = &main_context;
		makecontext(&contexts[c], reinterpret_cast<void (*)()>(coroutine), 1, c);
	}
	for (int i = 0; i < 51; i++)
		for (auto &context : contexts)
			swapcontext(&main_context, &context);
	printf("results %d %d %d %d\n", results[0], results[1], results[2], results[3]);
	RETURNED("recover", 4 * 50 + 4 * 50 * 3);
	CALLS("nest", 4 * 50 * 3, 4 * 3, 4 * 49 * 3, 0);
}

static void throw_signal(int signo) { throw Odd{signo}; }
extern "C" {
FUNCTION int raises(int depth) { int sum = depth > 1 ? raises(depth - 1) : raise(SIGUSR1); KEEP(); return sum; }
FUNCTION int faults(int depth, volatile int *where)
{
	int sum = depth > 1 ? faults(depth - 1, where) : *where;
	KEEP();
	return sum;
}
// Faults at its first instruction.
FUNCTION int load(volatile int *where) { return *where; }
}
static void handle(int signo)
{
	struct sigaction act = {};
	act.sa_handler = throw_signal;
	act.sa_flags = SA_NODEFER;
	MUST(sigaction(signo, &act, nullptr));
}
static void signals()
{
	int sum = 0;
	handle(SIGUSR1);
	for (int i = 0; i < 100; i++)
		try {
			sum += raises(5);
		} catch (const Odd &odd) {
			sum += odd.number;
		}
	printf("sum %d\n", sum);
	UNWOUND("raises", 500);
}
// With -fnon-call-exceptions.
static void fault()
{
	int sum = 0;
	handle(SIGSEGV);
	for (int i = 0; i < 100; i++)
		try {
			sum += i % 2 ? faults(5, reinterpret_cast<int *>(8)) : load(reinterpret_cast<int *>(8));
		} catch (const Odd &odd) {
			sum += odd.number;
		}
	printf("sum %d\n", sum);
	UNWOUND("faults", 250);
	UNWOUND("load", 50);
}

// A timer's signals at any place, the unwinder's code included; their handler throws and catches.
static volatile sig_atomic_t ticks;
static void on_tick(int) { ticks = ticks + (recover(1) == 1 ? 1 : 1000000); }
// What exceptions take is taken from the thread's own list from now on, and put back there, which a handler may do in
// the middle of it. A block cut from the heap's top may not be interrupted by another: malloc is not signal-safe.
static void stock()
{
	for (size_t size = 16; size <= 1024; size += 16) {
		void *volatile blocks[7];
		for (void *volatile &block : blocks)
			block = malloc(size);
		for (void *block : blocks)
			free(block);
	}
}
static void ticking()
{
	stock();
	struct sigaction act = {};
	act.sa_handler = on_tick;
	act.sa_flags = SA_RESTART;
	MUST(sigaction(SIGALRM, &act, nullptr));
	struct itimerval every = { { 0, 100 }, { 0, 100 } };
	long wrong = 0, rounds = 0;
	setitimer(ITIMER_REAL, &every, nullptr);
	while (ticks < 2000 && rounds < 1000000) {
		wrong += caught(climb, 3, 5) != -5;
		rounds++;
	}
	signal(SIGALRM, SIG_IGN);
	every = {};
	setitimer(ITIMER_REAL, &every, nullptr);
	printf("wrong %ld, %s\n", wrong, ticks >= 2000 && ticks < 1000000 ? "interrupted" : "not interrupted");
	UNWOUND("climb", rounds * 3);
	RETURNED("note", rounds * 120);
	RETURNED("recover", rounds * 3 + ticks);
	UNWOUND("thrower", rounds * 4 + ticks);
}

static const struct { const char *name; void (*run)(); } scenarios[] = {
	{ "destructors", destructors }, { "handlers", handlers }, { "coroutines", coroutines },
	{ "signals", signals }, { "fault", fault }, { "ticking", ticking },
};

int main(int argc, char **argv)
{
	for (auto &scenario : scenarios) {
		if (argc < 2)
			puts(scenario.name);
		else if (strcmp(argv[1], scenario.name) == 0)
			scenario.run();
	}
	if (argc < 2)
		return 0;
	printf("destroyed %ld, noted and handled %s\n", destroyed, noted >= 40 * handled ? "as often" : "not");
	settle();
	RETURNED("settle", 1);
	return 0;
}
