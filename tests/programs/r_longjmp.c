/* Calls that are left by longjmp: r_longjmp WAY. */
#include "returns.h"
#include <setjmp.h>
#include <signal.h>
#include <string.h>

static jmp_buf back;
static sigjmp_buf from_handler;
/* Not known to the compiler: a function that never returns need not be called. */
static volatile int leaving = 1;

/* Called where the others are called: what they left is noticed here at the latest. */
FUNCTION void settle(void) { KEEP(); }

FUNCTION long nested(long n)
{
	if (n == 1 && leaving)
		longjmp(back, 7);
	long below = n == 1 ? 0 : nested(n - 1);
	KEEP();
	return below + n;
}

/* Out of 10,000 calls at once, 200 times. */
static void deep(void)
{
	volatile long before = 0;
	for (volatile int round = 0; round < 200; round++) {
		int value = setjmp(back);
		if (value == 0)
			nested(10000);
		EXPECT(value, 7);
		if (round == 5)
			before = resident();
	}
	settle();
	tell_growth(before, 2048);
	UNWOUND("nested", 2000000);
	RETURNED("settle", 1);
}

/* setjmp is itself followed, at two places: each must come back where it was called. */
static void two_sites(void)
{
	static jmp_buf one, two;
	volatile int ones = 0, twos = 0;
	int value = _setjmp(one);
	if (value != ones)
		printf("one came with %d, not %d\n", value, ones);
	ones++;
	value = _setjmp(two);
	if (value != 0 && value != twos)
		printf("two came with %d, not %d\n", value, twos);
	twos++;
	if (twos % 10 != 0)
		longjmp(two, twos);
	if (ones < 100)
		longjmp(one, ones);
	settle();
	printf("ones %d twos %d\n", ones, twos);
	/* Called once and a hundred times, and by libc before main; a longjmp is no second call, and none
	 * comes back. */
	RETURNED("libc.so.6:_setjmp", 101 + 1);
	UNWOUND("libc.so.6:longjmp", 900 + 99);
	RETURNED("settle", 1);
}

FUNCTION void in_handler(int leave)
{
	KEEP();
	if (leave)
		siglongjmp(from_handler, 5);
	KEEP();
}
FUNCTION void on_signal(int signo) { (void)signo; in_handler(leaving); KEEP(); }
FUNCTION long leap(long n)
{
	if (n == 0) {
		MUST(raise(SIGUSR1));
		return 0;
	}
	long below = leap(n - 1);
	KEEP();
	return below + n;
}

/* From a handler that interrupted followed calls, itself in a followed call. */
static void handlers(int flags)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	MUST(sigaltstack(&alternate, NULL));
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };
	MUST(sigaction(SIGUSR1, &action, NULL));
	leaving = 1;
	for (volatile int round = 0; round < 1000; round++) {
		int value = sigsetjmp(from_handler, 1);
		if (value == 0)
			leap(4);
		EXPECT(value, 5);
	}
	/* And one that is not left: it takes the place of the last that was. */
	leaving = 0;
	EXPECT(leap(4), 10);
	settle();
	CALLS("leap", 5005, 5, 5000, 0);
	CALLS("in_handler", 1001, 1, 1000, 0);
	CALLS("on_signal", 1001, 1, 1000, 0);
	RETURNED("settle", 1);
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "deep";
	if (strcmp(way, "deep") == 0)
		deep();
	else if (strcmp(way, "two-sites") == 0)
		two_sites();
	else if (strcmp(way, "handlers") == 0)
		handlers(0);
	else if (strcmp(way, "altstack") == 0)
		handlers(SA_ONSTACK);
	else
		return 1;
	return 0;
}
