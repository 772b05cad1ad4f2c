/* What the test programs share: functions that stay functions, and a way to tell how often
 * the program's own logic runs them. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>

/* Called, never inlined, never dropped, and visible to the compiler only as a call. */
#ifdef __clang__
#define FUNCTION __attribute__((noinline, used))
#else
#define FUNCTION __attribute__((noinline, used, noipa)) /* nor cloned under another name */
#endif
#define KEEP() __asm__ volatile("" ::: "memory")

/* `hits PLACE NUMBER`: read by the harness. */
#define TELL(place, n) printf("hits %s %llu\n", place, (unsigned long long)(n))

#define DIE(what) do { perror(what); exit(99); } while (0)
#define MUST(call) do { if ((call) != 0) DIE(#call); } while (0)

#endif
