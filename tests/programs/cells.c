/* Runs each of the cells of a generated assembly file, one instruction each, from pseudo-random
 * states, and prints a hash of everything it left: general and vector registers, flags, memory,
 * stack. A run with probes must print what a run without prints.
 *   cells            hashes of all cells, counting probes from outside
 *   cells post       the same; with the library, a probe with a post_handler at each cell
 *   cells dump NAME [post]  the whole state after each round of one cell */
#include "check.h"
#include <stdint.h>
#include <string.h>
#include <uprobe.h>

#define ROUNDS 12

/* The layout is known to the generated assembly (regs at 0, flags at 128, vectors at 192). */
struct state {
	uint64_t gpr[16]; /* rax rbx rcx rdx rsi rdi rbp rsp r8..r15 */
	uint64_t flags, branch, pad[6];
	uint64_t vector[16][4];
} __attribute__((aligned(64)));

struct state state_in, state_out;
uint64_t cell_target, cell_saved_rsp;
uint8_t cell_memory[4096] __attribute__((aligned(64)));
uint64_t cell_datum[16] __attribute__((aligned(64)));
/* Signal frames go below rsp, so most of this is not compared. */
uint8_t cell_stack[1 << 17] __attribute__((aligned(64)));
#define TOP (cell_stack + sizeof cell_stack - 4096)

struct cell {
	const char *name, *feature;
	void (*entry)(void);
	void *insn, *next;
};
extern const struct cell cells[];
extern const uint64_t cells_count;

static uint64_t seed;
static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	/* Values near the edges find more than evenly spread ones. */
	switch (seed >> 60) {
	case 0: return seed & 0xff;
	case 1: return ~(seed & 0xff);
	case 2: return UINT64_C(1) << (seed & 63);
	case 3: return (UINT64_C(1) << (seed & 63)) - 1;
	default: return seed * UINT64_C(0x2545f4914f6cdd1d);
	}
}

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15 };

static void prepare(unsigned round)
{
	seed = UINT64_C(0x9e3779b97f4a7c15) * (round + 1);
	for (int i = 0; i < 16; i++)
		state_in.gpr[i] = next_random();
	state_in.gpr[RBX] = (uint64_t)(cell_memory + 512);
	state_in.gpr[R12] = (uint64_t)(cell_memory + 256);
	state_in.gpr[R13] = (uint64_t)(cell_memory + 768);
	state_in.gpr[RSI] = (uint64_t)(cell_memory + 1024);
	state_in.gpr[RBP] = (uint64_t)(cell_memory + 1536);
	state_in.gpr[RDI] = (uint64_t)(cell_memory + 2048);
	state_in.gpr[RSP] = (uint64_t)TOP;
	state_in.gpr[RCX] = next_random() & 15;
	state_in.gpr[R9] = next_random() & 7;
	/* CF PF AF ZF SF DF OF, and the bit that is always set. */
	state_in.flags = (next_random() & 0xcd5) | 0x202;
	state_in.branch = 0;
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 4; k++)
			state_in.vector[i][k] = next_random();
	for (size_t i = 0; i < sizeof cell_memory; i += 8)
		*(uint64_t *)(cell_memory + i) = next_random();
	for (int i = 0; i < 16; i++)
		cell_datum[i] = next_random();
	memset(cell_stack, 0x5a, sizeof cell_stack);
	for (int i = 0; i < 64; i++)
		((uint64_t *)TOP)[i] = next_random();
	memset(&state_out, 0, sizeof state_out);
}

static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
	return h;
}

static int supported(const char *feature)
{
#define HAS(name) if (!strcmp(feature, name)) return __builtin_cpu_supports(name) != 0
	HAS("avx"); HAS("avx2"); HAS("fma"); HAS("bmi"); HAS("bmi2"); HAS("sse4.2"); HAS("ssse3"); HAS("aes");
	HAS("pclmul"); HAS("popcnt"); HAS("avx512f"); HAS("avx512vl"); HAS("avx512bw"); HAS("sse4a"); HAS("gfni");
	return 1;
}

static void words(const char *what, const void *from, int count)
{
	for (int i = 0; i < count; i++)
		printf("  %s[%d] %016llx\n", what, i, ((const unsigned long long *)from)[i]);
}

static unsigned long long posts, posts_wrong;
static int pre(struct uprobe *probe, struct uprobe_regs *regs)
{
	if (regs->rip != (uint64_t)(uintptr_t)probe->addr)
		posts_wrong++;
	return 0;
}
static void post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)flags;
	(void)regs;
	(void)probe;
	posts++;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	static struct uprobe probes[4096];
	int registered = 0;
	__builtin_cpu_init();
	if (argc > 1 && !strcmp(argv[argc - 1], "post") && UPROBE_AVAILABLE()) {
		for (uint64_t i = 0; i < cells_count; i++) {
			struct uprobe *probe = &probes[i];
			probe->addr = cells[i].insn;
			probe->pre_handler = pre;
			probe->post_handler = post;
			int error = register_uprobe(probe);
			if (error)
				fprintf(stderr, "%s: register_uprobe: %d\n", cells[i].name, error);
			registered += !error;
		}
	}
	for (uint64_t i = 0; i < cells_count; i++) {
		uint64_t h = UINT64_C(0xcbf29ce484222325);
		if (!supported(cells[i].feature)) {
			printf("%s: no %s\n", cells[i].name, cells[i].feature);
			continue;
		}
		if (!strcmp(mode, "dump") && argc > 2 && strcmp(argv[2], cells[i].name))
			continue;
		unsigned long long hits = probes[i].nhit, posted = posts;
		for (unsigned round = 0; round < ROUNDS; round++) {
			prepare(round);
			cells[i].entry();
			h = hash(h, &state_out, sizeof state_out);
			h = hash(h, cell_memory, sizeof cell_memory);
			h = hash(h, cell_datum, sizeof cell_datum);
			/* The red zone lies below the rsp that is left: a pop takes it up. */
			const uint8_t *from = (uint8_t *)(uintptr_t)state_out.gpr[RSP];
			from = from > TOP && from < TOP + 1024 ? from - 128 : TOP - 128;
			h = hash(h, from, (size_t)(TOP + 1024 - from));
			if (!strcmp(mode, "dump")) {
				printf("%s round %u\n", cells[i].name, round);
				words("gpr", state_out.gpr, 16);
				words("flags", &state_out.flags, 1);
				words("branch", &state_out.branch, 1);
				words("vector", state_out.vector, 64);
				words("datum", cell_datum, 16);
				words("stack", TOP - 128, 48);
				words("memory", cell_memory, 512);
			}
		}
		printf("%s: %016llx\n", cells[i].name, (unsigned long long)h);
		if (probes[i].opaque[0] || probes[i].nhit) {
			if (probes[i].nhit - hits != ROUNDS)
				fprintf(stderr, "%s: %llu hits\n", cells[i].name, (unsigned long long)probes[i].nhit - hits);
			if (posts - posted != ROUNDS)
				fprintf(stderr, "%s: %llu posts\n", cells[i].name, posts - posted);
		}
	}
	if (posts_wrong)
		fprintf(stderr, "%llu hits with a foreign rip\n", posts_wrong);
	if (registered)
		fprintf(stderr, "registered %d of %llu\n", registered, (unsigned long long)cells_count);
	return 0;
}
