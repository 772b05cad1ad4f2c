/* deaths: children that die in every way after work() was called a hundred times; prints how each did. */
#pragma GCC diagnostic ignored "-Winfinite-recursion"
#include "signals.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

FUNCTION int work(int a) { KEEP(); return a + 1; }
static void works(int n) { for (int i = 0; i < n; i++) work(i); }

static int signal_number;
static void by_raise(void) { raise(signal_number); }
static void by_kill(void) { kill(getpid(), signal_number); pause(); }
static void by_queue(void) { sigqueue(getpid(), signal_number, (union sigval){ 1 }); pause(); }
static void by_number(void) { syscall(SYS_tgkill, getpid(), gettid(), signal_number); pause(); }
static void *waits(void *unused) { for (;;) pause(); return unused; }
static void *kills(void *unused) { raise(signal_number); return unused; }
static void to_a_thread(void)
{
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, waits, NULL));
	pthread_kill(thread, signal_number);
	pause();
}
static void in_a_thread(void)
{
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, kills, NULL));
	pause();
}
static void unblocked(void)
{
	block_only(full());
	raise(signal_number);
	block_only(none());
}
static void while_it_waits(void)
{
	sigset_t open = none();
	block_only(full());
	raise(signal_number);
	sigsuspend(&open);
}
static void again(int signo) { signal(signo, SIG_DFL); raise(signo); }
static void from_its_handler(void) { signal(signal_number, again); raise(signal_number); }
static void once(int signo) { raise(signo); }
static void reset_by_the_first(void)
{
	struct sigaction action = { .sa_handler = once, .sa_flags = SA_RESETHAND | SA_NODEFER };
	sigaction(signal_number, &action, NULL);
	raise(signal_number);
}

/* The processor's. */
static volatile int *volatile nowhere = (int *)16;
static volatile int zero;
static void store(void) { *nowhere = 1; }
static void wild(void) { ((void (*)(void))nowhere)(); }
static void noncanonical(void) { *(volatile int *)0x8000000000000000 = 1; }
static void divide(void) { __asm__ volatile("xorl %%edx, %%edx; idivl %0" : : "m"(zero), "a"(1) : "edx"); }
static void undefined(void) { __asm__ volatile("ud2"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void interrupt3(void) { __asm__ volatile(".byte 0xcd, 3"); }
static void interrupt80(void) { __asm__ volatile("int $0x90"); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void trap_flag(void) { __asm__ volatile("pushfq; orl $0x100, (%rsp); popfq; nop"); }
static void bus(void)
{
	int fd = memfd_create("short", 0);
	volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	page[0] = 1;
}
FUNCTION int deep(int n) { volatile char frame[4096]; frame[0] = 1; return deep(n + 1) + frame[0]; }
static void overflow(void) { deep(0); }
static void *overflows(void *unused) { deep(0); return unused; }
static void overflow_in_a_thread(void)
{
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, overflows, NULL));
	pthread_join(thread, NULL);
}
static void blocked_store(void) { block_only(full()); store(); }
static void ignored_store(void) { signal(SIGSEGV, SIG_IGN); store(); }
static void blocked_undefined(void) { block_only(full()); undefined(); }
static void faults(int signo) { (void)signo; store(); }
static void double_fault(void) { signal(SIGSEGV, faults); store(); }
static void blocked_breakpoint(void) { block_only(full()); breakpoint(); }

/* The kernel's. */
static void broken_pipe(void)
{
	int ends[2];
	MUST(pipe(ends));
	close(ends[0]);
	write(ends[1], "x", 1);
}
static void alarm_clock(void)
{
	struct itimerval soon = { .it_value = { 0, 20000 } };
	setitimer(ITIMER_REAL, &soon, NULL);
	for (;;)
		work(0);
}
static void profiler(void)
{
	struct itimerval soon = { .it_value = { 0, 20000 } };
	setitimer(ITIMER_PROF, &soon, NULL);
	for (;;)
		zero = 0;
}
static void file_size(void)
{
	struct rlimit most = { 1 << 24, 1 << 24 };
	setrlimit(RLIMIT_FSIZE, &most);
	FILE *file = tmpfile();
	pwrite(fileno(file), "x", 1, 1 << 24);
}
static void forbid(unsigned answer)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { COUNT(code), code };
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}
static void bad_call(void) { forbid(SECCOMP_RET_TRAP); getppid(); }
static void aborts(void) { abort(); }
static void aborts_blocked(void) { block_only(full()); abort(); }
static void on_abort(int signo) { (void)signo; works(1); }
static void aborts_handled(void) { signal(SIGABRT, on_abort); abort(); }
static void aborts_ignored(void) { signal(SIGABRT, SIG_IGN); abort(); }
static jmp_buf out;
static void leaves(int signo) { (void)signo; longjmp(out, 1); }
static void aborts_and_leaves(void)
{
	signal(SIGABRT, leaves);
	if (setjmp(out) == 0)
		abort();
	_exit(44);
}
static void *aborting(void *unused) { abort(); return unused; }
static void aborts_in_a_thread(void)
{
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, aborting, NULL));
	pause();
}

