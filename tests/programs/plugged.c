/* A shared object that runs probed code in its constructor, by its functions, and in its
 * destructor. */
#include "check.h"

FUNCTION long plugged_at_load(long a) { KEEP(); return a + 1; }
FUNCTION long plugged_work(long a) { KEEP(); return a + 2; }
FUNCTION long plugged_at_unload(long a) { KEEP(); return a + 3; }
static long chosen_one(long a) { KEEP(); return a + 4; }
__attribute__((unused)) static long (*resolve(void))(long) { return chosen_one; }
long plugged_chosen(long a) __attribute__((ifunc("resolve")));

static volatile long sink;
__attribute__((constructor)) static void load(void) { sink = plugged_at_load(1); }
__attribute__((destructor)) static void unload(void) { sink = plugged_at_unload(1); }
