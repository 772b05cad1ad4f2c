/* Threads run instructions that are stepped (post_handler) or run in slots, while realtime signals
 * are queued to them as fast as the kernel takes them. Each that is sent is received, in order;
 * the handler sees a rip inside the program or its libraries, never in memory without a file. */
#include "handlers.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <ucontext.h>
#include <unistd.h>

#define THREADS 3
#define SIGNALS 4000

extern long body(long a, long *memory);
extern char s1[], s2[], s3[], s4[], s5[], s6[];
__asm__(".text\n .globl body, s1, s2, s3, s4, s5, s6\n .type body, @function\n"
	"body: push %rbx\n"
	"s1: imul $3, %rdi, %rbx\n"
	"s2: mov %rbx, (%rsi)\n"
	"s3: add (%rsi), %rbx\n"
	"s4: lea 7(%rbx), %rax\n"
	"s5: xadd %rax, (%rsi)\n"
	"s6: pop %rbx\n ret\n .size body, . - body\n");

static struct { uintptr_t start, end; } texts[256];
static int texts_count;
static void read_texts(void)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	while (maps && fgets(line, sizeof line, maps) && texts_count < 256) {
		unsigned long start, end;
		char rights[8];
		if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3 && rights[2] == 'x' &&
		    (strstr(line, ".so") || strstr(line, "h_storm") || strstr(line, "[vdso]"))) {
			texts[texts_count].start = start;
			texts[texts_count++].end = end;
		}
	}
	if (maps)
		fclose(maps);
}

static atomic_long received, foreign, wrong, disorder, done;
static atomic_ulong posts;
static __thread int last_value;

static void on_rt(int signo, siginfo_t *info, void *context)
{
	uintptr_t rip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	int inside = 0;
	(void)signo;
	for (int i = 0; i < texts_count; i++)
		inside |= rip >= texts[i].start && rip < texts[i].end;
	if (!inside)
		atomic_fetch_add(&foreign, 1);
	if (info->si_value.sival_int != last_value + 1)
		atomic_fetch_add(&disorder, 1);
	last_value = info->si_value.sival_int;
	atomic_fetch_add(&received, 1);
}

static int pre(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
	atomic_fetch_add(&posts, 1);
}

static void *run(void *arg)
{
	for (long i = 0; atomic_load(&done) == 0; i++) {
		long memory = 0, result = body(i, &memory);
		if (result != i * 3 || memory != i * 9 + 7)
			atomic_fetch_add(&wrong, 1);
	}
	return arg;
}

int main(void)
{
	NEED_LIBRARY();
	read_texts();
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART };
	action.sa_sigaction = on_rt;
	MUST(sigaction(SIGRTMIN + 2, &action, NULL));
	static struct uprobe probes[6];
	char *places[6] = { s1, s2, s3, s4, s5, s6 };
	for (int i = 0; i < 6; i++) {
		probes[i].addr = places[i];
		probes[i].pre_handler = pre;
		if (i % 2 == 0 || i == 3)
			probes[i].post_handler = post;
		REGISTER(&probes[i]);
	}
	pthread_t thread[THREADS];
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	for (int n = 1; n <= SIGNALS; n++)
		for (int i = 0; i < THREADS; i++) {
			union sigval value = { .sival_int = n };
			while (pthread_sigqueue(thread[i], SIGRTMIN + 2, value) == EAGAIN)
				usleep(50);
			if (n % 50 == 0)
				usleep(20);
		}
	while (atomic_load(&received) < THREADS * SIGNALS)
		usleep(1000);
	atomic_store(&done, 1);
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_join(thread[i], NULL));
	unsigned long expected = probes[0].nhit + probes[2].nhit + probes[3].nhit + probes[4].nhit;
	printf("received all: %d\n", atomic_load(&received) == THREADS * SIGNALS);
	printf("out of order: %ld\nforeign rip: %ld\nwrong results: %ld\n", atomic_load(&disorder), atomic_load(&foreign),
	       atomic_load(&wrong));
	printf("posts as hits: %d\n", expected == atomic_load(&posts));
	return 0;
}
