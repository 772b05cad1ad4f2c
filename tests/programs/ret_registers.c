/* What the two handlers of a return probe change: arguments, results in rax and xmm0, and where the
 * function returns to; what they don't change stays, errno and vector registers too. */
#include "handlers.h"

FUNCTION long divide(long a, long b) { KEEP(); return a / b; }
FUNCTION double half(double a) { KEEP(); return a / 2; }

extern long call_and_choose(long a, long b);
extern char chosen[];
/* Calls divide(a, b); returned to `chosen` instead, the result is 1000 more. */
__asm__(".text\n .globl call_and_choose, chosen\n .type call_and_choose, @function\n"
	"call_and_choose:\n .cfi_startproc\n sub $8, %rsp\n .cfi_adjust_cfa_offset 8\n call divide\n add $8, %rsp\n"
	" .cfi_adjust_cfa_offset -8\n ret\n .cfi_adjust_cfa_offset 8\n"
	"chosen: add $1000, %rax\n add $8, %rsp\n .cfi_adjust_cfa_offset -8\n ret\n .cfi_endproc\n"
	" .size call_and_choose, . - call_and_choose\n");

static int elsewhere;
static int swap(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	uint64_t a = regs->rdi;
	(void)ri;
	regs->rdi = regs->rsi;
	regs->rsi = a;
	regs->rip = 0; /* not looked at */
	return 0;
}
static int swap_unfollowed(struct uretprobe_instance *ri, struct uprobe_regs *regs) { swap(ri, regs); return 1; }
static int negate(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	(void)ri;
	regs->rax = -regs->rax;
	if (elsewhere)
		regs->rip = (uint64_t)(uintptr_t)chosen;
	errno = ERANGE;
	return 0;
}
static int count(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	volatile double clobber = (double)regs->rax * 3.25;
	(void)ri;
	errno = (int)clobber;
	return 0;
}

int main(void)
{
	NEED_LIBRARY();
	struct uretprobe probe = { .up = PROBE(divide), .handler = negate, .entry_handler = swap };
	REGISTER_AS(uretprobe, &probe);
	errno = ENOTTY;
	long result = divide(2, 10);
	printf("swapped and negated: %ld, errno %s\n", result, errno == ENOTTY ? "kept" : "changed");
	elsewhere = 1;
	printf("returned elsewhere: %ld\n", call_and_choose(3, 12));
	elsewhere = 0;
	UNREGISTER_AS(uretprobe, &probe);
	probe = (struct uretprobe){ .up = PROBE(divide), .handler = negate, .entry_handler = swap_unfollowed };
	REGISTER_AS(uretprobe, &probe);
	printf("swapped and not followed: %ld, hits %llu\n", divide(2, 10), (unsigned long long)probe.up.nhit);
	UNREGISTER_AS(uretprobe, &probe);
	struct uretprobe floats = { .up = PROBE(half), .handler = count, .entry_handler = count };
	REGISTER_AS(uretprobe, &floats);
	double sum = 0;
	for (int i = 0; i < 8; i++)
		sum += half(i) * half(i + 1);
	printf("sum %g\n", sum);
	UNREGISTER_AS(uretprobe, &floats);
	printf("hits %llu\n", (unsigned long long)floats.up.nhit);
	return 0;
}
