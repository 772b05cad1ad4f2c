/* Functions that keep something in every corner, probed at each of their instructions by handlers that clobber
 * all they may: one at a time, then all at once, then all but every other.
 *   midway FUNCTION OFFSET...    prints how many were jumps
 * The result must be what it is unprobed. */
#include "handlers.h"
#include <math.h>
#include <stdint.h>

#define ASM(name, ...) \
	__asm__(".pushsection .text\n.balign 16\n.globl " #name "\n.type " #name ", @function\n" #name ":\n" \
		__VA_ARGS__ "\n.size " #name ", . - " #name "\n.popsection\n"); \
	long name(long)

/* Locals below rsp. */
ASM(red_zone, "mov %rdi, -8(%rsp)\n lea 1(%rdi), %rax\n mov %rax, -16(%rsp)\n mov %rax, -128(%rsp)\n"
	"xor %eax, %eax\n add -8(%rsp), %rax\n shl %rax\n add -16(%rsp), %rax\n sub -128(%rsp), %rax\n incq -8(%rsp)\n"
	"add -8(%rsp), %rax\n ret");
/* Carries from one to the next, by instructions that leave them alone in between. */
ASM(carries, "mov %rdi, %rax\n neg %rax\n mov $-1, %rcx\n mov $3, %edx\n 1:\n adc %rcx, %rax\n lea -1(%rdx), %rdx\n"
	"sbb $7, %rax\n rcl %rax\n inc %ecx\n nop\n jrcxz 2f\n 2:\n cmc\n dec %r8d\n adc $0, %eax\n setc %cl\n seto %dl\n"
	"lahf\n adc %dl, %al\n ret");
/* Backwards. */
static char text[64] __attribute__((used)) = "the quick brown fox jumps over the lazy dog";
ASM(backwards, "lea text(%rip), %rsi\n lea 20(%rsi,%rdi), %rsi\n xor %eax, %eax\n xor %edx, %edx\n mov $5, %ecx\n std\n"
	"1:\n lodsb\n imul $31, %edx, %edx\n add %eax, %edx\n dec %ecx\n jnz 1b\n movslq %edx, %rax\n cld\n ret");
/* Vectors of all sizes, and the mask. */
static double numbers[8] __attribute__((used)) = { 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5 };
ASM(vectors, "vmovupd numbers(%rip), %ymm0\n vcvtsi2sd %rdi, %xmm15, %xmm15\n vbroadcastsd %xmm15, %ymm15\n"
	"vaddpd %ymm15, %ymm0, %ymm7\n vmulpd %ymm0, %ymm7, %ymm7\n vextractf128 $1, %ymm7, %xmm1\n"
	"vaddpd %xmm1, %xmm7, %xmm7\n vhaddpd %xmm7, %xmm7, %xmm7\n vcvttsd2si %xmm7, %rax\n vzeroupper\n ret");
ASM(masks, "vmovupd numbers(%rip), %zmm17\n mov $0x5a, %eax\n kmovw %eax, %k3\n vpbroadcastq %rdi, %zmm18\n"
	"vaddpd %zmm17, %zmm17, %zmm17{%k3}\n vpaddq %zmm18, %zmm17, %zmm17\n vextractf64x4 $1, %zmm17, %ymm1\n"
	"kmovw %k3, %ecx\n vpextrq $1, %xmm1, %rax\n add %rcx, %rax\n vzeroupper\n ret");
/* The old processor, with a rounding of its own. */
ASM(eighty, "push %rdi\n fildq (%rsp)\n fld1\n faddp\n fldpi\n fmul %st(1), %st\n fxch\n fadd %st(1), %st\n fistpq (%rsp)\n"
	"fstp %st(0)\n pop %rax\n ret");
ASM(rounding, "push %rdi\n stmxcsr (%rsp)\n mov (%rsp), %eax\n or $0x6000, %eax\n mov %eax, 4(%rsp)\n ldmxcsr 4(%rsp)\n"
	"cvtsi2sd %rdi, %xmm3\n addsd numbers(%rip), %xmm3\n cvtsd2si %xmm3, %rax\n ldmxcsr (%rsp)\n pop %rdx\n ret");
/* A stack aligned to nothing. */
ASM(crooked, "sub $77, %rsp\n mov %rdi, 3(%rsp)\n pushq 3(%rsp)\n pop %rax\n mov %rax, 11(%rsp)\n add 11(%rsp), %rax\n"
	"add $77, %rsp\n ret");
/* Calls and jumps of all kinds, and a loop whose head a jump would cover. */
ASM(ways, "endbr64\n push %rbx\n mov %edi, %ebx\n call 5f\n add %eax, %ebx\n lea 5f(%rip), %rax\n call *%rax\n add %eax, %ebx\n"
	"pushq $3\n pop %rcx\n 1: inc %ebx\n loop 1b\n lea 2f(%rip), %rdx\n jmp *%rdx\n ud2\n 2:\n test $1, %bl\n jz 3f\n"
	"add $40, %ebx\n 3:\n movslq %ebx, %rax\n pop %rbx\n ret\n 5:\n imul $3, %ebx, %eax\n ret");
ASM(early_loop, "xor %eax, %eax\n 1:\n inc %eax\n dec %rdi\n jns 1b\n cltq\n ret");
ASM(blocks, "push %rdi\n mov $39, %eax\n syscall\n mov %eax, %edx\n mov $39, %eax\n syscall\n sub %edx, %eax\n pop %rdx\n"
	"add %rdx, %rax\n ret");

static const struct { const char *name; long (*run)(long); const char *needs; } all[] = {
	{ "red_zone", red_zone, "" }, { "carries", carries, "" }, { "backwards", backwards, "" },
	{ "vectors", vectors, "avx" }, { "masks", masks, "avx512" }, { "eighty", eighty, "" },
	{ "rounding", rounding, "" }, { "crooked", crooked, "" }, { "ways", ways, "" },
	{ "early_loop", early_loop, "" }, { "blocks", blocks, "" },
};

static volatile double sink = 2;
static unsigned long hits;
static int clobber(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	hits++;
	errno = 1234;
	volatile char stack[600];
	memset((char *)stack, 0x77, sizeof stack);
	sink = sin(sink) * sqrt(sink + 5);
	volatile long double old = sink;
	sink = (double)(old * 3 + 1);
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm3, %%xmm3; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm15, %%xmm15"
			 ::: "xmm0", "xmm3", "xmm7", "xmm15");
	if (__builtin_cpu_supports("avx2"))
		__asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0; vpcmpeqd %%ymm7, %%ymm7, %%ymm7; vpcmpeqd %%ymm15, %%ymm15, %%ymm15; vzeroupper"
				 ::: "xmm0", "xmm7", "xmm15");
	if (__builtin_cpu_supports("avx512bw"))
		__asm__ volatile("mov $-1, %%eax; kmovd %%eax, %%k3; vpbroadcastd %%eax, %%zmm17; vpbroadcastd %%eax, %%zmm18"
				 ::: "rax");
	__asm__ volatile("stc; std; cld; xor %%eax, %%eax" ::: "rax", "cc");
	return 0;
}

