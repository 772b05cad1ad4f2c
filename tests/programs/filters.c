/* Functions whose six arguments are the same value, to be filtered by it: f_0 ... from their first
 * instruction, g_0 ... at an instruction behind which the flags, and the red zone, matter. Each is called
 * with each value, ROUNDS times in each of THREADS threads: filters THREADS ROUNDS VALUE... */
#include "check.h"
#include <pthread.h>
#include <stdint.h>

enum { FUNCTIONS = 140, BYTES = 64, MOST = 64 };

/* f: rdi + 9 * rsi + 0x100. g: the same and all flags of a comparison; probed at g + 9. */
__asm__(".text\n"
	".altmacro\n"
	".macro plain n\n.p2align 6\n.globl f_\\n\n.type f_\\n, @function\n"
	"f_\\n: lea 0x100(%rdi,%rsi,8), %rax\n add %rsi, %rax\n ret\n.size f_\\n, . - f_\\n\n.endm\n"
	".macro inside n\n.p2align 6\n.globl g_\\n\n.type g_\\n, @function\n"
	"g_\\n: mov %rdi, -8(%rsp)\n cmp $7, %rdi\n"
	" lea 0x100(%rdi,%rsi,8), %rax\n"
	" mov -8(%rsp), %rdx\n lea -128(%rsp), %rsp\n pushf\n pop %rcx\n lea 128(%rsp), %rsp\n"
	" and $0x8d5, %ecx\n shl $40, %rcx\n add %rdx, %rax\n xor %rcx, %rax\n ret\n"
	".size g_\\n, . - g_\\n\n.endm\n"
	".p2align 6\nplain_functions:\n"
	".set n, 0\n.rept 140\nplain %n\n.set n, n + 1\n.endr\n"
	".p2align 6\ninside_functions:\n"
	".set n, 0\n.rept 140\ninside %n\n.set n, n + 1\n.endr\n.noaltmacro\n");
extern char plain_functions[], inside_functions[];
typedef uint64_t (*function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

static uint64_t values[MOST];
static int value_count;
static long rounds;

static uint64_t call_all(const char *functions)
{
	uint64_t sum = 0;
	for (int i = 0; i < FUNCTIONS; i++)
		for (int k = 0; k < value_count; k++) {
			uint64_t v = values[k];
			sum = sum * 31 + ((function)(uintptr_t)(functions + i * BYTES))(v, v, v, v, v, v);
		}
	return sum;
}

static void *run(void *arg)
{
	uint64_t *sum = arg;
	for (long i = 0; i < rounds; i++)
		*sum = *sum * 17 + call_all(plain_functions) + 3 * call_all(inside_functions);
	return arg;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	rounds = argc > 2 ? atol(argv[2]) : 1;
	for (int i = 3; i < argc && value_count < MOST; i++)
		values[value_count++] = strtoul(argv[i], NULL, 0);
	pthread_t thread[8];
	uint64_t sums[8] = { 0 };
	for (int i = 0; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, &sums[i]));
	for (int i = 0; i < threads; i++) {
		MUST(pthread_join(thread[i], NULL));
		printf("sum %llu\n", (unsigned long long)sums[i]);
	}
	return 0;
}
