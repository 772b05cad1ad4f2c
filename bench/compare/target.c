/* The target program: target FUNCTION SHAPE SETUP IN OUT
 * Calls one function over and over, as it is told to on descriptor IN, one byte a command:
 *   r  one round: OUT gets "nanoseconds calls\n", the first of one call, the second so far in all
 *   t  OUT gets the function's first five bytes, as they are now
 *   d  undoes the setup; OUT gets "calls counted kept\n": counted is -1 where nothing here counts; kept is 0 where
 *      vector registers that a C handler uses are not what they were for the program, 1 where they are, else -1
 * SHAPE  single; chain: under eight callers; threads: while another thread does the same
 * SETUP  none; handler, handler-novec, post, return, return-both: the C API's, with empty handlers (handler-own,
 *        handler-novec-own: hits counted by each thread for itself); sigtrap, sigtrap-stub: the floors'; peer: counted by
 *        bench/peers */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <uprobe.h>

#define BATCHES 25
#define BATCH_NS 60000.0        /* much less than a time slice: most batches are undisturbed */
#define MOST_NS 50e6             /* of a round of two threads that never run at the same time */

typedef int (*function)(int, int, void *);
extern int chain1(int, int, void *);
extern int floor_landing(void);
extern __thread uint64_t floor_cell;
extern __thread uint64_t *floor_cells, *floor_shadow;
extern __thread uint64_t floor_histogram[64];
static int nothing(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void nothing_after(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
}
static int nothing_of(struct uretprobe_instance *call, struct uprobe_regs *regs) { (void)call; (void)regs; return 0; }
int (*floor_handler)(struct uprobe *, struct uprobe_regs *) = nothing;
uint64_t floor_xsave_size;

/* What the threads share they only read, but for these, which have lines of their own. */
static function called __attribute__((aligned(128)));
static int is_chain, is_threads;
static unsigned long calls __attribute__((aligned(128))), batch = 1;
static _Atomic unsigned long other_calls __attribute__((aligned(128)));
static _Atomic int other_runs __attribute__((aligned(128))), other_done;
static __thread volatile int sink;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

__attribute__((noinline, aligned(64))) static void call_single(unsigned long n)
{
	function f = called;
	int s = 1;
	for (unsigned long i = 0; i < n; i++)
		s = f(s, (int)i, NULL);
	sink = s;
}
__attribute__((noinline, aligned(64))) static void call_chain(unsigned long n)
{
	int s = 1;
	for (unsigned long i = 0; i < n; i++)
		s = chain1(s, (int)i, (void *)called);
	sink = s;
}

static void prepare_thread(void)
{
	floor_cells = calloc(16, sizeof *floor_cells);
	floor_shadow = calloc(4096, sizeof *floor_shadow);
}
static cpu_set_t all;
static void pin(int which)
{
	cpu_set_t one;
	int cpus = CPU_COUNT(&all);
	which = cpus - 1 - which % cpus;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && which-- == 0) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			sched_setaffinity(0, sizeof one, &one);
			return;
		}
}
static void *other_thread(void *unused)
{
	(void)unused;
	prepare_thread();
	pin(1);
	while (!atomic_load(&other_done)) {
		if (!atomic_load(&other_runs)) {
			usleep(200);
			continue;
		}
		call_single(256);
		atomic_store_explicit(&other_calls, other_calls + 256, memory_order_relaxed);
	}
	return (void *)(uintptr_t)(floor_cell + floor_cells[1]);
}

static double one_batch(void)
{
	double before = now();
	if (is_chain)
		call_chain(batch);
	else
		call_single(batch);
	double after = now();
	calls += batch;
	return (after - before) / (double)batch;
}
/* The least of some batches: what a disturbed one has more is not the probe's. Of two threads only
 * batches count during which the other one has got about as far. */
