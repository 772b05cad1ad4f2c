/* Functions that are called with pseudo-random registers: p_0 ... from their first instruction, m_0 ... at an
 * instruction (m_N + 13) behind which the flags, the red zone and all registers matter. The same in each of
 * THREADS threads, and with the same numbers in each run: chains THREADS ROUNDS */
#include "check.h"
#include <pthread.h>
#include <stdint.h>

enum { FUNCTIONS = 96, BYTES = 128, REGISTERS = 8 };

/* rdi: the registers. Loads rax, rbx, rcx, rdx, rsi, r8, r9, rdi, and calls rbp; what comes of it goes to rax. */
uint64_t with_registers(const uint64_t *registers, const void *function);
__asm__(".text\n.globl with_registers\n.type with_registers, @function\n"
	"with_registers: push %rbx\n push %rbp\n sub $8, %rsp\n mov %rsi, %rbp\n"
	" mov (%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n"
	" mov 32(%rdi), %rsi\n mov 40(%rdi), %r8\n mov 48(%rdi), %r9\n mov 56(%rdi), %rdi\n"
	" call *%rbp\n add $8, %rsp\n pop %rbp\n pop %rbx\n ret\n"
	".size with_registers, . - with_registers\n");

/* All registers in one. The first instruction of p, and what is behind m + 13, look at no less. */
__asm__(".text\n.altmacro\n"
	".macro mixed\n"
	" rol $7, %rax\n add %rbx, %rax\n rol $7, %rax\n add %rcx, %rax\n rol $7, %rax\n add %rdx, %rax\n"
	" rol $7, %rax\n add %rsi, %rax\n rol $7, %rax\n add %r8, %rax\n rol $7, %rax\n add %r9, %rax\n"
	" rol $7, %rax\n add %rdi, %rax\n ret\n.endm\n"
	".macro plain n\n.p2align 7\n.globl p_\\n\n.type p_\\n, @function\n"
	"p_\\n: lea 0x123(%rax), %rax\n xor %rsp, %r10\n mixed\n.size p_\\n, . - p_\\n\n.endm\n"
	".macro inside n\n.p2align 7\n.globl m_\\n\n.type m_\\n, @function\n"
	"m_\\n: mov %rdi, -8(%rsp)\n mov %rax, -16(%rsp)\n cmp %esi, %edi\n nop\n"
	" lea 0x123(%rax), %rax\n"
	" lea -128(%rsp), %rsp\n pushf\n pop %r10\n lea 128(%rsp), %rsp\n"
	" and $0x8d5, %r10d\n imul $0x10001, %r10, %r10\n xor -8(%rsp), %r10\n xor -16(%rsp), %r10\n"
	" add %r10, %rax\n mixed\n.size m_\\n, . - m_\\n\n.endm\n"
	".p2align 7\nplain_functions:\n.set n, 0\n.rept 96\nplain %n\n.set n, n + 1\n.endr\n"
	".p2align 7\ninside_functions:\n.set n, 0\n.rept 96\ninside %n\n.set n, n + 1\n.endr\n.noaltmacro\n");
extern char plain_functions[], inside_functions[];

static long rounds;

static uint64_t random_word(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Small ones, negative ones, those about a power of two, and any. */
static uint64_t random_value(uint64_t *state)
{
	uint64_t word = random_word(state), small = word >> 32 & 15;
	switch (word & 7) {
	case 0: case 1: case 2: return small;
	case 3: return -small;
	case 4: return ((uint64_t)1 << (word >> 40 & 63)) + small - 7;
	case 5: return (uint32_t)-small;
	case 6: return word << 32 | small;
	default: return random_word(state);
	}
}

static void *run(void *arg)
{
	uint64_t *sum = arg, state = *sum;
	for (long i = 0; i < rounds; i++) {
		uint64_t registers[REGISTERS];
		for (int k = 0; k < REGISTERS; k++)
			registers[k] = random_value(&state);
		for (int k = 0; k < FUNCTIONS; k++) {
			*sum = *sum * 31 + with_registers(registers, plain_functions + k * BYTES);
			*sum = *sum * 31 + with_registers(registers, inside_functions + k * BYTES);
		}
	}
	return arg;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	rounds = argc > 2 ? atol(argv[2]) : 1;
	pthread_t thread[8];
	uint64_t sums[8];
	for (int i = 0; i < threads; i++) {
		sums[i] = (uint64_t)i + 1;
		MUST(pthread_create(&thread[i], NULL, run, &sums[i]));
	}
	for (int i = 0; i < threads; i++) {
		MUST(pthread_join(thread[i], NULL));
		printf("sum %llu\n", (unsigned long long)sums[i]);
	}
	return 0;
}
