/* Calls go to the replacement, from everywhere; `original` runs the function itself, recursively too. */
#include "handlers.h"
#include <time.h>
#include <unistd.h>

FUNCTION long fib(long n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
FUNCTION double mix(int a, double b, const char *c, double d) { KEEP(); return a + b + c[0] + d; }
FUNCTION long plain(long a) { KEEP(); return a + 1; }
FUNCTION long through_plt(void) { return getppid() == -7; }
int variable = 5;

static long (*real_fib)(long);
static double (*real_mix)(int, double, const char *, double);
static pid_t (*real_getppid)(void);
static long calls, handler_calls;

static long counted_fib(long n) { calls++; return real_fib(n); }
static double doubled_mix(int a, double b, const char *c, double d) { return 2 * real_mix(a, b, c, d); }
static long other_plain(long a) { return a * 10; }
static pid_t other_getppid(void) { calls += real_getppid() > 0; return -7; }
static time_t other_time(time_t *at) { (void)at; return 1234; }
static int call_plain(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe; (void)regs;
	handler_calls = plain(5);
	return 0;
}

static void say(const char *what, int error) { printf("%s: %s\n", what, error_name(error)); }
static int replace(const char *symbol, void *replacement, void *original)
{
	return uprobe_replace(NULL, symbol, replacement, (void **)original);
}

int main(void)
{
	NEED_LIBRARY();
	void *nothing = NULL;
	say("replace fib", replace("fib", ENTRY(counted_fib), &real_fib));
	long result = fib(10);
	printf("fib 10 is %ld, in %ld calls\n", result, calls);
	say("twice", replace("fib", ENTRY(other_plain), &nothing));
	printf("original untouched: %d\n", nothing == NULL);
	calls = 0;
	long (*pointer)(long) = fib;
	result = pointer(10);
	printf("fib 10 is %ld, in %ld calls\n", result, calls);
	say("end", replace("fib", NULL, NULL));
	calls = 0;
	result = fib(10);
	printf("fib 10 is %ld, in %ld calls\n", result, calls);
	result = real_fib(10);
	printf("by original afterwards: %ld\n", result);
	say("end again", replace("fib", NULL, NULL));

	say("replace mix", replace("mix", ENTRY(doubled_mix), &real_mix));
	double sum = mix(1, 2.5, "A", 0.25);
	printf("%g\n", sum);
	say("end", replace("mix", NULL, NULL));
	sum = mix(1, 2.5, "A", 0.25);
	printf("%g\n", sum);

	say("in libc", uprobe_replace("libc.so.6", "getppid", ENTRY(other_getppid), (void **)&real_getppid));
	calls = 0;
	result = through_plt();
	printf("%ld, its own called %ld\n", result, calls);
	say("end", uprobe_replace("libc.so.6", "getppid", NULL, NULL));
	printf("%ld\n", through_plt());
	say("an IFUNC", uprobe_replace("libc.so.6", "time", ENTRY(other_time), NULL));
	printf("%ld\n", (long)time(NULL));
	say("end", uprobe_replace("libc.so.6", "time", NULL, NULL));
	printf("%d\n", time(NULL) > 1234);

	/* From inside a handler too, where probes are not hit. */
	struct uprobe probe = PROBE(mix, .pre_handler = call_plain);
	say("replace plain", replace("plain", ENTRY(other_plain), NULL));
	REGISTER(&probe);
	mix(1, 2.5, "A", 0.25);
	printf("from a handler: %ld\n", handler_calls);
	say("end from the same state", replace("plain", NULL, NULL));
	mix(1, 2.5, "A", 0.25);
	printf("from a handler: %ld\n", handler_calls);
	UNREGISTER(&probe);

	say("no symbol", replace(NULL, ENTRY(other_plain), &nothing));
	say("no such symbol", replace("no_such_function", ENTRY(other_plain), &nothing));
	say("data", replace("variable", ENTRY(other_plain), &nothing));
	say("an object not loaded", uprobe_replace("libz.so.1", "crc32", ENTRY(other_plain), &nothing));
	say("the library's own", uprobe_replace("libuprobe.so", "register_uprobe", ENTRY(other_plain), &nothing));
	say("original can't be written", replace("plain", ENTRY(other_plain), (void *)8));
	printf("untouched: %d, %ld\n", nothing == NULL, plain(1));
	return 0;
}
