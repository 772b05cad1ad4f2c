/* 2000 functions, of which function N is called N % 7 times by each of THREADS threads: cell_many THREADS. */
#include "check.h"
#include <pthread.h>

enum { FUNCTIONS = 2000, BYTES = 32 };

/* f_0, f_1, ...: each is alone in its 32 bytes. */
__asm__(".text\n.p2align 5\n.globl functions\nfunctions:\n"
	".altmacro\n"
	".macro one n\n.p2align 5\n.globl f_\\n\n.type f_\\n, @function\n"
	"f_\\n: mov %edi, %eax\n nop\n nop\n ret\n.size f_\\n, . - f_\\n\n.endm\n"
	".set n, 0\n.rept 2000\none %n\n.set n, n + 1\n.endr\n.noaltmacro\n");
extern char functions[];

static void *run(void *arg)
{
	for (long f = 0; f < FUNCTIONS; f++)
		for (long i = 0; i < f % 7; i++)
			((long (*)(long))(void *)(functions + f * BYTES))(i);
	return arg;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 3;
	pthread_t thread[64];
	for (int i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	for (int i = 0; i < threads; i++)
		MUST(pthread_join(thread[i], NULL));
	return 0;
}
