/* A program that closes every descriptor there is and opens files of its own in their place, by
 * each means, while probes log: closes WAY FILE. What is written to FILEs must be its own bytes. */
#include "check.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

FUNCTION long work(long a) { KEEP(); return a + 1; }
static atomic_int stop;
static atomic_long worked;
static char *file;

static void *busy(void *arg)
{
	while (!atomic_load(&stop)) {
		work(1);
		atomic_fetch_add(&worked, 1);
	}
	return arg;
}

static void close_all(const char *way)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	if (strcmp(way, "close_range") == 0)
		syscall(SYS_close_range, 3, ~0u, 0);
	else if (strcmp(way, "closefrom") == 0)
		closefrom(3);
	else if (strcmp(way, "loop") == 0) {
		for (rlim_t fd = 3; fd < limit.rlim_cur && fd < 100000; fd++)
			close((int)fd);
	} else if (strcmp(way, "proc") == 0) {
		int fds[4096], n = 0;
		close(3); /* the table may be full */
		DIR *dir = opendir("/proc/self/fd");
		for (struct dirent *e; dir && (e = readdir(dir)) && n < 4096;)
			if (atoi(e->d_name) > 2)
				fds[n++] = atoi(e->d_name);
		closedir(dir);
		for (int i = 0; i < n; i++)
			close(fds[i]);
	}
}

/* Its own file on as many descriptors as it may have: on ours too, whatever its number. */
static void fill(int count)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	int fd = open(file, O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (fd < 0)
		DIE(file);
	for (int i = 0; i < count; i++)
		if (dup(fd) < 0)
			break;
	/* And at the top of the table. */
	for (int i = 1; i <= 64; i++)
		dup2(fd, (int)limit.rlim_cur - i);
	if (write(fd, "own\n", 4) != 4)
		DIE("write");
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "loop";
	file = argc > 2 ? argv[2] : "/dev/null";
	struct rlimit limit = { 1024, 4096 };
	setrlimit(RLIMIT_NOFILE, &limit);
	if (strcmp(way, "race") == 0) {
		pthread_t thread[2];
		for (int i = 0; i < 2; i++)
			MUST(pthread_create(&thread[i], NULL, busy, NULL));
		for (int i = 0; i < 300; i++) {
			close_all(i % 2 ? "close_range" : "proc");
			fill(200);
		}
		atomic_store(&stop, 1);
		for (int i = 0; i < 2; i++)
			MUST(pthread_join(thread[i], NULL));
	} else {
		for (int i = 0; i < 10; i++) {
			for (int k = 0; k < 20; k++, worked++)
				work(k);
			close_all(way);
			for (int k = 0; k < 20; k++, worked++)
				work(k);
			fill(argc > 3 ? atoi(argv[3]) : 200);
			for (int k = 0; k < 20; k++, worked++)
				work(k);
		}
		/* The lowest too, which everybody writes to. */
		for (int fd = 0; fd < 3; fd += 2) {
			close(fd);
			if (open(file, O_WRONLY | O_APPEND) != fd)
				return 97;
			for (int k = 0; k < 20; k++, worked++)
				work(k);
		}
	}
	TELL("work", atomic_load(&worked));
	return 0;
}
