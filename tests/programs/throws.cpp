// C++ exceptions leave the frames of functions whose returns are followed: throws SCENARIO [quiet].
// Each scenario prints what was caught, how many objects were destroyed on the way, and what became
// of every call. The last thing called is settle(), from main, below whose frame nothing is left,
// unless the second argument is `quiet`.
#include "returns.h"
#include <atomic>
#include <cstring>
#include <exception>
#include <setjmp.h>
#include <signal.h>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

static std::atomic<long> made, destroyed;
struct Kept {
	Kept() { made++; }
	~Kept() { destroyed++; }
};
struct Odd : std::runtime_error {
	int number;
	explicit Odd(int n) : std::runtime_error("odd " + std::to_string(n)), number(n) {}
};
static jmp_buf out;

extern "C" {
FUNCTION int thrower(int n) { KEEP(); if (n) throw Odd(n); return 0; }
// `depth` frames above thrower(), with an object in each.
FUNCTION int nest(int depth, int n)
{
	Kept kept;
	int sum = depth > 1 ? nest(depth - 1, n) : thrower(n);
	KEEP();
	return sum + 1;
}
// The same with nothing to destroy: no landing pads.
FUNCTION int bare(int depth, int n)
{
	int sum = depth > 1 ? bare(depth - 1, n) : thrower(n);
	KEEP();
	return sum + 1;
}
// Catches what the function it calls throws.
FUNCTION int recover(int n) { try { return thrower(n); } catch (const Odd &odd) { return odd.number; } }
// Catches what it throws itself.
FUNCTION int own(int n)
{
	try {
		KEEP();
		if (n)
			throw Odd(n);
	} catch (const Odd &odd) {
		return odd.number;
	}
	return 0;
}
FUNCTION int again(int depth, int n)
{
	try {
		return depth > 1 ? again(depth - 1, n) : thrower(n);
	} catch (const Odd &) {
		destroyed++;
		throw;
	}
}
FUNCTION int wrapped(int depth, int n)
{
	try {
		return depth > 1 ? wrapped(depth - 1, n) : thrower(n);
	} catch (...) {
		std::throw_with_nested(std::runtime_error("level " + std::to_string(depth)));
	}
}
FUNCTION int sealed(int depth, int n) noexcept { return bare(depth, n) + 1; }
// With optimisation a jump: thrower's return address is that of this function's caller.
FUNCTION int tail(int n) { KEEP(); return thrower(n); }
FUNCTION int jumper(int n) { KEEP(); longjmp(out, n); }
FUNCTION int plain(int depth, int n)
{
	int sum = depth > 1 ? plain(depth - 1, n) : jumper(n);
	KEEP();
	return sum + 1;
}
static int compared;
FUNCTION int compare(const void *a, const void *b)
{
	int x = *static_cast<const int *>(a), y = *static_cast<const int *>(b);
	compared++;
	thrower(x == 77 || y == 77 ? 77 : 0);
	return (x > y) - (x < y);
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

static void through(int depth)
{
	printf("caught %d\n", caught(nest, depth, 5));
	printf("returned %d\n", caught(nest, depth, 0));
	CALLS("nest", 2 * depth, depth, depth, 0);
	CALLS("thrower", 2, 1, 1, 0);
}
static void one() { through(1); }
static void two() { through(2); }
static void hundred() { through(100); }
static void without_pads()
{
	printf("caught %d\n", caught(bare, 100, 5));
	UNWOUND("bare", 100);
	UNWOUND("thrower", 1);
}
static void direct()
{
	int sum = 0;
	for (int i = 0; i < 10; i++)
		sum += recover(i % 2);
	printf("caught %d\n", sum);
	RETURNED("recover", 10);
	CALLS("thrower", 10, 5, 5, 0);
}
static void itself()
{
	int sum = 0;
	for (int i = 0; i < 10; i++)
		sum += own(i % 2);
	printf("caught %d\n", sum);
	RETURNED("own", 10);
}
static void rethrow()
{
	printf("caught %d\n", caught(again, 20, 6));
	UNWOUND("again", 20);
	UNWOUND("thrower", 1);
}
static void print(const std::exception &e)
{
	printf("%s\n", e.what());
	try {
		std::rethrow_if_nested(e);
	} catch (const std::exception &inner) {
		print(inner);
	}
}
static void nested()
{
	try {
		wrapped(5, 3);
	} catch (const std::exception &e) {
		print(e);
	}
	UNWOUND("wrapped", 5);
	UNWOUND("thrower", 1);
}
static void terminate()
{
	struct rlimit none = { 0, 0 };
	setrlimit(RLIMIT_CORE, &none);
	printf("returned %d\n", sealed(3, 0));
	CALLS("sealed", 2, 1, 0, 1);
	CALLS("bare", 6, 3, 0, 3);
	CALLS("thrower", 2, 1, 0, 1);
	fflush(stdout);
	sealed(3, 4);
}
static void carried()
{
	std::exception_ptr carried;
	std::thread([&] {
		try {
			nest(4, 9);
		} catch (...) {
			carried = std::current_exception();
		}
	}).join();
	try {
		std::rethrow_exception(carried);
	} catch (const Odd &odd) {
		printf("caught %d\n", odd.number);
	}
	std::thread([&] {
		struct Local {
			static int rethrower(std::exception_ptr e) { std::rethrow_exception(e); }
		};
		try {
			printf("recovered %d\n", recover(3));
			Local::rethrower(carried);
		} catch (const Odd &odd) {
			printf("caught %d\n", odd.number);
		}
	}).join();
	UNWOUND("nest", 4);
	UNWOUND("thrower", 2);
	RETURNED("recover", 1);
}
static void sorted()
{
	int numbers[100];
	for (int i = 0; i < 100; i++)
		numbers[i] = i * 37 % 100;
	try {
		qsort(numbers, 100, sizeof *numbers, compare);
	} catch (const Odd &odd) {
		printf("caught %d after %d\n", odd.number, compared);
	}
	CALLS("compare", compared, compared - 1, 1, 0);
	CALLS("thrower", compared, compared - 1, 1, 0);
}
static void loop_()
{
	long sum = 0;
	for (int i = 1; i <= 21000; i++)
		sum += caught(nest, 1 + i % 3, i % 7 + 1);
	printf("sum %ld\n", sum);
	UNWOUND("nest", 21000 * 2);
	UNWOUND("thrower", 21000);
}
static void threads()
{
	std::vector<std::thread> threads;
	std::atomic<long> sum(0);
	for (int t = 0; t < 4; t++)
		threads.emplace_back([&, t] {
			for (int i = 0; i < 1000; i++) {
				sum += caught(nest, 10, i + 1);
				sum += caught(nest, 2, 0);
				sum += recover(t);
			}
		});
	for (auto &thread : threads)
		thread.join();
	printf("sum %ld\n", sum.load());
	CALLS("nest", 4 * 1000 * 12, 4 * 1000 * 2, 4 * 1000 * 10, 0);
	CALLS("thrower", 4 * 1000 * 3, 1000 * 5, 1000 * 7, 0);
	RETURNED("recover", 4000);
}
static void tails()
{
	for (int i = 0; i < 100; i++)
		try {
			tail(i % 2);
		} catch (const Odd &) {
			destroyed++;
		}
	CALLS("tail", 100, 50, 50, 0);
	CALLS("thrower", 100, 50, 50, 0);
}
static void jumps()
{
	volatile int sum = 0;
	for (volatile int i = 1; i <= 1000; i = i + 1) {
		int n = setjmp(out);
		if (n == 0)
			plain(10, i);
		sum = sum + n + caught(nest, 3, i);
	}
	printf("sum %d\n", sum);
	UNWOUND("plain", 10 * 1000);
	UNWOUND("jumper", 1000);
	UNWOUND("nest", 3 * 1000);
	UNWOUND("thrower", 1000);
}

static void on_signal(int) { destroyed += recover(1); }
// On another stack, where frames that were left lie below nothing that is known.
static void altstack()
{
	static char stack[1 << 16];
	stack_t other = {};
	struct sigaction act = {};
	other.ss_sp = stack;
	other.ss_size = sizeof stack;
	act.sa_handler = on_signal;
	act.sa_flags = SA_ONSTACK;
	MUST(sigaltstack(&other, nullptr));
	MUST(sigaction(SIGUSR1, &act, nullptr));
	for (int i = 0; i < 100; i++) {
		raise(SIGUSR1);
		printf("%s", caught(nest, 3, i + 1) == -(i + 1) ? "" : "not caught\n");
	}
	RETURNED("recover", 100);
	UNWOUND("nest", 300);
	UNWOUND("thrower", 200);
}

extern "C" {
// Is under way all the time.
FUNCTION int outer(void (*scenario)()) { scenario(); KEEP(); return 1; }
}

static const struct { const char *name; void (*run)(); } scenarios[] = {
	{ "one", one }, { "two", two }, { "hundred", hundred }, { "without_pads", without_pads },
	{ "direct", direct }, { "itself", itself }, { "rethrow", rethrow }, { "nested", nested },
	{ "terminate", terminate }, { "carried", carried }, { "sorted", sorted }, { "loop_", loop_ },
	{ "threads", threads }, { "tails", tails }, { "jumps", jumps }, { "altstack", altstack },
};

int main(int argc, char **argv)
{
	for (auto &scenario : scenarios) {
		if (argc < 2)
			puts(scenario.name);
		else if (strcmp(argv[1], scenario.name) == 0)
			outer(scenario.run);
	}
	if (argc < 2)
		return 0;
	printf("made and destroyed %ld %ld\n", made.load(), destroyed.load());
	RETURNED("outer", 1);
	if (argc < 3) {
		settle();
		RETURNED("settle", 1);
	}
	return 0;
}
