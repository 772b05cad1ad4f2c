/* What a pre_handler writes into the registers is what the program goes on with. */
#include "handlers.h"

FUNCTION long subtract(long a, long b) { KEEP(); return a - b; }
FUNCTION long seventh(long a, long b, long c, long d, long e, long f, long g)
{
	KEEP();
	return a + b + c + d + e + f + g;
}
FUNCTION long never(long a) { KEEP(); printf("this must not run\n"); return a; }
FUNCTION long instead(long a) { KEEP(); return a * 1000; }

static int swap(struct uprobe *probe, struct uprobe_regs *regs)
{
	uint64_t a = regs->rdi;
	(void)probe;
	regs->rdi = regs->rsi;
	regs->rsi = a;
	return 0;
}
static int look(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	for (int i = 1; i <= 7; i++)
		printf("argument %d is %llu\n", i, (unsigned long long)uprobe_arg(regs, i));
	((uint64_t *)(uintptr_t)regs->rsp)[1] = 700;
	return 0;
}
/* Return without running the function: take the return address off the stack. */
static int skip(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rax = regs->rdi + 1;
	regs->rip = *(uint64_t *)(uintptr_t)regs->rsp;
	regs->rsp += 8;
	return 1;
}
static int divert(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rip = (uint64_t)(uintptr_t)instead;
	return 1;
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe swapped = PROBE(subtract, .pre_handler = swap);
	struct uprobe looked = PROBE(seventh, .pre_handler = look);
	struct uprobe skipped = PROBE(never, .pre_handler = skip);
	REGISTER(&swapped);
	printf("10 - 3 = %ld\n", subtract(10, 3));
	UNREGISTER(&swapped);
	printf("10 - 3 = %ld\n", subtract(10, 3));
	REGISTER(&looked);
	printf("sum %ld\n", seventh(1, 2, 3, 4, 5, 6, 7));
	REGISTER(&skipped);
	printf("skipped: %ld\n", never(41));
	UNREGISTER(&skipped);
	struct uprobe diverted = PROBE(never, .pre_handler = divert);
	REGISTER(&diverted);
	printf("diverted: %ld\n", never(5));
	printf("hits %llu %llu %llu %llu\n", (unsigned long long)swapped.nhit, (unsigned long long)looked.nhit,
	       (unsigned long long)skipped.nhit, (unsigned long long)diverted.nhit);
	return 0;
}
