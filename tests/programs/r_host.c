/* Calls into an object are left, by longjmp and on a stack that is given up, and the object is unloaded:
 * r_host ROUNDS PATH. */
#include "returns.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <ucontext.h>

typedef long (*calls)(long (*)(long), long);
static jmp_buf back;
static ucontext_t here, there;
static calls plugged;

FUNCTION void settle(void) { KEEP(); }
FUNCTION long comes_back(long a) { KEEP(); return a * 2; }
static volatile int leaving = 1;
FUNCTION long leaves(long a)
{
	if (leaving)
		longjmp(back, 3);
	return a;
}
FUNCTION long switches(long a) { MUST(swapcontext(&there, &here)); KEEP(); return a; }
static void begin(void)
{
	plugged(switches, 1);
	abort();
}

int main(int argc, char **argv)
{
	static char stack[65536];
	volatile int rounds = argc > 1 ? atoi(argv[1]) : 10;
	for (volatile int i = 0; i < rounds; i++) {
		void *handle = dlopen(argv[2], RTLD_NOW);
		if (!handle || !(plugged = (calls)dlsym(handle, "plugged_calls"))) {
			printf("dlopen: %s\n", dlerror());
			return 1;
		}
		for (int k = 0; k < 5; k++)
			EXPECT(plugged(comes_back, k), 2 * k + 1);
		if (setjmp(back) == 0)
			plugged(leaves, 1);
		MUST(getcontext(&there));
		there.uc_stack.ss_sp = stack;
		there.uc_stack.ss_size = sizeof stack;
		makecontext(&there, begin, 0);
		MUST(swapcontext(&here, &there));
		MUST(dlclose(handle));
	}
	settle();
	/* On the other stack each takes the place of the one before; the last one is there still. */
	CALLS("libplug.so:plugged_calls", 7 * rounds, 5 * rounds, 2 * rounds - 1, 1);
	RETURNED("comes_back", 5 * rounds);
	UNWOUND("leaves", rounds);
	CALLS("switches", rounds, 0, rounds - 1, 1);
	RETURNED("settle", 1);
	return 0;
}
