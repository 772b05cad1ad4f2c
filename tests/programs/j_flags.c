/* The flags of a place, as its handler sees and changes them and as the program finds them afterwards: all six of
 * arithmetic in each combination, the direction flag, and what a handler has no business with. With argument "spare":
 * handlers that promise to touch no vector register, before which the flags are not saved by pushf. */
#include "handlers.h"

#define SPARING __attribute__((target("general-regs-only")))
#define ARITHMETIC 0x8d5ul
#define DIRECTION 0x400ul
#define IDENTIFICATION 0x200000ul

/* With these flags to a place that leaves them alone; the ones that come out. No C in between, and on a stack that
 * is aligned to 16 there, or to 8. */
extern unsigned long flags_through(unsigned long flags), flags_through_odd(unsigned long flags);
extern long flag_place(void), other_place(void);
__asm__(".text\n.globl flags_through, flags_through_odd, flag_place, other_place\n"
	".p2align 4\n.type flag_place, @function\nflag_place:\nnopl 0(%rax, %rax, 1)\nmov $1, %ecx\nret\n"
	".size flag_place, . - flag_place\n"
	".p2align 4\n.type other_place, @function\nother_place:\nnopl 0(%rax, %rax, 1)\nmov $2, %ecx\nret\n"
	".size other_place, . - other_place\n"
	".type flags_through, @function\nflags_through:\npush %rdi\npopfq\nmov %rbp, %rsi\ncall flag_place\n"
	"pushfq\npop %rax\npushq $0x202\npopfq\ncmp %rbp, %rsi\njne 1f\nshl $32, %rcx\nor %rcx, %rax\nret\n"
	"1: ud2\n.size flags_through, . - flags_through\n"
	".type flags_through_odd, @function\nflags_through_odd:\nsub $8, %rsp\npush %rdi\npopfq\ncall flag_place\n"
	"pushfq\npop %rax\npushq $0x202\npopfq\nadd $8, %rsp\nshl $32, %rcx\nor %rcx, %rax\nret\n"
	".size flags_through_odd, . - flags_through_odd\n");

static unsigned long seen, flip, hits;
static int is_diverted;
static SPARING int handler(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	hits++;
	seen = regs->rflags;
	regs->rflags ^= flip;
	if (is_diverted) {
		regs->rip = (uint64_t)(uintptr_t)other_place;
		return 1;
	}
	return 0;
}

static long wrong;
static void check(unsigned long arithmetic, unsigned long others)
{
	unsigned long in = arithmetic | others | 0x202, mask = ARITHMETIC | DIRECTION | IDENTIFICATION;
	for (int odd = 0; odd < 2; odd++) {
		unsigned long out = odd ? flags_through_odd(in) : flags_through(in);
		unsigned long place = out >> 32, after = (uint32_t)out;
		if ((after & mask) != ((in ^ flip) & mask) || place != (is_diverted ? 2ul : 1ul) ||
		    (seen & (ARITHMETIC | DIRECTION | 0x302)) != (in & (ARITHMETIC | DIRECTION | 0x302))) {
			if (wrong++ < 5)
				printf("in %lx, seen %lx, flip %lx, diverted %d: out %lx, place %lu\n", in, seen, flip,
				       is_diverted, after, place);
		}
	}
}

int main(int argc, char **argv)
{
	unsigned flag = argc > 1 && !strcmp(argv[1], "spare") ? UPROBE_FLAG_NOVEC : 0;
	NEED_LIBRARY();
	struct uprobe probe = { .addr = (void *)(uintptr_t)flag_place, .pre_handler = handler, .flags = flag };
	REGISTER(&probe);
	static const unsigned long bits[] = { 1, 4, 0x10, 0x40, 0x80, 0x800 };
	static const unsigned long others[] = { 0, DIRECTION, IDENTIFICATION, DIRECTION | IDENTIFICATION };
	static const unsigned long flips[] = { 0, 1, 0x800, ARITHMETIC, DIRECTION, DIRECTION | ARITHMETIC };
	unsigned long calls = 0;
	for (int combination = 0; combination < 64; combination++) {
		unsigned long arithmetic = 0;
		for (int i = 0; i < 6; i++)
			arithmetic |= combination >> i & 1 ? bits[i] : 0;
		for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
			for (unsigned k = 0; k < sizeof flips / sizeof *flips; k++)
				for (is_diverted = 0; is_diverted < 2; is_diverted++) {
					flip = flips[k];
					check(arithmetic, others[i]);
					calls += 2;
				}
	}
	printf("wrong %ld, hits %s\n", wrong, probe.nhit == calls && hits == calls ? "right" : "wrong");
	return 0;
}
