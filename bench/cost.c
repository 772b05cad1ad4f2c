/* What a hit costs, way by way, as a ratio to the floor: a bare int3 with an empty SIGTRAP handler.
 *
 * The floor is measured by a child that runs without the library, on the same processor, in
 * rounds that alternate with the probes' rounds, so that what disturbs one disturbs both.
 *   cost api      probes of the C API with empty handlers; a post_handler keeps them int3
 *   cost config   probes of a config, method = "int3"
 *   cost floor    the child */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uprobe.h>

#define ROUNDS 31
#define HITS 20000

/* Loops of HITS turns around one instruction each; rdi and rsi are what the functions were given. */
#define LOOP(name, insn) \
	".globl " name ", at_" name "\n.type " name ", @function\n.type at_" name ", @function\n.p2align 5\n" \
	name ": mov %rdx, %rcx\n mov %rdi, %rax\n .p2align 4\n" \
	"1:\n at_" name ": " insn "\n sub $1, %rcx\n jnz 1b\n ret\n" \
	".size at_" name ", . - at_" name "\n.size " name ", . - " name "\n"
void trap(long, const char *, long), emulate(long, const char *, long), boost(long, const char *, long);
void step(long, const char *, long), emulate_post(long, const char *, long);
void emulate_call(long, const char *, long), boost_call(long, const char *, long);
void filter(long, const char *, long), record(long, const char *, long);
extern char at_step[], at_emulate_post[];
__asm__(".text\n"
	LOOP("trap", "int3")
	LOOP("emulate", "mov %rdi, %rax")
	LOOP("emulate_call", "mov %rdi, %rax")
	LOOP("boost_call", "imul $3, %rdi, %rax")
	LOOP("emulate_post", "mov %rdi, %rax")
	LOOP("boost", "imul $3, %rdi, %rax")
	LOOP("step", "imul $3, %rdi, %rax")
	LOOP("filter", "mov %rdi, %rax")
	LOOP("record", "mov %rdi, %rax"));

typedef void (*loop)(long, const char *, long);

static double measure(loop run)
{
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	run(5, "a string that is logged", HITS);
	clock_gettime(CLOCK_MONOTONIC, &b);
	return ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / HITS;
}

static void on_trap(int signo, siginfo_t *info, void *context) { (void)signo; (void)info; (void)context; }

static int floor_child(void)
{
	char c;
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = on_trap;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigaction(SIGTRAP, &action, NULL);
	measure(trap);
	while (read(0, &c, 1) == 1) {
		double ns = measure(trap);
		if (write(1, &ns, sizeof ns) != sizeof ns)
			return 1;
	}
	return 0;
}

static int to_child[2], from_child[2];
static void start_floor(char *self)
{
	if (pipe(to_child) || pipe(from_child))
		exit(2);
	if (fork() == 0) {
		char *args[] = { self, "floor", NULL }, *env[] = { NULL };
		dup2(to_child[0], 0);
		dup2(from_child[1], 1);
		close(to_child[1]);
		close(from_child[0]);
		execve("/proc/self/exe", args, env);
		_exit(2);
	}
	close(to_child[0]);
	close(from_child[1]);
}
static double floor_ns(void)
{
	double ns;
	if (write(to_child[1], "m", 1) != 1 || read(from_child[0], &ns, sizeof ns) != sizeof ns)
		exit(2);
	return ns;
}

static int nothing(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void nothing_after(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
}

struct way {
	const char *name;
	loop run;
	char *at;
	double bar;
	double ratio[ROUNDS], ns[ROUNDS];
};
static struct way api[] = {
	{ "emulate, pre_handler and post_handler", emulate_post, at_emulate_post, 0, { 0 }, { 0 } },
	{ "step, pre_handler and post_handler", step, at_step, 2.8, { 0 }, { 0 } },
};
static struct way config[] = {
	{ "emulate, count", emulate, NULL, 1.15, { 0 }, { 0 } },
	{ "boost, count", boost, NULL, 1.25, { 0 }, { 0 } },
	{ "emulate, a C handler", emulate_call, NULL, 1.15, { 0 }, { 0 } },
	{ "boost, a C handler", boost_call, NULL, 1.25, { 0 }, { 0 } },
	{ "emulate, a filter that says no", filter, NULL, 0, { 0 }, { 0 } },
	{ "emulate, log an integer and a string", record, NULL, 0, { 0 }, { 0 } },
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
	if (strcmp(mode, "floor") == 0)
		return floor_child();
	start_floor(argv[0]);
	int is_api = strcmp(mode, "api") == 0, missed = 0;
	struct way *ways = is_api ? api : config;
	const int count = is_api ? sizeof api / sizeof *api : sizeof config / sizeof *config;
	static struct uprobe probes[sizeof api / sizeof *api];
	for (int i = 0; is_api && i < count; i++) {
		probes[i].addr = ways[i].at;
		probes[i].pre_handler = nothing;
		probes[i].post_handler = nothing_after;
		int error = register_uprobe(&probes[i]);
		if (error) {
			fprintf(stderr, "%s: %s\n", ways[i].name, strerror(-error));
			return 2;
		}
	}
	static double floors[ROUNDS];
	for (int i = 0; i < count; i++)
		measure(ways[i].run);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < count; i++) {
			double before = floor_ns();
			ways[i].ns[round] = measure(ways[i].run);
			double after = floor_ns();
			floors[round] = (before + after) / 2;
			ways[i].ratio[round] = ways[i].ns[round] / floors[round];
		}
	}
	close(to_child[1]);
	wait(NULL);
	qsort(floors, ROUNDS, sizeof(double), compare);
	if (is_api) {
		printf("| way | ns, median | ratio, median | min | max | bar |\n|---|---:|---:|---:|---:|---:|\n");
		printf("| the floor | %.0f | 1.00 | | | |\n", floors[ROUNDS / 2]);
	}
	for (int i = 0; i < count; i++) {
		struct way *w = &ways[i];
		char bar[32] = "";
		qsort(w->ratio, ROUNDS, sizeof(double), compare);
		qsort(w->ns, ROUNDS, sizeof(double), compare);
		double median = w->ratio[ROUNDS / 2];
		if (w->bar > 0)
			snprintf(bar, sizeof bar, "%.2f%s", w->bar, median > w->bar ? " missed" : "");
		missed |= w->bar > 0 && median > w->bar;
		printf("| %s | %.0f | %.2f | %.2f | %.2f | %s |\n", w->name, w->ns[ROUNDS / 2], median, w->ratio[0],
		       w->ratio[ROUNDS - 1], bar);
	}
	for (int i = 0; is_api && i < count; i++) {
		if (probes[i].nhit != (uint64_t)HITS * (ROUNDS + 1)) {
			fprintf(stderr, "%s: %llu hits\n", ways[i].name, (unsigned long long)probes[i].nhit);
			return 2;
		}
	}
	return missed;
}
