/* What arming costs: start PROGRAM LIBRARY DIRECTORY.
 * Runs the program without the library and with more and more probes, by turns, and compares
 * medians. Linear: 50,000 probes may cost at most 50 times (and a little) what 1,000 do. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 11

struct run {
	const char *what, *pattern;
	int probes;
	char config[512];
	double seconds[ROUNDS];
};
static struct run runs[] = {
	{ "without the library", NULL, 0, "", { 0 } },
	{ "one probe", "fn_00000", 1, "", { 0 } },
	{ "a glob", "fn_00???", 1000, "", { 0 } },
	{ "a glob", "fn_0[01234]???", 5000, "", { 0 } },
	{ "a glob", "fn_0????", 10000, "", { 0 } },
	{ "a glob", "fn_[01]????", 20000, "", { 0 } },
	{ "a glob", "fn_?????", 50000, "", { 0 } },
	{ "a table each", NULL, 10000, "", { 0 } },
};
#define COUNT ((int)(sizeof runs / sizeof *runs))

static double once(const char *program, const char *library, const struct run *run)
{
	struct timespec a, b;
	int status;
	clock_gettime(CLOCK_MONOTONIC, &a);
	pid_t pid = vfork();
	if (pid == 0) {
		char preload[600], config[600];
		snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library);
		snprintf(config, sizeof config, "UPROBES=%s", run->config);
		char *args[] = { (char *)program, NULL }, *with[] = { preload, config, "UPROBE_STRICT=1", NULL };
		char *without[] = { NULL };
		execve(program, args, run->config[0] ? with : without);
		_exit(99);
	}
	waitpid(pid, &status, 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (status != 0) {
		fprintf(stderr, "%s, %d probes: status %#x\n", run->what, run->probes, status);
		exit(2);
	}
	return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	for (int i = 0; i < COUNT; i++) {
		struct run *run = &runs[i];
		if (run->probes == 0)
			continue;
		snprintf(run->config, sizeof run->config, "%s/start-%d-%d.toml", argv[3], i, run->probes);
		FILE *file = fopen(run->config, "w");
		if (!file)
			return 2;
		fprintf(file, "[summary]\nformat = \"none\"\n");
		for (int k = 0; k < (run->pattern ? 1 : run->probes); k++) {
			char name[32];
			snprintf(name, sizeof name, "fn_%05d", k);
			fprintf(file, "[[probe]]\nat = \"exe:%s\"\naction = [\"count\"]\n", run->pattern ? run->pattern : name);
		}
		fclose(file);
	}
	for (int round = -1; round < ROUNDS; round++)
		for (int i = 0; i < COUNT; i++) {
			double seconds = once(argv[1], argv[2], &runs[i]);
			if (round >= 0)
				runs[i].seconds[round] = seconds;
		}
	printf("| probes | by | ms, median | min | max | us per probe |\n|---:|---|---:|---:|---:|---:|\n");
	double base = 0, thousand = 0;
	int missed = 0;
	for (int i = 0; i < COUNT; i++) {
		struct run *run = &runs[i];
		qsort(run->seconds, ROUNDS, sizeof(double), compare);
		double median = run->seconds[ROUNDS / 2];
		if (i == 0)
			base = median;
		double cost = median - base;
		if (run->probes == 1000)
			thousand = cost;
		if (i == 0) {
			printf("| 0 | %s | %.1f | %.1f | %.1f | |\n", run->what, median * 1e3, run->seconds[0] * 1e3,
			       run->seconds[ROUNDS - 1] * 1e3);
			continue;
		}
		printf("| %d | %s | +%.1f | +%.1f | +%.1f | %.1f |\n", run->probes, run->what, cost * 1e3,
		       (run->seconds[0] - base) * 1e3, (run->seconds[ROUNDS - 1] - base) * 1e3, cost * 1e6 / run->probes);
	}
	/* 20 us a probe: 0.2 s for 10,000, 1 s for 50,000. */
	for (int i = 1; i < COUNT; i++) {
		double cost = runs[i].seconds[ROUNDS / 2] - base;
		if (runs[i].probes >= 10000 && cost > runs[i].probes * 2e-5) {
			printf("\n%d probes took more than %.1f s\n", runs[i].probes, runs[i].probes * 2e-5);
			missed = 1;
		}
		if (runs[i].probes == 50000 && cost > thousand * 50 * 1.25) {
			printf("\n50,000 probes took more than 50 times what 1,000 take: not linear\n");
			missed = 1;
		}
	}
	return missed;
}
