/* A handler may use what a signal handler may: it must not disturb errno, the vector and x87
 * state, flags or the red zone of the code it interrupts. */
#include "handlers.h"
#include <math.h>

extern long leaf_with_red_zone(long a, double *vectors);
__asm__(".text\n .globl leaf_with_red_zone, in_red_zone\n .type leaf_with_red_zone, @function\n"
	"leaf_with_red_zone:\n"
	" mov %rdi, -8(%rsp)\n mov %rdi, -64(%rsp)\n mov %rdi, -128(%rsp)\n"
	" movupd (%rsi), %xmm0\n movupd 16(%rsi), %xmm15\n fldl (%rsi)\n stc\n"
	"in_red_zone: nop\n"
	" mov $0, %eax\n adc $0, %eax\n"
	" add -8(%rsp), %rax\n add -64(%rsp), %rax\n add -128(%rsp), %rax\n"
	" movupd %xmm0, 32(%rsi)\n movupd %xmm15, 48(%rsi)\n fstpl 64(%rsi)\n ret\n"
	" .size leaf_with_red_zone, . - leaf_with_red_zone\n");
extern char in_red_zone[];
/* The stack may be aligned to nothing at all. */
extern void crooked(void);
extern char on_crooked_stack[];
__asm__(".text\n .globl crooked, on_crooked_stack\n .type crooked, @function\n"
	"crooked: sub $77, %rsp\n on_crooked_stack: nop\n add $77, %rsp\n ret\n .size crooked, . - crooked\n");

static volatile double sink = 2;
static int wild(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	errno = 1234;
	/* movaps: the stack of a handler is aligned as the ABI says. */
	typedef float vector __attribute__((vector_size(16)));
	volatile vector aligned = { 1, 2, 3, 4 };
	if (((uintptr_t)&aligned & 15) != 0)
		printf("not aligned\n");
	volatile char stack[2000];
	memset((char *)stack, 0x77, sizeof stack);
	sink = sin(sink) * sqrt(sink + 5);
	__asm__ volatile("fninit; fldpi; fldpi; fstp %%st(0); pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm15, %%xmm15; std; cld"
			 ::: "xmm0", "xmm15", "cc");
	return 0;
}

int main(void)
{
	NEED_LIBRARY();
	double v[9] = { 1.5, 2.5, 3.5, 4.5 };
	struct uprobe probe = { .addr = in_red_zone, .pre_handler = wild };
	REGISTER(&probe);
	errno = 7;
	long result = leaf_with_red_zone(10, v);
	printf("result %ld errno %d\n", result, errno);
	printf("%.1f %.1f %.1f %.1f %.1f\n", v[4], v[5], v[6], v[7], v[8]);
	struct uprobe at_crooked = { .addr = on_crooked_stack, .pre_handler = wild };
	REGISTER(&at_crooked);
	crooked();
	printf("hits %llu %llu\n", (unsigned long long)probe.nhit, (unsigned long long)at_crooked.nhit);
	return 0;
}
