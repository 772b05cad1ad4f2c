/* A sampling profiler: at every tick the stack, which must lead to main from wherever it was taken. */
#include "defer.h"
#include <execinfo.h>
#include <sys/time.h>

static volatile int samples, lost, on_top;
static void *first[4];
int main(int argc, char **argv);

static void on_tick(int signo)
{
	void *frames[64];
	int found = 0, n = backtrace(frames, 64);
	(void)signo;
	for (int i = 0; i < n; i++)
		found |= (char *)frames[i] > (char *)main && (char *)frames[i] < (char *)main + 4096;
	samples++;
	lost += !found;
	on_top += UPROBE_AVAILABLE() && in_probe;
}

static void take_time(void)
{
	spin(300);
}

int main(int argc, char **argv)
{
	backtrace(first, 4); /* loads libgcc */
	probe_work(argc > 1 && strcmp(argv[1], "return") == 0);
	inside = take_time;
	struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
	struct itimerval timer = { .it_interval = { .tv_usec = 500 }, .it_value = { .tv_usec = 500 } };
	MUST(sigaction(SIGALRM, &action, NULL));
	MUST(setitimer(ITIMER_REAL, &timer, NULL));
	for (long i = 0; samples < 1000; i++)
		call_work(i);
	timer = (struct itimerval){ 0 };
	MUST(setitimer(ITIMER_REAL, &timer, NULL));
	printf("lost %d, on top %d\n", lost, on_top);
	tell_probe();
	return 0;
}
