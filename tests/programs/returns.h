/* For the programs whose calls are followed: what became of the calls of a function, by the
 * program's own logic. Each call came back, or was left otherwise, or is still under way at the end. */
#ifndef RETURNS_H
#define RETURNS_H

#include "check.h"

/* `calls PLACE HITS RETURNS UNWOUND IN_FLIGHT`: read by the harness. */
#define CALLS(place, hits, returns, unwound, in_flight) \
	printf("calls %s %llu %llu %llu %llu\n", place, (unsigned long long)(hits), \
	       (unsigned long long)(returns), (unsigned long long)(unwound), (unsigned long long)(in_flight))
/* All came back. */
#define RETURNED(place, n) CALLS(place, n, n, 0, 0)
/* None came back, all were left. */
#define UNWOUND(place, n) CALLS(place, n, 0, n, 0)

/* Says so where a value is not what it must be; the first few times. */
#define EXPECT(got, wanted) do { \
	long long got_ = (long long)(got), wanted_ = (long long)(wanted); \
	static int said_; \
	if (got_ != wanted_ && said_++ < 5) \
		printf("%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_, wanted_); \
} while (0)

/* KiB of this process in memory. */
static inline long resident(void)
{
	long virtual_pages, pages;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%ld %ld", &virtual_pages, &pages) != 2)
		DIE("statm");
	fclose(file);
	return pages * 4;
}

/* `bounded`, where less than `most` KiB were added since `before`. */
static inline void tell_growth(long before, long most)
{
	long grown = resident() - before;
	if (grown <= most)
		printf("bounded\n");
	else
		printf("grew by %ld KiB\n", grown);
}

#endif
