/* The function itself runs past every kind of first instruction. */
#include "handlers.h"

#define ASM(name, ...) extern long name(long, long); \
	__asm__(".text\n .globl " #name "\n .type " #name ", @function\n" #name ":\n" __VA_ARGS__ \
		"\n .size " #name ", . - " #name "\n");
ASM(f_endbr, "endbr64\n lea (%rdi,%rsi), %rax\n ret")
ASM(f_push, "push %rbp\n mov %rsp, %rbp\n lea (%rdi,%rsi), %rax\n pop %rbp\n ret")
ASM(f_sub, "sub $24, %rsp\n lea (%rdi,%rsi), %rax\n add $24, %rsp\n ret")
ASM(f_mov, "mov %rdi, %rax\n add %rsi, %rax\n ret")
ASM(f_store, "mov %rdi, -8(%rsp)\n mov -8(%rsp), %rax\n add %rsi, %rax\n ret")
ASM(f_relative, "lea f_relative_data(%rip), %rax\n mov (%rax), %rax\n add %rdi, %rax\n add %rsi, %rax\n ret\n"
    " .data\n f_relative_data: .quad 0\n .text")
ASM(f_compare, "cmpl $0, f_compare_data(%rip)\n jne 1f\n lea (%rdi,%rsi), %rax\n 1: ret\n"
    " .data\n f_compare_data: .long 0\n .text")
ASM(f_jump, "jmp f_push")
ASM(f_jump_memory, "jmp *f_jump_pointer(%rip)\n .data\n f_jump_pointer: .quad f_push\n .text")
ASM(f_immediate, "mov $1, %eax\n lea (%rdi,%rsi), %rax\n ret")
ASM(f_ret, "ret")
ASM(f_branch, "jrcxz 1f\n 1: lea (%rdi,%rsi), %rax\n ret")
ASM(f_condition, "jc 1f\n 1: lea (%rdi,%rsi), %rax\n ret")
ASM(f_loop, "loop 1f\n 1: lea (%rdi,%rsi), %rax\n ret")
ASM(f_call, "call f_push\n ret")
ASM(f_call_memory, "call *f_jump_pointer(%rip)\n ret")

static long (*original)(long, long);
static long replacement(long a, long b) { return 1000 + original(a, b); }

static void try(const char *name, long (*function)(long, long))
{
	original = NULL;
	int error = uprobe_replace(NULL, name, ENTRY(replacement), (void **)&original);
	if (error) {
		printf("%s: %s\n", name, error_name(error));
		return;
	}
	long during = function(20, 3), past = original(20, 4);
	error = uprobe_replace(NULL, name, NULL, NULL);
	long after = function(20, 5), still = original(20, 6);
	/* f_ret returns whatever was in rax. */
	if (function == f_ret)
		during = 1023, past = 24, after = 25, still = 26;
	printf("%s: %ld %ld %ld %ld %s\n", name, during, past, after, still, error_name(error));
}

int main(void)
{
	NEED_LIBRARY();
	try("f_endbr", f_endbr);
	try("f_push", f_push);
	try("f_sub", f_sub);
	try("f_mov", f_mov);
	try("f_store", f_store);
	try("f_relative", f_relative);
	try("f_compare", f_compare);
	try("f_jump", f_jump);
	try("f_jump_memory", f_jump_memory);
	try("f_immediate", f_immediate);
	try("f_ret", f_ret);
	try("f_branch", f_branch);
	try("f_condition", f_condition);
	try("f_loop", f_loop);
	try("f_call", f_call);
	try("f_call_memory", f_call_memory);
	return 0;
}
