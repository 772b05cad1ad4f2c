/* For the programs that register their own probes. */
#ifndef HANDLERS_H
#define HANDLERS_H

#include "check.h"
#include <errno.h>
#include <string.h>
#include <uprobe.h>

/* Without the library they have nothing to show. */
#define NEED_LIBRARY() do { if (!UPROBE_AVAILABLE()) { puts("no library"); return 0; } } while (0)

/* A probe on a function of this program; the fields besides are the caller's. */
#define PROBE(function, ...) { .symbol_name = #function, __VA_ARGS__ }

#define REGISTER(probe) do { \
	int error_ = register_uprobe(probe); \
	if (error_) { printf("register_uprobe(%s): %s\n", #probe, strerror(-error_)); exit(98); } \
} while (0)
#define UNREGISTER(probe) do { \
	int error_ = unregister_uprobe(probe); \
	if (error_) { printf("unregister_uprobe(%s): %s\n", #probe, strerror(-error_)); exit(98); } \
} while (0)

#endif
