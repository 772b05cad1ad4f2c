/*
 * jprobe: a function's arguments, as C has them.
 *
 * You will see what two functions were called with: one takes a structure and a floating-point
 * number, the other, libc's, any number of arguments. No registers are decoded: the probe's
 * function has the probed one's signature. What it does to its arguments the probed one does not see.
 *
 *     gcc -I include -rdynamic c-examples/jprobe.c -o jprobe
 *     LD_PRELOAD=target/release/libuprobe.so ./jprobe
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uprobe.h>

struct order {
	const char *what;
	long pieces, stock, shelf;
};

__attribute__((noinline)) double price(struct order order, double each)
{
	__asm__ volatile("" ::: "memory");
	return (double)order.pieces * each;
}

/* Handlers don't print: what they see is kept. */
static char seen[512];
static size_t used;

static double on_price(struct order order, double each)
{
	used += (size_t)snprintf(seen + used, sizeof seen - used, "price: %ld %s at %.2f\n", order.pieces, order.what,
				 each);
	order.pieces = 0; /* its own copy */
	ujprobe_return();
	return 0; /* never reached; returning ends it as well, and the value means nothing */
}

static int on_sprintf(char *to, const char *format, ...)
{
	va_list list;
	(void)to;
	used += (size_t)snprintf(seen + used, sizeof seen - used, "sprintf: \"%s\" of", format);
	va_start(list, format);
	for (const char *at = format; (at = strchr(at, '%')) != NULL; at++) {
		if (at[1] == 's')
			used += (size_t)snprintf(seen + used, sizeof seen - used, " \"%s\"", va_arg(list, char *));
		else if (at[1] == 'd')
			used += (size_t)snprintf(seen + used, sizeof seen - used, " %d", va_arg(list, int));
		else
			used += (size_t)snprintf(seen + used, sizeof seen - used, " %g", va_arg(list, double));
	}
	va_end(list);
	used += (size_t)snprintf(seen + used, sizeof seen - used, "\n");
	return 0;
}

int main(void)
{
	struct ujprobe probes[2] = {
		{ .up = { .symbol_name = "price" }, .entry = (void *)on_price },
		{ .up = { .pathname = "libc.so.6", .symbol_name = "sprintf" }, .entry = (void *)on_sprintf },
	};
	struct ujprobe *list[2] = { &probes[0], &probes[1] };
	struct order pears = { "pears", 12, 100, 7 };
	int (*volatile print)(char *, const char *, ...) = sprintf; /* not what gcc makes of it */
	char text[64];

	int error = register_ujprobes(list, 2);
	if (error != 0) {
		fprintf(stderr, "register_ujprobes: %s\n", strerror(-error));
		return 1;
	}
	double sum = price(pears, 0.25);
	print(text, "%d %s: %g", 12, pears.what, sum);
	unregister_ujprobes(list, 2);
	printf("%s\n%s", text, seen);
	printf("called %llu and %llu times\n", (unsigned long long)probes[0].up.nhit,
	       (unsigned long long)probes[1].up.nhit);
	return 0;
}