enum { INPUTS = 6, MOST = 256 };
static long expected[INPUTS];
static unsigned long wrong, jumps;
static struct uprobe probes[MOST];

static void prepare(struct uprobe *probe, char *place)
{
	memset(probe, 0, sizeof *probe);
	probe->addr = place;
	probe->pre_handler = clobber;
	REGISTER(probe);
}

static void check(long (*run)(long), const char *when, int at)
{
	for (int i = 0; i < INPUTS; i++) {
		errno = 7;
		long result = run(i);
		if (result != expected[i] || errno != 7) {
			wrong++;
			printf("%s %d: f(%d) is %ld, not %ld\n", when, at, i, result, expected[i]);
		}
	}
}

static void count_jumps(int from, int to, int step)
{
	for (int i = from; i < to; i += step)
		jumps += (probes[i].flags & UPROBE_FLAG_OPTIMIZED) != 0;
}

int main(int argc, char **argv)
{
	NEED_LIBRARY();
	__builtin_cpu_init();
	unsigned f = 0, n = (unsigned)argc - 2;
	while (strcmp(all[f].name, argv[1]) != 0)
		f++;
	if ((!strcmp(all[f].needs, "avx") && !__builtin_cpu_supports("avx2")) ||
	    (!strcmp(all[f].needs, "avx512") && !__builtin_cpu_supports("avx512bw"))) {
		puts("skipped");
		return 0;
	}
	char *start = (char *)(uintptr_t)all[f].run;
	for (int i = 0; i < INPUTS; i++)
		expected[i] = all[f].run(i);
	for (unsigned i = 0; i < n; i++) {
		prepare(&probes[0], start + atol(argv[i + 2]));
		check(all[f].run, "one", atoi(argv[i + 2]));
		count_jumps(0, 1, 1);
		UNREGISTER(&probes[0]);
	}
	printf("one at a time: %lu jumps\n", jumps);
	/* All at once: none can be a jump but where one instruction is long enough. From the last to the first,
	 * so that each might have been one before its neighbour came. */
	jumps = 0;
	for (unsigned i = n; i-- > 0;)
		prepare(&probes[i], start + atol(argv[i + 2]));
	check(all[f].run, "all", 0);
	count_jumps(0, (int)n, 1);
	printf("all at once: %lu jumps\n", jumps);
	/* Those between go. */
	jumps = 0;
	for (unsigned i = 1; i < n; i += 2)
		UNREGISTER(&probes[i]);
	check(all[f].run, "some", 0);
	count_jumps(0, (int)n, 2);
	printf("every other: %lu jumps\n", jumps);
	for (unsigned i = 0; i < n; i += 2)
		UNREGISTER(&probes[i]);
	check(all[f].run, "none", 0);
	printf("wrong %lu, hits %s\n", wrong, hits > 0 ? "some" : "none");
	return 0;
}
