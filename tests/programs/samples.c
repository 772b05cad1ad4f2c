/* A profiler's view: a timer's signal every PERIOD microseconds, at arbitrary places, until SAMPLES
 * stacks were taken with backtrace(3): samples SAMPLES PERIOD. The main thread goes up and down a chain
 * of functions all the time. Each stack must be the handler, then an unbroken piece of that chain down
 * to main, and what called main; frames of libuprobe.so may stand between. Prints the first stacks that
 * are not so. */
#include "returns.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum { DEEP = 60, SHOWN = 3 };
struct sample { int count; void *frames[DEEP]; };
static struct sample *samples;
static volatile int taken, wanted;
static long calls[6];

/* By name, from the innermost. */
static const char *const chain[] = { "level_5", "level_4", "level_3", "level_2", "level_1", "level_0", "run", "main" };
enum { CHAIN = sizeof chain / sizeof *chain };

void on_sample(int signo)
{
	(void)signo;
	if (taken == wanted)
		return;
	samples[taken].count = backtrace(samples[taken].frames, DEEP);
	taken++;
}

FUNCTION long level_5(long a) { KEEP(); calls[5]++; return a + 1; }
FUNCTION long level_4(long a) { KEEP(); calls[4]++; return level_5(level_5(a)) + 1; }
FUNCTION long level_3(long a) { KEEP(); calls[3]++; return level_4(a) + 1; }
FUNCTION long level_2(long a) { KEEP(); calls[2]++; return level_3(a) + 1; }
FUNCTION long level_1(long a) { KEEP(); calls[1]++; return level_2(a) + 1; }
FUNCTION long level_0(long a) { KEEP(); calls[0]++; return level_1(a) + 1; }
FUNCTION long run(void)
{
	long sum = 0;
	while (taken < wanted)
		sum = level_0(sum);
	KEEP();
	return sum;
}

/* The name of the program's function at a frame, "" for what is none of the program's, NULL for a
 * frame of the library's, or nowhere. */
static const char *name_at(void *frame, int *ours)
{
	Dl_info info;
	*ours = 0;
	if (!dladdr(frame, &info))
		return NULL;
	if (strstr(info.dli_fname, "libuprobe.so")) {
		*ours = 1;
		return NULL;
	}
	if (strstr(info.dli_fname, "samples") && info.dli_sname)
		return info.dli_sname;
	return "";
}

/* Whether it is all there. */
static int is_whole(const struct sample *sample)
{
	int at = -1, after_main = 0;
	for (int i = 0; i < sample->count; i++) {
		int ours;
		const char *name = name_at(sample->frames[i], &ours);
		if (ours)
			continue;
		if (!name)
			return 0;
		if (i == 0) {
			if (strcmp(name, "on_sample") != 0)
				return 0;
		} else if (at == CHAIN - 1) {
			after_main++;
		} else if (at < 0) {
			/* libc's frames between the handler and the place it interrupted. */
			if (!*name)
				continue;
			for (at = 0; at < CHAIN && strcmp(name, chain[at]) != 0; at++)
				;
			if (at == CHAIN)
				return 0;
		} else if (strcmp(name, chain[++at]) != 0) {
			return 0;
		}
	}
	/* __libc_start_call_main, __libc_start_main, _start. */
	return at == CHAIN - 1 && after_main == 3;
}

int main(int argc, char **argv)
{
	wanted = argc > 1 ? atoi(argv[1]) : 1000;
	long period = argc > 2 ? atol(argv[2]) : 50;
	struct sigaction act = { .sa_handler = on_sample, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGPROF };
	struct itimerspec every = { { 0, period * 1000 }, { 0, period * 1000 } };
	timer_t timer;
	void *warm[1];

	samples = calloc((size_t)wanted, sizeof *samples);
	backtrace(warm, 1); /* loads libgcc_s */
	MUST(sigaction(SIGPROF, &act, NULL));
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(timer_settime(timer, 0, &every, NULL));
	long sum = run();
	signal(SIGPROF, SIG_IGN);
	MUST(timer_delete(timer));
	long expected = calls[0] * 7;
	if (sum != expected)
		printf("sum is %ld, not %ld\n", sum, expected);
	int broken = 0;
	for (int i = 0; i < taken; i++) {
		if (is_whole(&samples[i]) || broken++ >= SHOWN)
			continue;
		printf("sample %d:\n", i);
		for (int k = 0; k < samples[i].count; k++) {
			Dl_info info = { 0 };
			int known = dladdr(samples[i].frames[k], &info);
			printf("  %p %s %s+%#lx\n", samples[i].frames[k], known ? info.dli_fname : "nowhere",
			       known && info.dli_sname ? info.dli_sname : "?",
			       known && info.dli_saddr ? (unsigned long)((char *)samples[i].frames[k] - (char *)info.dli_saddr) : 0);
		}
	}
	printf("%d samples, %d broken\n", taken, broken);
	/* How many rounds there were is a matter of time: not told where output is compared. */
	if (argc > 3) {
		RETURNED("run", 1);
		for (int i = 0; i < 6; i++) {
			char name[] = "level_0";
			name[6] = (char)('0' + i);
			RETURNED(name, calls[i]);
		}
	}
	return 0;
}
