/* A program with very many functions, those of many.sh. Without arguments it does nothing.
 * many N...: registers the first N of them by the C API, in a child for each N and round, and prints a table. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uprobe.h>

#define ROUNDS 7
#define MOST 50000
#define TOGGLES 2000
#define PAGE 4096

extern const int function_count;
extern long fn_00000(long, long *);
static struct uprobe probes[MOST], *pointers[MOST];
static char names[MOST][16];

enum { ARM, DISARM, DISABLE, ENABLE, RESIDENT, COPIES, ADDRESSES, JUMPS, MEASURES };

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
/* Bytes. */
static void memory(double *resident, double *addresses)
{
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%lf %lf", addresses, resident) != 2)
		exit(2);
	fclose(file);
	*resident *= (double)sysconf(_SC_PAGESIZE);
	*addresses *= (double)sysconf(_SC_PAGESIZE);
}
static int nothing(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void must(int error, const char *what)
{
	if (error) {
		fprintf(stderr, "%s: %s\n", what, strerror(-error));
		exit(2);
	}
}

static void measure(int n, double *measures)
{
	double resident, addresses;
	for (int i = 0; i < MOST; i++) {
		snprintf(names[i], sizeof names[i], "fn_%05d", i);
		memset(&probes[i], 0, sizeof probes[i]);
		probes[i].symbol_name = names[i];
		probes[i].pre_handler = nothing;
		pointers[i] = &probes[i];
	}
	/* The first probe starts the library: that is not part of the time one more costs. It is part of the
	 * memory, since what it reads of the program's file is let go again with the others. */
	double unused;
	memory(&resident, &unused);
	must(register_uprobe(&probes[0]), "register_uprobe");
	memory(&unused, &addresses);
	double begin = now();
	must(register_uprobes(pointers + 1, n - 1), "register_uprobes");
	measures[ARM] = now() - begin;
	memory(&measures[RESIDENT], &measures[ADDRESSES]);
	measures[RESIDENT] = (measures[RESIDENT] - resident) / n;
	measures[ADDRESSES] = (measures[ADDRESSES] - addresses) / (n - 1);
	/* What is written to is a copy from then on. A probe more does that to the page of its function, whoever
	 * puts it there, so it is told apart. */
	measures[JUMPS] = measures[COPIES] = 0;
	unsigned long page = 0;
	for (int i = 0; i < n; i++) {
		measures[JUMPS] += *(const unsigned char *)probes[i].addr == 0xe9;
		measures[COPIES] += (unsigned long)probes[i].addr / PAGE != page;
		page = (unsigned long)probes[i].addr / PAGE;
	}
	measures[COPIES] *= (double)PAGE / n;
	long p[8] = { 0 };
	fn_00000(3, p);
	if (probes[0].nhit != 1)
		must(-1, "a hit was not counted");
	measures[DISABLE] = measures[ENABLE] = 0;
	for (int i = 0; i < TOGGLES; i++) {
		struct uprobe *probe = pointers[i * (n / 1000) % n];
		begin = now();
		must(disable_uprobe(probe), "disable_uprobe");
		double middle = now();
		must(enable_uprobe(probe), "enable_uprobe");
		measures[DISABLE] += (middle - begin) / TOGGLES;
		measures[ENABLE] += (now() - middle) / TOGGLES;
	}
	begin = now();
	must(unregister_uprobes(pointers + 1, n - 1), "unregister_uprobes");
	measures[DISARM] = now() - begin;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}
/* What is said below the table. */
static char misses[4096];
static int over(const char *what, int n, double value, double bar)
{
	size_t used = strlen(misses);
	if (value > bar)
		snprintf(misses + used, sizeof misses - used, "\n%d probes, %s: %.4g, more than %.4g\n", n, what, value, bar);
	return value > bar;
}

int main(int argc, char **argv)
{
	int missed = 0;
	if (argc < 2)
		return 0;
	if (!UPROBE_AVAILABLE()) {
		fprintf(stderr, "the library is not preloaded\n");
		return 2;
	}
	printf("| probes | of them jumps | arm, ms | disarm, ms | disable one, us | enable one, us | resident, bytes a probe "
	       "| of them copies of text | address space, bytes a probe |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
	int last_n = 0;
	double last_resident = 0;
	char growth[4096] = "";
	for (int k = 1; k < argc; k++) {
		int n = atoi(argv[k]);
		if (n < 1000 || n > MOST || n > function_count)
			return 2;
		double all[MEASURES][ROUNDS], median[MEASURES];
		for (int round = 0; round < ROUNDS; round++) {
			int ends[2];
			double one[MEASURES];
			fflush(stdout);
			if (pipe(ends))
				return 2;
			if (fork() == 0) {
				measure(n, one);
				_exit(write(ends[1], one, sizeof one) != sizeof one);
			}
			close(ends[1]);
			if (read(ends[0], one, sizeof one) != sizeof one)
				return 2;
			close(ends[0]);
			wait(NULL);
			for (int i = 0; i < MEASURES; i++)
				all[i][round] = one[i];
		}
		for (int i = 0; i < MEASURES; i++) {
			qsort(all[i], ROUNDS, sizeof(double), compare);
			median[i] = all[i][ROUNDS / 2];
		}
		printf("| %d | %.0f | %.1f (%.1f to %.1f) | %.1f (%.1f to %.1f) | %.1f | %.1f | %.0f | %.0f | %.0f |\n", n,
		       median[JUMPS], median[ARM] * 1e3, all[ARM][0] * 1e3, all[ARM][ROUNDS - 1] * 1e3,
		       median[DISARM] * 1e3, all[DISARM][0] * 1e3, all[DISARM][ROUNDS - 1] * 1e3, median[DISABLE] * 1e6,
		       median[ENABLE] * 1e6, median[RESIDENT], median[COPIES], median[ADDRESSES]);
		double more = last_n ? (median[RESIDENT] * n - last_resident) / (n - last_n) : 0;
		if (last_n)
			snprintf(growth + strlen(growth), sizeof growth - strlen(growth),
				 "\nFrom %d to %d probes: %.0f resident bytes for each one more.\n", last_n, n,
				 more);
		last_n = n;
		last_resident = median[RESIDENT] * n;
		if (n >= 10000) {
			missed |= over("seconds to arm", n, median[ARM], n * 2e-5);
			missed |= over("seconds to disarm", n, median[DISARM], 0.2);
			/* What the library has once, however many there are, is no probe's. */
			missed |= over("resident bytes for each one more", n, more, 400);
		}
	}
	fputs(growth, stdout);
	fputs(misses, stdout);
	return missed;
}
