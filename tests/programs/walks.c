/* The stack as backtrace(3) sees it from the bottom of probed frames, DEPTH deep for several depths,
 * or from a signal handler there: walks HOW. A frame is printed as its object, the offset in it, and
 * its symbol, so that the same frames print the same in each run; those of libuprobe.so are left out.
 * HOW: backtrace, signal, altstack, _Unwind_Backtrace, nongnu (a libunwind that is loaded). */
#include "returns.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <unwind.h>

enum { MOST = 1000 };
static void *frames[MOST];
static volatile int count;
static const char *how;
static int (*unw_backtrace)(void **, int);

static _Unwind_Reason_Code one_more(struct _Unwind_Context *context, void *unused)
{
	(void)unused;
	if (count == MOST)
		return _URC_END_OF_STACK;
	frames[count++] = (void *)_Unwind_GetIP(context);
	return _URC_NO_REASON;
}
static void on_signal(int signo) { (void)signo; count = backtrace(frames, MOST); }

FUNCTION int walk(void)
{
	count = 0;
	if (strcmp(how, "backtrace") == 0)
		count = backtrace(frames, MOST);
	else if (strcmp(how, "_Unwind_Backtrace") == 0)
		_Unwind_Backtrace(one_more, NULL);
	else if (strcmp(how, "nongnu") == 0)
		count = unw_backtrace(frames, MOST);
	else
		raise(SIGUSR1);
	KEEP();
	return count;
}
FUNCTION int chain(int depth)
{
	int n = depth > 1 ? chain(depth - 1) : walk();
	KEEP();
	return n;
}
static void print(int depth)
{
	int shown = 0;
	for (int i = 0; i < count; i++) {
		struct link_map *object = NULL;
		Dl_info info = { 0 };
		/* The first is an address, the others are where a call comes back to. */
		char *at = (char *)frames[i] - (i > 0);
		if (!dladdr1(at, &info, (void **)&object, RTLD_DL_LINKMAP)) {
			printf("%d: nowhere\n", depth);
			continue;
		}
		const char *slash = strrchr(info.dli_fname, '/');
		const char *file = slash ? slash + 1 : info.dli_fname;
		if (strcmp(file, "libuprobe.so") == 0)
			continue;
		printf("%d: %d %s %#lx %s\n", depth, shown++, file, (unsigned long)((char *)frames[i] - object->l_addr),
		       info.dli_sname ? info.dli_sname : "?");
	}
}

int main(int argc, char **argv)
{
	how = argc > 1 ? argv[1] : "backtrace";
	static const int depths[] = { 1, 2, 3, 10, 50, 100 };
	static char stack[1 << 17];
	stack_t other = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction act = { .sa_handler = on_signal };
	int chained = 0;

	if (strcmp(how, "altstack") == 0)
		act.sa_flags = SA_ONSTACK;
	MUST(sigaltstack(&other, NULL));
	MUST(sigaction(SIGUSR1, &act, NULL));
	if (strcmp(how, "nongnu") == 0) {
		void *library = dlopen("libunwind.so.8", RTLD_NOW);
		*(void **)&unw_backtrace = library ? dlsym(library, "unw_backtrace") : NULL;
		if (!unw_backtrace)
			return 97;
	}
	for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
		if (chain(depths[i]) <= 0)
			printf("nothing at %d\n", depths[i]);
		chained += depths[i];
		if (strcmp(how, "nongnu") != 0) /* how far that one goes is not promised */
			print(depths[i]);
	}
	RETURNED("chain", chained);
	RETURNED("walk", sizeof depths / sizeof *depths);
	return 0;
}
