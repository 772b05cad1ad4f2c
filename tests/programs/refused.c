/* Places that can't be probed: each is refused by name, and the program runs as if nothing was asked. */
#include <stdio.h>
#include <stdlib.h>

extern long around_data(long), restartable(long), never_run(long), plain(long);
extern const int number;
__asm__(".text\n"
	/* Data in text: the decoder meets bytes that are no instruction (06 is none in 64-bit code). */
	".globl around_data\n.type around_data, @function\n"
	"around_data: lea 1(%rdi), %rax\n jmp 1f\n .byte 0x06, 0x06, 0x06, 0x06\n1: ret\n .size around_data, . - around_data\n"
	/* A critical section of rseq(2): from `restart_begin`, three bytes. */
	".globl restartable\n.type restartable, @function\n"
	"restartable: mov %rdi, %rax\n"
	"restart_begin: inc %rax\n restart_end: ret\n"
	" .long 0x53053053\n restart_abort: ret\n .size restartable, . - restartable\n"
	".pushsection __rseq_cs, \"aw\"\n .balign 32\n .long 0, 0\n"
	" .quad restart_begin, restart_end - restart_begin, restart_abort\n.popsection\n"
	/* The program's own breakpoint, and instructions that can't run elsewhere. */
	".globl never_run\n.type never_run, @function\n"
	"never_run: int3\n iretq\n mov %eax, %ss\n ret\n .size never_run, . - never_run\n"
	".globl plain\n.type plain, @function\n"
	"plain: lea 1(%rdi), %rax\n ret\n .size plain, . - plain\n");
const int number = 7;

int main(int argc, char **argv)
{
	long sum = 0;
	(void)argv;
	for (int i = 0; i < 100; i++)
		sum += around_data(i) + restartable(i) + plain(i);
	if (argc > 5)
		sum += never_run(number);
	printf("%ld\n", sum);
	return 0;
}
