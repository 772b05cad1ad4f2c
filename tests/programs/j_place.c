/* What a jump must not break where it stands, one question each; `int3` as the last argument asks for none.
 *   lock, inside, data, short, crooked, reopt */
#include "handlers.h"
#include <stdint.h>

static int is_jump(const void *place) { return *(const volatile unsigned char *)place == 0xe9; }
static unsigned long hits;
static int count(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; hits++; return 0; }
static uint32_t flags;

/* A branch over a lock prefix, into the middle of an instruction. */
long over_lock(long *counter, int single);
__asm__(".pushsection .text\n.balign 16\n.globl over_lock\n.type over_lock, @function\nover_lock:\n"
	"  test %esi, %esi\n.globl over_lock_branch\nover_lock_branch:\n  jne 1f\n  lock\n1: incq (%rdi)\n"
	"  mov (%rdi), %rax\n  ret\n.size over_lock, . - over_lock\n.popsection\n");
extern char over_lock_branch[];

/* The same from far away. */
long far_lock(long *counter, int single);
__asm__(".pushsection .text\n.balign 16\n.globl far_lock\n.type far_lock, @function\nfar_lock:\n"
	"  test %esi, %esi\n  jne 1f\n  xor %eax, %eax\n.globl far_lock_place\nfar_lock_place:\n"
	"  lock\n2: incq (%rdi)\n  mov (%rdi), %rax\n  ret\n1: jmp 2b\n.size far_lock, . - far_lock\n.popsection\n");
extern char far_lock_place[];

/* Constants behind a short function, which has no size. */
long short_one(void);
extern uint64_t behind_short;
__asm__(".pushsection .text.short, \"ax\"\n.balign 16\n.globl short_one, behind_short\nshort_one:\n"
	"  xor %eax, %eax\n  ret\nbehind_short: .quad 0x9090909090909090\n.quad 1\n.popsection\n");

/* Three bytes each, nothing between. */
long tiny_a(long), tiny_b(long), tiny_c(long);
__asm__(".pushsection .text\n.balign 16\n"
	".globl tiny_a\n.type tiny_a, @function\ntiny_a: inc %edi\n  ret\n.size tiny_a, . - tiny_a\n"
	".globl tiny_b\n.type tiny_b, @function\ntiny_b: mov %edi, %eax\n  ret\n.size tiny_b, . - tiny_b\n"
	".globl tiny_c\n.type tiny_c, @function\ntiny_c: mov %edi, %eax\n  ret\n.size tiny_c, . - tiny_c\n"
	".popsection\n");

static struct uprobe probe;
static void at(void *place)
{
	memset(&probe, 0, sizeof probe);
	probe.addr = place;
	probe.pre_handler = count;
	probe.flags = flags;
	hits = 0;
	REGISTER(&probe);
}

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	const char *what = argc > 1 ? argv[1] : "";
	flags = !strcmp(argv[argc - 1], "int3") ? UPROBE_FLAG_INT3 : 0;
	long n = 0;
	if (!strcmp(what, "lock")) {
		at(over_lock_branch);
		for (int i = 0; i < 10; i++)
			over_lock(&n, i & 1);
		printf("over: %ld hits %lu\n", n, hits);
	} else if (!strcmp(what, "far")) {
		at(far_lock_place);
		for (int i = 0; i < 10; i++)
			far_lock(&n, i & 1);
		printf("far: %ld hits %lu\n", n, hits);
	} else if (!strcmp(what, "data")) {
		at((void *)(uintptr_t)short_one);
		long r = short_one();
		printf("data: %ld hits %lu behind %s\n", r, hits,
		       behind_short == UINT64_C(0x9090909090909090) ? "kept" : "changed");
	} else if (!strcmp(what, "tiny")) {
		at((void *)(uintptr_t)tiny_b);
		long sum = tiny_b(1) + tiny_c(2) + tiny_c(3);
		printf("tiny: %ld hits %lu\n", sum, hits);
		UNREGISTER(&probe);
		at((void *)(uintptr_t)tiny_c);
		sum = tiny_b(1) + tiny_c(2);
		printf("tiny: %ld hits %lu\n", sum, hits);
	}
	fprintf(stderr, "flags %x jump %d\n", probe.flags, is_jump(probe.addr));
	return 0;
}
