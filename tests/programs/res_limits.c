/* Each mode sets a limit, and then does what programs do. It tells how often work() ran. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int calls;
__attribute__((noinline, noclone)) void work(void)
{
	__atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); /* threads do, too */
	__asm__ volatile("" ::: "memory");
}
static void limit(int what, rlim_t to)
{
	struct rlimit limit = { to, to };
	if (setrlimit(what, &limit))
		perror("setrlimit");
}
static size_t vm(const char *field)
{
	char line[256];
	size_t kb = 0;
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, field, strlen(field)))
			kb = strtoul(line + strlen(field) + 1, NULL, 10);
	if (f)
		fclose(f);
	return kb * 1024;
}
static void *thread(void *arg)
{
	for (int i = 0; i < 100; i++)
		work();
	return arg;
}
static void some_work(void)
{
	for (int i = 0; i < 100; i++)
		work();
	pthread_t t;
	int status = pthread_create(&t, NULL, thread, NULL);
	printf("thread %s\n", strerror(status));
	if (!status)
		pthread_join(t, NULL);
	void *small = malloc(1000), *large = malloc(1 << 20);
	printf("malloc %d %d\n", small != NULL, large != NULL);
	free(small);
	free(large);
}
static void on_signal(int signal)
{
	printf("signal %d\n", signal);
}
/* Until the pipe that is standard error has no reader any more: who started this closes its end when it comes to it,
 * and until then processes that were forked beside have one, too. */
static void wait_for_nobody(void)
{
	struct pollfd end = { .fd = 2 };
	while (poll(&end, 1, 1000) >= 0 && !(end.revents & POLLERR)) {}
}
int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (!strcmp(mode, "nobody reads"))
		wait_for_nobody();
	work();
	if (!strcmp(mode, "address space")) {
		limit(RLIMIT_AS, vm("VmSize") + (24 << 20));
		some_work();
	} else if (!strcmp(mode, "no address space")) {
		limit(RLIMIT_AS, vm("VmSize"));
		void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		printf("mmap %s\n", p == MAP_FAILED ? strerror(errno) : "works");
		for (int i = 0; i < 100; i++)
			work();
	} else if (!strcmp(mode, "data")) {
		limit(RLIMIT_DATA, vm("VmData") + (24 << 20));
		some_work();
	} else if (!strcmp(mode, "no data")) {
		limit(RLIMIT_DATA, 0);
		for (int i = 0; i < 20; i++) {
			void *library = dlopen("libm.so.6", RTLD_NOW);
			printf("dlopen %s\n", library ? "works" : "fails");
			work();
		}
		void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		printf("mmap %s\n", p == MAP_FAILED ? strerror(errno) : "works");
	} else if (!strcmp(mode, "stack")) {
		limit(RLIMIT_STACK, 64 << 10);
		some_work();
	} else if (!strcmp(mode, "files")) {
		limit(RLIMIT_NOFILE, 3);
		some_work();
		printf("open %s\n", open("/dev/null", O_RDONLY) < 0 ? strerror(errno) : "works");
	} else if (!strcmp(mode, "file size")) {
		signal(SIGXFSZ, on_signal);
		limit(RLIMIT_FSIZE, 100);
		some_work();
	} else if (!strcmp(mode, "file size 0, default")) {
		limit(RLIMIT_FSIZE, 0);
		for (int i = 0; i < 200; i++)
			work();
	} else if (!strcmp(mode, "processes")) {
		limit(RLIMIT_NPROC, 1);
		if (geteuid() == 0 && setuid(65534))
			perror("setuid");
		pid_t pid = fork();
		printf("fork %s\n", pid < 0 ? strerror(errno) : "works");
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			wait(NULL);
		some_work();
	} else if (!strcmp(mode, "memory lock")) {
		limit(RLIMIT_MEMLOCK, 1 << 16);
		if (geteuid() == 0 && setuid(65534))
			perror("setuid");
		printf("mlockall %s\n", mlockall(MCL_FUTURE) ? strerror(errno) : "works");
		void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		printf("mmap %s\n", p == MAP_FAILED ? strerror(errno) : "works");
		for (int i = 0; i < 100; i++)
			work();
	} else if (!strcmp(mode, "all locked")) {
		limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
		size_t before = vm("VmLck");
		printf("mlockall %s\n", mlockall(MCL_CURRENT | MCL_FUTURE) ? strerror(errno) : "works");
		some_work();
		size_t locked = vm("VmLck");
		fprintf(stderr, "locked %zu MiB, before %zu, resident %zu\n", locked >> 20, before >> 20, vm("VmRSS") >> 20);
		printf("locked %s\n", locked < (size_t)256 << 20 ? "little" : "much");
		pthread_t many[20];
		for (int i = 0; i < 20; i++)
			pthread_create(&many[i], NULL, thread, NULL);
		for (int i = 0; i < 20; i++)
			pthread_join(many[i], NULL);
		fprintf(stderr, "locked %zu MiB, resident %zu\n", vm("VmLck") >> 20, vm("VmRSS") >> 20);
	} else if (!strcmp(mode, "cpu")) {
		limit(RLIMIT_CPU, 100);
		some_work();
	} else if (!strcmp(mode, "one file")) {
		for (int i = 0; i < 2; i++) {
			for (int j = 0; j < 50; j++)
				work();
			int fd = open("/dev/null", O_RDONLY);
			printf("open %d %zu\n", fd, malloc_usable_size(mode == argv[0] ? argv : NULL));
			close(fd);
		}
	} else if (!strcmp(mode, "nothing more")) {
		for (int i = 0; i < 100; i++)
			work();
	} else if (!strcmp(mode, "nothing") || !strcmp(mode, "nobody reads")) {
		some_work();
	}
	printf("hits work %d\n", calls);
	return 0;
}
