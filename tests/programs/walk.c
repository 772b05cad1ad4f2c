/* A function written in assembly whose every instruction has a known place and a known number
 * of executions. Without arguments it tells the places, one line each:
 *   hits walk+OFFSET NUMBER
 * and the result, which no probe may change. */
#include "check.h"
#include <stdint.h>

extern uint64_t walk(uint64_t a, uint64_t *memory);
struct place { uint32_t offset, per_call; };
extern const struct place walk_places[], walk_places_end[];

/* I(n, insn): an instruction that runs n times in each call. */
#define I(n, insn) \
	"991: " insn "\n" \
	".pushsection .rodata.walk, \"a\"\n .long 991b - walk, " #n "\n.popsection\n"

__asm__(
".pushsection .rodata.walk, \"a\"\n .globl walk_places\n walk_places:\n.popsection\n"
".text\n .p2align 4\n .globl walk\n .type walk, @function\n"
"walk:\n"
I(1, "endbr64")
I(1, "push %rbx")
I(1, "push %rbp")
I(1, "mov %rsp, %rbp")
I(1, "sub $0x20, %rsp")
I(1, "mov %rdi, %rbx")
I(1, "mov $5, %ecx")
"1:\n"
I(5, "add %rcx, %rbx")
I(5, "imul $3, %rbx, %rbx")
I(5, "mov %rbx, -8(%rbp)")
I(5, "xor -8(%rbp), %rcx")
I(5, "xor -8(%rbp), %rcx")
I(5, "dec %ecx")
I(5, "jnz 1b")
I(1, "lea walk_datum(%rip), %rax")
I(1, "add walk_datum(%rip), %rbx")
I(1, "cmpq $0, walk_datum(%rip)")
I(1, "je 9f")
I(1, "call 2f")
I(1, "call walk_helper")
I(1, "lea walk_helper(%rip), %rdx")
I(1, "call *%rdx")
I(1, "call *walk_pointer(%rip)")
I(1, "jmp 3f")
I(0, "ud2")
"2:\n"
I(1, "add $0x11, %rbx")
I(1, "ret")
"3:\n"
I(1, "lea 4f(%rip), %rax")
I(1, "jmp *%rax")
I(0, "ud2")
"4:\n"
I(1, "mov $3, %ecx")
"5:\n"
I(3, "add $1, %rbx")
I(3, "loop 5b")
I(1, "jrcxz 6f")
I(0, "ud2")
"6:\n"
I(1, "stc")
I(1, "pushfq")
I(1, "clc")
I(1, "popfq")
I(1, "adc $0, %rbx")
I(1, "cld")
I(1, "mov %rsi, %rdi")
I(1, "mov $8, %ecx")
I(1, "mov %rbx, %rax")
I(1, "rep stosq")
I(1, "mov $8, %ecx")
I(1, "lea (%rsi), %rdi")
I(1, "repe scasq")
I(1, "xor %r8d, %r8d")
I(1, "sete %r8b")
I(1, "add %r8, %rbx")
I(1, "lock xadd %rbx, (%rsi)")
I(1, "xchg %rbx, 8(%rsi)")
I(1, "mov %fs:0, %rdx")
I(1, "nopw 0x0(%rax,%rax,1)")
I(1, "movq %rbx, %xmm0")
I(1, "punpcklqdq %xmm0, %xmm0")
I(1, "movdqu %xmm0, 16(%rsi)")
I(1, "mov $39, %eax")
I(1, "syscall")
I(1, "lea (%rip), %rdx")
I(1, "add $2, %rbx")
I(1, "mov (%rsi), %rax")
I(1, "add %rbx, %rax")
"9:\n"
I(1, "leave")
I(1, "pop %rbx")
I(1, "ret")
".size walk, . - walk\n"
".p2align 4\n walk_helper:\n add $0x101, %rbx\n ret\n"
".pushsection .data\n walk_datum: .quad 0x1234\n walk_pointer: .quad walk_helper\n.popsection\n"
".pushsection .rodata.walk, \"a\"\n .globl walk_places_end\n walk_places_end:\n.popsection\n");

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 7;
	uint64_t memory[64] = { 0 }, result = 0;
	/* leave + pop restore rsp only if push rbp came second: see the order above. */
	for (long i = 0; i < rounds; i++)
		result = result * 31 + walk((uint64_t)i, memory);
	for (int i = 0; i < 64; i++)
		result = result * 31 + memory[i];
	printf("result %#llx\n", (unsigned long long)result);
	for (const struct place *p = walk_places; p < walk_places_end; p++)
		printf("hits walk+%#x %ld\n", p->offset, p->per_call * rounds);
	return 0;
}
