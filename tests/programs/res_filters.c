/* Programs that shut themselves in. Each mode installs seccomp filters of some kind, works on, and ends in
 * a way the filter lets it. What work() ran is told before: afterwards there may be no way to. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(x) (sizeof(x) / sizeof((x)[0]))
static volatile int calls;
static volatile sig_atomic_t traps;
__attribute__((noinline, noclone)) int work(const char *text)
{
	calls++;
	return text[0];
}
static void told(int hits)
{
	char line[64];
	int n = snprintf(line, sizeof line, "hits work %d\n", hits);
	if (write(1, line, (size_t)n) != n)
		_exit(1);
}
static void on_sigsys(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	work("trap");
	traps = info->si_syscall;
}
/* `forbid`: what is listed gets `action`; else everything but that. */
static void filter(int forbid, unsigned action, const int *list, size_t count, int by_number, unsigned flags)
{
	struct sock_filter insns[64] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	size_t n = 1;
	for (size_t i = 0; i < count; i++) {
		insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)list[i], 0, 1);
		insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, forbid ? action : SECCOMP_RET_ALLOW);
	}
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, forbid ? SECCOMP_RET_ALLOW : action);
	struct sock_fprog program = { (unsigned short)n, insns };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	long status = by_number ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program)
				: prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	if (status) {
		perror("seccomp");
		_exit(77);
	}
}
static const int forbidden[] = { SYS_open, SYS_openat, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_mremap, SYS_membarrier,
				 SYS_readlink, SYS_madvise, SYS_brk, SYS_gettid, SYS_getpid, SYS_tgkill, SYS_prlimit64,
				 SYS_fstat, SYS_newfstatat, SYS_fcntl, SYS_getdents64 };
static const int smallest[] = { SYS_read, SYS_write, SYS_exit, SYS_exit_group };
static const int small[] = { SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_rt_sigreturn };

static void *thread(void *arg)
{
	for (int i = 0; i < 50; i++)
		work("thread");
	return arg;
}
static pthread_barrier_t meet;
static void *waiting(void *arg)
{
	pthread_barrier_wait(&meet);
	pthread_barrier_wait(&meet);
	for (int i = 0; i < 50; i++)
		work("thread");
	return arg;
}
static void *shut_in(void *arg)
{
	filter(1, SECCOMP_RET_KILL_PROCESS, forbidden, COUNT(forbidden), 0, 0);
	for (int i = 0; i < 50; i++)
		work("thread");
	syscall(SYS_exit, 0);
	return arg;
}
static void some_work(int n)
{
	for (int i = 0; i < n; i++)
		work("text");
}
int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int by_number = argc > 2 && !strcmp(argv[2], "number");
	some_work(10);
	if (!strcmp(mode, "strict")) {
		told(60);
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		some_work(50);
		syscall(SYS_exit, 7);
	} else if (!strcmp(mode, "strict, _exit")) {
		told(60);
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		some_work(50);
		_exit(7);
	} else if (!strcmp(mode, "smallest")) {
		told(60);
		filter(0, SECCOMP_RET_KILL_PROCESS, smallest, COUNT(smallest), by_number, 0);
		some_work(50);
		_exit(7);
	} else if (!strcmp(mode, "smallest, violated")) {
		told(60);
		filter(0, SECCOMP_RET_KILL_PROCESS, smallest, COUNT(smallest), by_number, 0);
		some_work(50);
		getppid();
	} else if (!strcmp(mode, "smallest, crash")) {
		told(60);
		filter(0, SECCOMP_RET_KILL_PROCESS, smallest, COUNT(smallest), by_number, 0);
		some_work(50);
		*(volatile int *)8 = 1;
	} else if (!strcmp(mode, "small")) {
		filter(0, SECCOMP_RET_KILL_PROCESS, small, COUNT(small), by_number, 0);
		some_work(50);
		told(calls);
		_exit(7);
	} else if (!strcmp(mode, "small, errors")) {
		filter(0, SECCOMP_RET_ERRNO | ENOSYS, small, COUNT(small), by_number, 0);
		some_work(50);
		long status = syscall(SYS_getppid);
		int fd = open("/dev/null", O_RDONLY);
		char line[64];
		int n = snprintf(line, sizeof line, "%ld %d %d\n", status, fd, errno);
		if (write(1, line, (size_t)n) != n)
			return 1;
		told(calls);
	} else if (!strcmp(mode, "small, traps")) {
		struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
		sigaction(SIGSYS, &action, NULL);
		filter(0, SECCOMP_RET_TRAP, small, COUNT(small), by_number, 0);
		some_work(50);
		getppid();
		char line[64];
		int n = snprintf(line, sizeof line, "trapped %d\n", traps == SYS_getppid);
		if (write(1, line, (size_t)n) != n)
			return 1;
		told(calls);
		_exit(7);
	} else if (!strcmp(mode, "forbidden")) {
		filter(1, SECCOMP_RET_KILL_PROCESS, forbidden, COUNT(forbidden), by_number, 0);
		some_work(50);
		told(calls);
		return 0;
	} else if (!strcmp(mode, "twice")) {
		filter(1, SECCOMP_RET_KILL_PROCESS, forbidden, COUNT(forbidden), by_number, 0);
		filter(0, SECCOMP_RET_KILL_PROCESS, small, COUNT(small), by_number, 0);
		some_work(50);
		told(calls);
		_exit(7);
	} else if (!strcmp(mode, "one thread")) {
		pthread_t t;
		pthread_create(&t, NULL, shut_in, NULL);
		pthread_join(t, NULL);
		free(malloc(1 << 20));
		pthread_create(&t, NULL, thread, NULL);
		pthread_join(t, NULL);
		told(calls);
	} else if (!strcmp(mode, "all threads")) {
		pthread_t t;
		pthread_barrier_init(&meet, NULL, 2);
		pthread_create(&t, NULL, waiting, NULL);
		pthread_barrier_wait(&meet);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		filter(1, SECCOMP_RET_KILL_PROCESS, (const int[]){ SYS_openat, SYS_membarrier, SYS_gettid, SYS_fstat, SYS_fcntl }, 5, 1,
		       SECCOMP_FILTER_FLAG_TSYNC);
		pthread_barrier_wait(&meet);
		pthread_join(t, NULL);
		pthread_create(&t, NULL, thread, NULL);
		pthread_join(t, NULL);
		told(calls);
	} else if (!strcmp(mode, "only asks")) {
		/* What libraries do to find out what the kernel can do; nothing is installed. */
		printf("%d ", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
		printf("%s\n", strerror(errno));
		printf("%ld ", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL));
		printf("%s\n", strerror(errno));
		struct sock_filter wrong[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), BPF_STMT(BPF_RET | BPF_K, 0) };
		struct sock_fprog program = { 2, wrong };
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		printf("%d ", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
		printf("%s\n", strerror(errno));
		some_work(50);
		free(malloc(1 << 20));
		told(calls);
	}
	fflush(stdout);
	return 3;
}
