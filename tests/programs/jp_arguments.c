/* A jprobe's function gets what the probed one gets, from wherever the ABI passes it, and changes nothing. */
#include "handlers.h"
#include <stdarg.h>

struct large { long words[12]; };

FUNCTION long nine(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
	KEEP();
	return a + b + c + d + e + f + g + h + i;
}
FUNCTION double doubles(double a, double b, double c, double d, double e, double f, double g, double h, double i,
			float j)
{
	KEEP();
	return a + b + c + d + e + f + g + h + i + (double)j;
}
FUNCTION double mixed(int a, double b, char c, float d, long double e, short f, const char *g)
{
	KEEP();
	return a + b + c + (double)d + (double)e + f + g[0];
}
FUNCTION long by_value(long a, struct large b, long c)
{
	KEEP();
	return a + b.words[0] + b.words[11] + c;
}
FUNCTION struct large returned(long a)
{
	struct large result = { { a, a + 1 } };
	KEEP();
	return result;
}
FUNCTION double variadic(const char *types, ...)
{
	double sum = 0;
	va_list list;
	va_start(list, types);
	for (; *types; types++)
		sum += *types == 'd' ? va_arg(list, double) : (double)va_arg(list, long);
	va_end(list);
	return sum;
}

static char seen[256];
#define SEE(...) snprintf(seen, sizeof seen, __VA_ARGS__)

static long see_nine(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
	SEE("%ld %ld %ld %ld %ld %ld %ld %ld %ld", a, b, c, d, e, f, g, h, i);
	volatile long *stack = &i;
	a = b = c = d = e = f = g = h = 0;
	*stack = 0; /* its own copy */
	errno = ERANGE;
	return 12345;
}
static double see_doubles(double a, double b, double c, double d, double e, double f, double g, double h, double i,
			  float j)
{
	SEE("%g %g %g %g %g %g %g %g %g %g", a, b, c, d, e, f, g, h, i, (double)j);
	return a;
}
static double see_mixed(int a, double b, char c, float d, long double e, short f, const char *g)
{
	SEE("%d %g %c %g %Lg %d %s", a, b, c, (double)d, e, f, g);
	return 0;
}
static long see_by_value(long a, struct large b, long c)
{
	SEE("%ld %ld..%ld %ld", a, b.words[0], b.words[11], c);
	memset(&b, 0, sizeof b);
	KEEP();
	return 0;
}
/* A result in memory has an argument of its own: the function would write there. */
static struct large *see_returned(struct large *result, long a)
{
	SEE("%ld, result at %s", a, result ? "an address" : "NULL");
	return NULL;
}
static double see_variadic(const char *types, ...)
{
	size_t at = 0;
	va_list list;
	va_start(list, types);
	for (; *types; types++)
		at += (size_t)(*types == 'd' ? snprintf(seen + at, sizeof seen - at, "%g ", va_arg(list, double))
					     : snprintf(seen + at, sizeof seen - at, "%ld ", va_arg(list, long)));
	va_end(list);
	return 0;
}
static long see_strtol(const char *text, char **end, int base)
{
	SEE("\"%s\" %s %d", text, end ? "&end" : "NULL", base);
	return 0;
}

int main(void)
{
	NEED_LIBRARY();
	struct ujprobe probes[] = {
		{ .up = PROBE(nine), .entry = ENTRY(see_nine) },
		{ .up = PROBE(doubles), .entry = ENTRY(see_doubles) },
		{ .up = PROBE(mixed), .entry = ENTRY(see_mixed) },
		{ .up = PROBE(by_value), .entry = ENTRY(see_by_value) },
		{ .up = PROBE(returned), .entry = ENTRY(see_returned) },
		{ .up = PROBE(variadic), .entry = ENTRY(see_variadic) },
		{ .up = { .pathname = "libc.so.6", .symbol_name = "strtol" }, .entry = ENTRY(see_strtol) },
	};
	enum { COUNT = sizeof probes / sizeof probes[0] };
	struct ujprobe *all[COUNT];
	for (int i = 0; i < COUNT; i++)
		all[i] = &probes[i];
	struct large large = { { 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 111 } };

	printf("register: %s\n", error_name(register_ujprobes(all, COUNT)));
	errno = ENOTTY;
	long sum = nine(1, 2, 3, 4, 5, 6, 7, 8, 9);
	int kept = errno == ENOTTY;
	printf("%ld, errno %s, saw %s\n", sum, kept ? "kept" : "changed", seen);
	double total = doubles(1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5f);
	printf("%g, saw %s\n", total, seen);
	total = mixed(1, 2.5, 'c', 4.25f, 5.125L, -6, "seven");
	printf("%g, saw %s\n", total, seen);
	sum = by_value(1, large, 3);
	printf("%ld, saw %s\n", sum, seen);
	large = returned(5);
	printf("%ld %ld, saw %s\n", large.words[0], large.words[1], seen);
	total = variadic("dlldddddddddl", 1.5, 2L, 3L, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13L);
	printf("%g, saw %s\n", total, seen);
	total = variadic("ll", 1L, 2L);
	printf("%g, saw %s\n", total, seen);
	sum = strtol("0x2a", NULL, 16);
	printf("%ld, saw %s\n", sum, seen);
	printf("unregister: %s\n", error_name(unregister_ujprobes(all, COUNT)));
	nine(0, 0, 0, 0, 0, 0, 0, 0, 0);
	printf("hits");
	for (int i = 0; i < COUNT; i++)
		printf(" %llu", (unsigned long long)probes[i].up.nhit);
	printf("\n");
	return 0;
}
