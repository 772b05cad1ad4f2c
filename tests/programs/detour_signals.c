/* Signals that come while threads are anywhere around a jump: what the program's handlers see is the
 * program. Probes: exe:window_* from outside, of any kind.
 *   detour_signals SIGNALS
 */
#include "check.h"
#include "windows.h"
#include <execinfo.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum { THREADS = 2, MOST = 256 };
/* Of files, and the vDSO: what a program's own rip can be in. */
static struct { uint64_t from, to; int is_ours; } maps[MOST];
static int map_count;

static void read_maps(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	char line[512], access[8];
	while (file && map_count < MOST && fgets(line, sizeof line, file)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx %7s", &from, &to, access) == 3 && access[2] == 'x' && (strchr(line, '/') || strstr(line, "[vdso]"))) {
			maps[map_count].from = from;
			maps[map_count].is_ours = strstr(line, "libuprobe") != NULL;
			maps[map_count++].to = to;
		}
	}
	if (file)
		fclose(file);
}

/* 0: memory of nobody's; 1: the program or its libraries; 2: libuprobe.so. */
static int whose(uint64_t rip)
{
	for (int i = 0; i < map_count; i++)
		if (rip >= maps[i].from && rip < maps[i].to)
			return 1 + maps[i].is_ours;
	return 0;
}

static atomic_long foreign_rip, wrong_rsp, short_backtraces, wrong_results, signals_seen, jumps_out, nested_calls, in_windows, in_library, full;
static atomic_long started, finished;
static atomic_int stop;
static int may_jump;
static _Thread_local sigjmp_buf out;
static _Thread_local volatile int can_jump;
static _Thread_local volatile uint64_t stack_in_call;
static long expected[512];

FUNCTION long nested(long a) { KEEP(); return a * 3; }
static void *caller(void *arg);
extern char caller_end[];

static void on_signal(int signal, siginfo_t *info, void *context)
{
	(void)info;
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	uint64_t rip = (uint64_t)regs[REG_RIP], rsp = (uint64_t)regs[REG_RSP];
	int where = whose(rip);
	atomic_fetch_add(&signals_seen, 1);
	if (where == 0)
		atomic_fetch_add(&foreign_rip, 1);
	if (where == 2)
		atomic_fetch_add(&in_library, 1);
	const unsigned char *first = window_table[0].start, *last = window_table_end[-1].start;
	if (rip >= (uint64_t)(uintptr_t)first && rip <= (uint64_t)(uintptr_t)last + 64) {
		atomic_fetch_add(&in_windows, 1);
		/* The functions push nothing: r12 is what rsp was before the call. */
		if (rsp != (uint64_t)regs[REG_R12] - 8)
			atomic_fetch_add(&wrong_rsp, 1);
	}
	if (nested((long)rsp) != (long)rsp * 3)
		atomic_fetch_add(&wrong_results, 1);
	atomic_fetch_add(&nested_calls, 1);
	if (can_jump) {
		void *frames[64];
		int n = backtrace(frames, 64), seen = 0;
		for (int i = 0; i < n; i++)
			seen |= frames[i] == (void *)call_window_back ||
				((uint64_t)(uintptr_t)frames[i] >= (uint64_t)(uintptr_t)call_window &&
				 (uint64_t)(uintptr_t)frames[i] < (uint64_t)(uintptr_t)call_window + 80);
		/* Anywhere inside the call, which is nearly always. */
		if (seen)
			atomic_fetch_add(&full, 1);
		else if (whose(rip) == 2 || (rip >= (uint64_t)(uintptr_t)first && rip <= (uint64_t)(uintptr_t)last + 64))
			atomic_fetch_add(&short_backtraces, 1);
		if (may_jump && atomic_load(&signals_seen) % 64 == 0) {
			atomic_fetch_add(&jumps_out, 1);
			siglongjmp(out, 1);
		}
	}
	(void)signal;
}

static void *caller(void *arg)
{
	long count = window_table_end - window_table;
	volatile long i = (long)arg;
	while (!atomic_load(&stop)) {
		sigsetjmp(out, 1);
		for (; !atomic_load(&stop); i = (i + 1) % count) {
			atomic_fetch_add(&started, 1);
			can_jump = 1;
			long result = call_window(window_table[i].start, 3, 7);
			can_jump = 0;
			atomic_fetch_add(&finished, 1);
			if (result != expected[i])
				atomic_fetch_add(&wrong_results, 1);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	long wanted = argc > 1 ? atol(argv[1]) : 2000, count = window_table_end - window_table;
	may_jump = argc > 2 && !strcmp(argv[2], "jump");
	void *frames[4];
	backtrace(frames, 4);
	read_maps();
	for (long i = 0; i < count; i++)
		expected[i] = call_window(window_table[i].start, 3, 7);
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	/* One at a time: of two that the kernel stacks upon each other the first is not looked at yet when the
	 * second's handler walks the stack, and memory of ours has no unwind tables. */
	sigaddset(&action.sa_mask, SIGPROF);
	sigaddset(&action.sa_mask, SIGRTMIN);
	MUST(sigaction(SIGPROF, &action, NULL));
	MUST(sigaction(SIGRTMIN, &action, NULL));
	pthread_t thread[THREADS];
	sigset_t set;
	sigfillset(&set);
	for (long i = 0; i < THREADS; i++)
		MUST(pthread_create(&thread[i], NULL, caller, (void *)i));
	MUST(pthread_sigmask(SIG_BLOCK, &set, NULL));
	struct itimerval every = { { 0, 300 }, { 0, 300 } };
	MUST(setitimer(ITIMER_PROF, &every, NULL));
	for (long i = 0; i < wanted; i++) {
		pthread_kill(thread[i % THREADS], SIGRTMIN);
		if (i % 8 == 0)
			usleep(100);
	}
	struct itimerval never = { { 0, 0 }, { 0, 0 } };
	MUST(setitimer(ITIMER_PROF, &never, NULL));
	atomic_store(&stop, 1);
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(thread[i], NULL));
	printf("foreign rip: %ld\nwrong rsp: %ld\nshort backtraces: %ld\nwrong results: %ld\n", foreign_rip, wrong_rsp,
	       short_backtraces, wrong_results);
	printf("signals: %s\n", signals_seen >= wanted / 2 ? "many" : "few");
	TELL("nested", nested_calls);
	printf("calls %ld to %ld\n", count + finished, count + started);
	fprintf(stderr, "signals %ld in windows %ld in library %ld full %ld out %ld\n", signals_seen, in_windows, in_library, full, jumps_out);
	return 0;
}
