/* A function that takes an argument off the stack: its return is not where its call was. */
#include "check.h"

__asm__(".text\n.globl pops\n.type pops,@function\npops: mov 8(%rsp),%rax\n add $1,%rax\n ret $8\n.size pops,.-pops\n");

FUNCTION long through(long a)
{
	long result;

	__asm__ volatile("sub $128,%%rsp\n push %1\n call pops\n add $128,%%rsp"
			 : "=a"(result) : "r"(a) : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

int main(void)
{
	long sum = 0;

	for (long i = 0; i < 100; i++)
		sum += through(i);
	printf("sum %ld\n", sum);
	return 0;
}
