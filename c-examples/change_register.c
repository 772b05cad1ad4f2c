/*
 * change_register: a handler that changes what the program does.
 *
 * You will see a function's argument replaced, and then the function not run at all: the handler
 * sets the result, takes the return address from the stack and returns 1.
 *
 *     gcc -I include -rdynamic c-examples/change_register.c -o change_register
 *     LD_PRELOAD=target/release/libuprobe.so ./change_register
 */
#include <stdio.h>
#include <string.h>
#include <uprobe.h>

__attribute__((noinline)) long price(long pieces)
{
	__asm__ volatile("" ::: "memory");
	return pieces * 100;
}

static int double_it(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rdi *= 2;
	return 0;
}

static int free_of_charge(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	regs->rax = 0;
	regs->rip = *(uint64_t *)regs->rsp;
	regs->rsp += 8;
	return 1; /* rip was changed: don't run the instruction */
}

static long with(uprobe_pre_handler_t handler, long pieces)
{
	struct uprobe probe = { .symbol_name = "price", .pre_handler = handler };
	int error = register_uprobe(&probe);
	if (error != 0)
		fprintf(stderr, "register_uprobe: %s\n", strerror(-error));
	long result = price(pieces);
	unregister_uprobe(&probe);
	return result;
}

int main(void)
{
	printf("3 pieces cost %ld\n", price(3));
	printf("3 pieces cost %ld, the argument doubled\n", with(double_it, 3));
	printf("3 pieces cost %ld, the function skipped\n", with(free_of_charge, 3));
	printf("3 pieces cost %ld\n", price(3));
	return 0;
}
