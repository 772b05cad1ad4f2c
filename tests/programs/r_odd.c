/* Functions that return in unusual ways: r_odd ROUNDS. */
#include "returns.h"

#define ODD(name, ...) \
	extern long name(long); \
	__asm__(".text\n .globl " #name "\n .type " #name ", @function\n" #name ": " __VA_ARGS__ \
		"\n .size " #name ", . - " #name "\n");

ODD(rep_ret, "lea 1(%rdi), %rax\n rep ret")
ODD(bnd_ret, "lea 2(%rdi), %rax\n .byte 0xf2\n ret")
ODD(by_jump, "lea 3(%rdi), %rax\n pop %rdx\n jmp *%rdx")
ODD(by_jump_below, "lea 4(%rdi), %rax\n add $8, %rsp\n jmp *-8(%rsp)")
ODD(by_push, "lea 5(%rdi), %rax\n pop %rdx\n push %rdx\n ret")
ODD(only_ret, "ret")
/* On a stack of its own. */
ODD(elsewhere, "mov %rsp, %rdx\n lea other_stack+65536(%rip), %rsp\n push %rdx\n call rep_ret\n pop %rsp\n add $5, %rax\n ret")
__asm__(".lcomm other_stack, 65536\n");
/* It takes what was pushed for it off the stack. */
ODD(pops_two, "mov 8(%rsp), %rax\n add 16(%rsp), %rax\n add %rdi, %rax\n ret $16")
ODD(calls_pops_two, "push %rbx\n mov %rsp, %rbx\n push $30\n push $12\n call pops_two\n sub %rsp, %rbx\n"
	" add %rbx, %rax\n pop %rbx\n ret")
/* The stack is aligned to nothing at all. */
ODD(crooked, "sub $3, %rsp\n call rep_ret\n add $3, %rsp\n ret")
/* Calls that are no calls: the address is pushed, and jumped to. */
ODD(pushes, "lea 1f(%rip), %rdx\n push %rdx\n jmp rep_ret\n 1: add $7, %rax\n ret")
/* The first instruction is itself a jump, a call, or takes the return address. */
ODD(jumps_first, "jmp rep_ret")
ODD(calls_first, "call rep_ret\n add $10, %rax\n ret")
ODD(pops_first, "pop %rdx\n lea 9(%rdi), %rax\n jmp *%rdx")
ODD(moves_stack_first, "sub $40, %rsp\n lea 11(%rdi), %rax\n add $40, %rsp\n ret")

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 100;
	for (long i = 0; i < rounds; i++) {
		EXPECT(rep_ret(i), i + 1);
		EXPECT(bnd_ret(i), i + 2);
		EXPECT(by_jump(i), i + 3);
		EXPECT(by_jump_below(i), i + 4);
		EXPECT(by_push(i), i + 5);
		only_ret(i);
		EXPECT(elsewhere(i), i + 6);
		EXPECT(calls_pops_two(i), i + 42);
		EXPECT(crooked(i), i + 1);
		EXPECT(pushes(i), i + 8);
		EXPECT(jumps_first(i), i + 1);
		EXPECT(calls_first(i), i + 11);
		EXPECT(pops_first(i), i + 9);
		EXPECT(moves_stack_first(i), i + 11);
	}
	RETURNED("jumps_first", rounds);
	RETURNED("calls_first", rounds);
	RETURNED("pops_first", rounds);
	RETURNED("moves_stack_first", rounds);
	RETURNED("rep_ret", 6 * rounds);
	RETURNED("bnd_ret", rounds);
	RETURNED("by_jump", rounds);
	RETURNED("by_jump_below", rounds);
	RETURNED("by_push", rounds);
	RETURNED("only_ret", rounds);
	RETURNED("elsewhere", rounds);
	RETURNED("pops_two", rounds);
	RETURNED("calls_pops_two", rounds);
	RETURNED("crooked", rounds);
	RETURNED("pushes", rounds);
	return 0;
}
