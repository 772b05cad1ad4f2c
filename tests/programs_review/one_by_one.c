/* Many probes, registered one at a time: each costs the same. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uprobe.h>
#define F(n) __attribute__((noinline, noclone)) int f##n(int x) { return x + n; }
#define TEN(n) F(n##0) F(n##1) F(n##2) F(n##3) F(n##4) F(n##5) F(n##6) F(n##7) F(n##8) F(n##9)
#define HUNDRED(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7) TEN(n##8) TEN(n##9)
#define THOUSAND(n) HUNDRED(n##0) HUNDRED(n##1) HUNDRED(n##2) HUNDRED(n##3) HUNDRED(n##4) HUNDRED(n##5) HUNDRED(n##6) HUNDRED(n##7) HUNDRED(n##8) HUNDRED(n##9)
THOUSAND(1) THOUSAND(2)
/* Of the processor's time: what others have of it meanwhile is not what is looked at. */
static double now(void) { struct timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return (double)t.tv_sec + (double)t.tv_nsec * 1e-9; }
int main(void)
{
	static struct uprobe up[2000];
	static char names[2000][8];
	double start = now(), half = 0;
	for (int i = 0; i < 2000; i++) {
		snprintf(names[i], 8, "f%d", 1000 + i);
		up[i].symbol_name = names[i];
		if (register_uprobe(&up[i]))
			return 1;
		if (i == 999) half = now();
	}
	double all = now();
	for (int i = 0; i < 2000; i++)
		if (unregister_uprobe(&up[i]))
			return 2;
	fprintf(stderr, "first 1000: %.3f s, second 1000: %.3f s, out: %.3f s\n", half - start, all - half, now() - all);
	/* Four times: the machine may be busy. It was more than twice, and growing. */
	return all - half > 4 * (half - start) + 0.2 ? 3 : 0;
}
