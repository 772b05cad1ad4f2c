/* Calls `work`, `outer` and `inner` in ways that a trace must tell apart. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

FUNCTION long work(long a, long b) { KEEP(); return a + b; }
FUNCTION long inner(long n) { KEEP(); usleep(200); return n; }
FUNCTION long outer(long n) { KEEP(); inner(n); inner(n + 1); usleep(400); return n; }
FUNCTION long values(int n, const char *s, const int *v, char c, const char **names)
{
	KEEP();
	return n + s[0] + v[0] + c + names[0][0];
}

static long many(long n)
{
	long sum = 0;
	for (long i = 0; i < n; i++)
		sum += work(i, -i);
	return sum;
}
static void *thread(void *n)
{
	many((long)n);
	return NULL;
}
static void threads(int count, long n)
{
	pthread_t all[64];
	for (int i = 0; i < count; i++)
		pthread_create(&all[i], NULL, thread, (void *)n);
	for (int i = 0; i < count; i++)
		pthread_join(all[i], NULL);
}

/* Says in a file, which outlives it, how many calls are over. */
static volatile uint64_t *progress(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 4096))
		exit(2);
	volatile uint64_t *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return count;
}
static volatile uint64_t *counts;
static void *forever(void *index)
{
	for (long i = 0;; i++) {
		work(i, (long)index);
		counts[(long)index * 8] = (uint64_t)i + 1;
		if (i % 64 == 0)
			usleep(10);
	}
	return NULL;
}

static volatile long ticks_seen;
static sigjmp_buf back;
static int leaves;
static void on_tick(int signo)
{
	(void)signo;
	work(ticks_seen++, 1);
	if (leaves)
		siglongjmp(back, 1);
}

static void descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int n = 0;
	while ((entry = readdir(dir))) {
		char to[4096] = "";
		if (readlinkat(dirfd(dir), entry->d_name, to, sizeof to - 1) > 0)
			n += strstr(to, "/events.") != NULL;
	}
	closedir(dir);
	printf("%d descriptors of the trace\n", n);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 10;
	if (strcmp(mode, "work") == 0) {
		printf("%ld\n", many(n));
		descriptors();
	} else if (strcmp(mode, "values") == 0) {
		char longer[400];
		memset(longer, 'l', sizeof longer - 1);
		longer[sizeof longer - 1] = 0;
		const char *strings[] = { "plain", "with \"quotes\" and \n", "", longer, "\xff\xfe" };
		int numbers[] = { -1, 2, -3 };
		const char *names[] = { "eins", "zwei" };
		for (int i = 0; i < 5; i++)
			values(i - 2, strings[i], numbers, "aZ\n'\\"[i], names);
	} else if (strcmp(mode, "calls") == 0) {
		for (long i = 0; i < n; i++)
			outer(i);
	} else if (strcmp(mode, "threads") == 0) {
		threads(8, n);
	} else if (strcmp(mode, "short threads") == 0) {
		for (long i = 0; i < n; i++)
			threads(1, 1);
	} else if (strcmp(mode, "names") == 0) {
		many(n);
		prctl(PR_SET_NAME, "another");
		many(n);
	} else if (strcmp(mode, "fork") == 0) {
		many(n);
		for (int i = 0; i < 3; i++) {
			fflush(NULL);
			if (fork() == 0) {
				many(n);
				return 0;
			}
		}
		many(n);
		while (wait(NULL) > 0)
			;
		printf("done\n");
	} else if (strcmp(mode, "exec") == 0) {
		many(n);
		execl("/proc/self/exe", argv[0], "work", argv[2], NULL);
	} else if (strcmp(mode, "forever") == 0) {
		char path[4096];
		snprintf(path, sizeof path, "%s/progress", getenv("SCRATCH"));
		counts = progress(path);
		pthread_t other;
		pthread_create(&other, NULL, forever, (void *)1L);
		forever((void *)0L);
	} else if (strcmp(mode, "truncate") == 0) {
		char path[4096];
		snprintf(path, sizeof path, "%s/events.%d", getenv("SCRATCH"), getpid());
		many(n);
		if (truncate(path, 0))
			return 3;
		printf("%ld\n", many(n));
	} else if (strcmp(mode, "ticks") == 0 || strcmp(mode, "leaving ticks") == 0) {
		struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { { 0, 0 }, { 0, 0 } };
		volatile long calls = 0;
		leaves = mode[0] == 'l';
		signal(SIGALRM, on_tick);
		/* The first tick may come before setitimer() has returned: there is a way back already. */
		if (sigsetjmp(back, 1) == 0)
			setitimer(ITIMER_REAL, &often, NULL);
		while (ticks_seen < n) {
			/* Counted first: a handler may leave from inside. */
			calls++;
			work(calls, 0);
		}
		setitimer(ITIMER_REAL, &never, NULL);
		signal(SIGALRM, SIG_IGN);
		printf("%ld %ld\n", calls, ticks_seen);
	}
	return 0;
}