static double one_round(void)
{
	double least = INFINITY, end = now() + MOST_NS;
	atomic_store(&other_runs, is_threads);
	for (int good = 0; good < BATCHES && (!is_threads || now() < end);) {
		unsigned long other = atomic_load(&other_calls);
		double ns = one_batch();
		if (is_threads && atomic_load(&other_calls) - other < batch / 2)
			continue;
		good++;
		least = fmin(least, ns);
	}
	atomic_store(&other_runs, 0);
	return least;
}

static void on_trap(int signo, siginfo_t *info, void *context) { (void)signo; (void)info; (void)context; }
static void on_trap_stub(int signo, siginfo_t *info, void *context)
{
	ucontext_t *frame = context;
	uint64_t *slot = (uint64_t *)frame->uc_mcontext.gregs[REG_RSP];
	(void)signo; (void)info;
	*floor_shadow = *slot;
	floor_shadow += 2;
	*slot = (uint64_t)floor_landing;
}
static void handle_sigtrap(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigaction(SIGTRAP, &action, NULL);
}

/* A handler that uses vector registers; and whether the program notices. */
static int clobber(struct uprobe *up, struct uprobe_regs *regs)
{
	(void)up; (void)regs;
	if (__builtin_cpu_supports("avx512f"))
		__asm__ volatile("vpxord %zmm5, %zmm5, %zmm5\n vpxord %zmm20, %zmm20, %zmm20");
	else if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vxorps %ymm5, %ymm5, %ymm5");
	else
		__asm__ volatile("xorps %xmm5, %xmm5");
	return 0;
}
static int clobber_of(struct uretprobe_instance *call, struct uprobe_regs *regs) { (void)call; return clobber(NULL, regs); }
#define CALL_WITH(load, store) \
	__asm__ volatile("sub $128, %%rsp\n" load "call *%2\n" store "add $128, %%rsp" \
		: "+D"(zero), "+S"(other) : "b"(called), "r"(from), "r"(to) \
		: "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "xmm5", "memory", "cc")
static int keeps_vectors(void)
{
	uint64_t before[16], after[16] = { 0 };
	long zero = 0, other = 0;
	/* Registers that a call leaves alone. */
	register uint64_t *from __asm__("r12") = before, *to __asm__("r13") = after;
	for (int i = 0; i < 16; i++)
		before[i] = 0x0101010101010101u * (unsigned)(i + 1);
	size_t size;
	if (__builtin_cpu_supports("avx512f")) {
		size = 128;
		CALL_WITH("vmovdqu64 (%3), %%zmm5\n vmovdqu64 64(%3), %%zmm20\n",
			  "vmovdqu64 %%zmm5, (%4)\n vmovdqu64 %%zmm20, 64(%4)\n");
	} else if (__builtin_cpu_supports("avx")) {
		size = 32;
		CALL_WITH("vmovdqu (%3), %%ymm5\n", "vmovdqu %%ymm5, (%4)\n");
	} else {
		size = 16;
		CALL_WITH("movups (%3), %%xmm5\n", "movups %%xmm5, (%4)\n");
	}
	return memcmp(before, after, size) == 0;
}

static struct uprobe probe;
static struct uretprobe returns;
static void set_up(const char *setup)
{
	int error = 0;
	probe.addr = returns.up.addr = (void *)called;
	probe.pre_handler = nothing;
	returns.handler = nothing_of;
	if (strcmp(setup, "sigtrap") == 0) {
		handle_sigtrap(on_trap);
	} else if (strcmp(setup, "sigtrap-stub") == 0) {
		handle_sigtrap(on_trap_stub);
	} else if (strncmp(setup, "handler", 7) == 0) {
		if (strstr(setup, "-novec"))
			probe.flags |= UPROBE_FLAG_NOVEC;
		if (strstr(setup, "-own"))
			probe.flags |= UPROBE_FLAG_PERTHREAD;
		error = register_uprobe(&probe);
	} else if (strcmp(setup, "post") == 0) {
		probe.post_handler = nothing_after;
		error = register_uprobe(&probe);
	} else if (strcmp(setup, "return") == 0) {
		error = register_uretprobe(&returns);
	} else if (strcmp(setup, "return-both") == 0) {
		returns.entry_handler = nothing_of;
		error = register_uretprobe(&returns);
	}
	if (error) {
		fprintf(stderr, "%s: %s\n", setup, strerror(-error));
		exit(3);
	}
}
/* With the same probe once more, whose handler uses vector registers. */
static int check_vectors(const char *setup)
{
	int kept = -1;
	if (strncmp(setup, "handler", 7) == 0 && !strstr(setup, "-novec")) {
		memset(&probe, 0, sizeof probe);
		probe.addr = (void *)called;
		probe.pre_handler = clobber;
		if (register_uprobe(&probe) == 0) {
			kept = keeps_vectors();
			unregister_uprobe(&probe);
		}
	} else if (strncmp(setup, "return", 6) == 0) {
		memset(&returns, 0, sizeof returns);
		returns.up.addr = (void *)called;
		returns.handler = clobber_of;
		if (register_uretprobe(&returns) == 0) {
			kept = keeps_vectors();
			unregister_uretprobe(&returns);
		}
	}
	return kept;
}
static long long undo(const char *setup)
{
	if (strncmp(setup, "handler", 7) == 0 || strcmp(setup, "post") == 0) {
		unregister_uprobe(&probe);
		return (long long)probe.nhit;
	}
	if (strncmp(setup, "return", 6) == 0) {
		unregister_uretprobe(&returns);
		return (long long)returns.up.nhit;
	}
	if (strcmp(setup, "peer") == 0) {
		uint64_t *count = dlsym(RTLD_DEFAULT, "bench_peer_count");
		return count ? (long long)*count : -1;
	}
	uint64_t counted = floor_cell + floor_cells[1];
	for (int i = 0; i < 64; i++)
		counted += floor_histogram[i];
	return counted ? (long long)counted : -1;
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	int in = atoi(argv[4]), out = atoi(argv[5]);
	is_chain = strcmp(argv[2], "chain") == 0;
	is_threads = strcmp(argv[2], "threads") == 0;
	*(void **)&called = dlsym(RTLD_DEFAULT, argv[1]);
	unsigned a, b, c, d;
	if (!called || !__get_cpuid_count(0xD, 0, &a, &b, &c, &d))
		return 2;
	floor_xsave_size = (c + 63) & ~63u;
	prepare_thread();
	if (sched_getaffinity(0, sizeof all, &all))
		return 2;
	pin(0);
	set_up(argv[3]);
	pthread_t other;
	if (is_threads)
		pthread_create(&other, NULL, other_thread, NULL);
	char command;
	int calibrated = 0;
	while (read(in, &command, 1) == 1) {
		if (command == 'r') {
			while (!calibrated) {
				double ns = INFINITY;
				for (int i = 0; i < 5; i++)
					ns = fmin(ns, one_batch());
				calibrated = ns * (double)batch >= BATCH_NS / 2;
				if (calibrated)
					batch = (unsigned long)(BATCH_NS / ns) + 1;
				else
					batch *= 2;
			}
			double ns = one_round();
			dprintf(out, "%.3f %lu\n", ns, calls);
		} else if (command == 't') {
			const unsigned char *text = (const unsigned char *)(uintptr_t)called;
			dprintf(out, "%02x%02x%02x%02x%02x\n", text[0], text[1], text[2], text[3], text[4]);
		} else if (command == 'd') {
			void *others = NULL;
			if (is_threads) {
				atomic_store(&other_done, 1);
				pthread_join(other, &others);
			}
			long long counted = undo(argv[3]);
			counted += counted >= 0 ? (long long)(uintptr_t)others : 0;
			dprintf(out, "%lu %lld %d\n", calls + other_calls, counted, check_vectors(argv[3]));
		}
	}
	return 0;
}
