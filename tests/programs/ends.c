/* Every way a process can end, after work() was called 1000 times, half of it in a thread that
 * is still there: ends WAY. */
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

FUNCTION long work(long a) { KEEP(); return a + 1; }
FUNCTION void at_exit(void) { KEEP(); work(1); }
static pthread_barrier_t ready;

static void *other(void *arg)
{
	for (int i = 0; i < 500; i++)
		work(i);
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return arg;
}
static void *ending(void *arg)
{
	if (strcmp(arg, "exit") == 0)
		exit(4);
	if (strcmp(arg, "abort") == 0)
		abort();
	*(volatile int *)8 = 1;
	return NULL;
}
static void on_term(int signo) { (void)signo; work(1); _exit(11); }
static void on_abort(int signo) { (void)signo; work(1); }
static volatile int zero;

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "return";
	pthread_t thread;
	printf("output before the end");
	struct rlimit none = { 0, 0 };
	setrlimit(RLIMIT_CORE, &none);
	MUST(pthread_barrier_init(&ready, NULL, 2));
	MUST(pthread_create(&thread, NULL, other, NULL));
	for (int i = 0; i < 500; i++)
		work(i);
	pthread_barrier_wait(&ready);
#define WAY(name) if (strcmp(way, name) == 0)
	WAY("return") return 3;
	WAY("exit") exit(4);
	WAY("atexit") { atexit(at_exit); exit(4); }
	WAY("_exit") _exit(5);
	WAY("_Exit") _Exit(6);
	WAY("exit_group") syscall(SYS_exit_group, 7);
	WAY("quick_exit") quick_exit(8);
	WAY("at_quick_exit") { at_quick_exit(at_exit); quick_exit(8); }
	WAY("abort") abort();
	WAY("abort caught") { signal(SIGABRT, on_abort); abort(); }
	WAY("abort blocked") {
		sigset_t all;
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, NULL);
		abort();
	}
	WAY("segv") *(volatile int *)8 = 1;
	WAY("fpe") return 77 / zero;
	WAY("ill") __builtin_trap();
	WAY("trap") raise(SIGTRAP);
	WAY("bus") {
		int fd = memfd_create("empty", 0);
		char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		return *(volatile char *)p;
	}
	WAY("term") kill(getpid(), SIGTERM);
	WAY("int") raise(SIGINT);
	WAY("hup") raise(SIGHUP);
	WAY("pipe") { int p[2]; MUST(pipe(p)); close(p[0]); if (write(p[1], "x", 1) < 0) return 99; }
	WAY("alarm") { alarm(1); for (;;) pause(); }
	WAY("usr1") raise(SIGUSR1);
	WAY("rt") raise(SIGRTMIN + 3);
	WAY("quit") raise(SIGQUIT);
	WAY("term caught") { signal(SIGTERM, on_term); raise(SIGTERM); }
	WAY("cpu") {
		struct rlimit limit = { 1, 2 };
		setrlimit(RLIMIT_CPU, &limit);
		for (;;)
			KEEP();
	}
	WAY("exec") execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
	WAY("exec without environment") {
		char *args[] = { "sh", "-c", "exit 9", NULL }, *env[] = { NULL };
		execve("/bin/sh", args, env);
	}
	WAY("exec itself") execl(argv[0], argv[0], "return", (char *)NULL);
	WAY("exec fails") { execl("/no/such/program", "x", (char *)NULL); return errno == ENOENT ? 10 : 99; }
	WAY("fexecve") {
		char *args[] = { "sh", "-c", "exit 9", NULL }, *env[] = { NULL };
		fexecve(open("/bin/sh", O_RDONLY), args, env);
	}
	WAY("thread exits") { MUST(pthread_create(&thread, NULL, ending, "exit")); for (;;) pause(); }
	WAY("thread aborts") { MUST(pthread_create(&thread, NULL, ending, "abort")); for (;;) pause(); }
	WAY("thread crashes") { MUST(pthread_create(&thread, NULL, ending, "crash")); for (;;) pause(); }
	WAY("main leaves") { pthread_cancel(thread); pthread_join(thread, NULL); pthread_exit(NULL); }
	return 98;
}
