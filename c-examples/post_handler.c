/*
 * post_handler: the registers before and after one instruction.
 *
 * You will see rax before and after an `imul`, in the middle of a function: a probe can be put
 * at any instruction, by its address or by SYMBOL and offset.
 *
 *     gcc -I include -rdynamic c-examples/post_handler.c -o post_handler
 *     LD_PRELOAD=target/release/libuprobe.so ./post_handler
 */
#include <stdio.h>
#include <string.h>
#include <uprobe.h>

long triple_and_one(long a);
extern char the_imul[];
__asm__(".text\n"
	".globl triple_and_one, the_imul\n"
	".type triple_and_one, @function\n"
	"triple_and_one:\n"
	"	mov %rdi, %rax\n"
	"the_imul:\n"
	"	imul $3, %rax, %rax\n"
	"	inc %rax\n"
	"	ret\n"
	".size triple_and_one, . - triple_and_one\n");

static unsigned long long before, after;

static int on_before(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	before = regs->rax;
	return 0;
}

static void on_after(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe;
	(void)flags;
	after = regs->rax;
}

int main(void)
{
	struct uprobe probe = { .addr = the_imul, .pre_handler = on_before, .post_handler = on_after };
	int error = register_uprobe(&probe);
	if (error != 0) {
		fprintf(stderr, "register_uprobe: %s\n", strerror(-error));
		return 1;
	}
	for (long a = 1; a <= 3; a++) {
		long result = triple_and_one(a * 10);
		printf("imul: %llu -> %llu, the function returned %ld\n", before, after, result);
	}
	unregister_uprobe(&probe);
	return 0;
}
