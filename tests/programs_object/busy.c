/* A library with all that a linker has to do for one: constructors and destructors, an IFUNC whose resolver
 * is its own function, thread-local data with destructors, a library of its own that it loads. It counts into
 * the program that loads it. */
#include <dlfcn.h>
#include <stddef.h>

#define FUNCTION __attribute__((noinline, used, noipa))
#ifdef __cplusplus
extern "C" {
#endif
/* What the program provides; in a namespace of its own there is no program. */
__attribute__((weak)) void counted(int what, int n);
enum { LOADED, UNLOADED, WORKED, RESOLVED, CHOSEN, ENDED };
#define COUNT(what) (counted ? counted(what, 1) : (void)0)

static int resolved;
static void count_resolved(void) { for (; resolved > 0; resolved--) COUNT(RESOLVED); }
FUNCTION void busy_at_load(void) { COUNT(LOADED); count_resolved(); }
FUNCTION void busy_at_unload(void) { COUNT(UNLOADED); count_resolved(); }
__attribute__((constructor)) static void at_load(void) { busy_at_load(); }
__attribute__((destructor)) static void at_unload(void) { busy_at_unload(); }

static __thread int in_thread = 3;
static __thread int many_in_thread[200];

FUNCTION int busy_chosen_one(int a) { __asm__ volatile(""); return a + 1; }
static int (*choose(void))(int)
{
	__asm__ volatile("");
	/* Not relocated yet: nothing of anybody else's may be called. */
	resolved++;
	return busy_chosen_one;
}
int busy_chosen(int a) __attribute__((ifunc("choose")));

FUNCTION int busy_work(int a)
{
	COUNT(WORKED);
	COUNT(CHOSEN);
	many_in_thread[a & 127] += in_thread++;
	return busy_chosen(a) + many_in_thread[a & 127] * 0;
}
#ifdef __cplusplus
}
#endif
