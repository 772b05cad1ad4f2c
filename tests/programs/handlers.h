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

/* The same for the other kinds. */
#define REGISTER_AS(kind, probe) do { \
	int error_ = register_##kind(probe); \
	if (error_) { printf("register_" #kind "(%s): %s\n", #probe, strerror(-error_)); exit(98); } \
} while (0)
#define UNREGISTER_AS(kind, probe) do { \
	int error_ = unregister_##kind(probe); \
	if (error_) { printf("unregister_" #kind "(%s): %s\n", #probe, strerror(-error_)); exit(98); } \
} while (0)
/* Any function of one argument as the pointer a struct wants. */
#define ENTRY(function) ((void *)(uintptr_t)(function))

/* An error as the header names it. */
static inline const char *error_name(int error)
{
	switch (-error) {
	case 0: return "0";
	case ENOENT: return "-ENOENT";
	case E2BIG: return "-E2BIG";
	case EINVAL: return "-EINVAL";
	case EILSEQ: return "-EILSEQ";
	case EBUSY: return "-EBUSY";
	case ERANGE: return "-ERANGE";
	case EFAULT: return "-EFAULT";
	case EOPNOTSUPP: return "-EOPNOTSUPP";
	case EADDRNOTAVAIL: return "-EADDRNOTAVAIL";
	default: return strerror(-error);
	}
}

#endif