/* Exits from odd places. */
static void exits(int signo) { exit(signo); }
static void quick_exits(int signo) { quick_exit(signo); }
static void exits_at_once(int signo) { _exit(signo); }
static void exit_in_a_handler(void) { signal(signal_number, exits); raise(signal_number); }
static void quick_exit_in_a_handler(void) { signal(signal_number, quick_exits); raise(signal_number); }
static void exit_at_once_in_a_handler(void) { signal(signal_number, exits_at_once); raise(signal_number); }
static void exit_on_a_fault(void) { signal(SIGSEGV, exits); store(); }
static void exit_on_an_undefined(void) { signal(SIGILL, exits_at_once); undefined(); }
static void exec_fails(void)
{
	char *argv[] = { "x", NULL };
	execv("/nonexistent", argv);
	_exit(45);
}
static void exec_works(void)
{
	char *argv[] = { "false", NULL };
	execv("/bin/false", argv);
}
static void *only(void *unused)
{
	usleep(1000);
	return unused;
}
static void last_thread_returns(void)
{
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, only, NULL));
	pthread_exit(NULL);
}
static void thread_ends_by_number(void) { syscall(SYS_exit, 46); }
static void group_ends_by_number(void) { syscall(SYS_exit_group, 47); }
static void *busy(void *unused) { for (;;) work(0); return unused; }
static void exit_beside_busy_threads(void)
{
	pthread_t thread;
	for (int i = 0; i < 3; i++)
		MUST(pthread_create(&thread, NULL, busy, NULL));
	usleep(5000);
	exit(48);
}
static void die_beside_busy_threads(void)
{
	pthread_t thread;
	for (int i = 0; i < 3; i++)
		MUST(pthread_create(&thread, NULL, busy, NULL));
	usleep(5000);
	raise(SIGTERM);
}

static void die(const char *what, void (*way)(void))
{
	int status;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		works(100);
		way();
		_exit(96);
	}
	MUST(waitpid(pid, &status, 0) != pid);
	printf("%s %s: %#x\n", what, signal_number ? name_of(signal_number) : "", (unsigned)status);
}
#define DIES(way) die(#way, way)

int main(void)
{
	/* A core or none: the flag in the status tells. The core itself is of no use. */
	struct rlimit core = { 65536, 65536 };
	setrlimit(RLIMIT_CORE, &core);
	const char *scratch = getenv("SCRATCH");
	if (scratch)
		MUST(chdir(scratch));
	static const int fatal[] = { SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGUSR1,
		SIGSEGV, SIGPIPE, SIGTERM, SIGSTKFLT, SIGXCPU, SIGVTALRM, SIGIO, SIGPWR, SIGSYS, 34, 64 };
	for (int i = 0; i < COUNT(fatal); i++) {
		signal_number = fatal[i];
		DIES(by_raise);
		DIES(by_kill);
		DIES(by_queue);
		DIES(by_number);
		DIES(to_a_thread);
		DIES(in_a_thread);
		DIES(unblocked);
		DIES(while_it_waits);
		DIES(from_its_handler);
		DIES(reset_by_the_first);
		DIES(exit_in_a_handler);
		DIES(quick_exit_in_a_handler);
		DIES(exit_at_once_in_a_handler);
	}
	signal_number = 0;
	DIES(store), DIES(wild), DIES(noncanonical), DIES(divide), DIES(undefined), DIES(breakpoint), DIES(interrupt3);
	DIES(interrupt80), DIES(privileged), DIES(trap_flag), DIES(bus), DIES(overflow), DIES(overflow_in_a_thread);
	DIES(blocked_store), DIES(ignored_store), DIES(blocked_undefined), DIES(double_fault), DIES(blocked_breakpoint);
	DIES(broken_pipe), DIES(profiler), DIES(file_size), DIES(bad_call);
	DIES(aborts), DIES(aborts_blocked), DIES(aborts_handled), DIES(aborts_ignored), DIES(aborts_and_leaves);
	DIES(aborts_in_a_thread), DIES(exit_on_a_fault), DIES(exit_on_an_undefined), DIES(exec_fails), DIES(exec_works);
	DIES(last_thread_returns), DIES(thread_ends_by_number), DIES(group_ends_by_number);
	DIES(alarm_clock), DIES(exit_beside_busy_threads), DIES(die_beside_busy_threads);
	return 0;
}
