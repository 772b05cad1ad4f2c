/* Fills every register, calls a followed function, and looks whether that saw them all; the function
 * fills them again, returns, and its caller looks. `LEVEL` is what the processor has: 0 SSE, 1 AVX,
 * 2 AVX-512. Each is there for several first instructions, which are displaced in different ways. */
#ifndef REGISTERS_H
#define REGISTERS_H

#include "returns.h"
#include <stdint.h>
#include <string.h>

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15 };

/* The offsets are used below. */
struct state {
	uint64_t gpr[16];     /* 0 */
	uint64_t flags;       /* 128 */
	uint64_t k[8];        /* 136 */
	uint64_t unused[7];   /* 200 */
	uint8_t fx[512];      /* 256 */
	uint8_t zmm[32][64];  /* 768 */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct state) == 2816, "as the assembler has it");

/* What the caller loads, what the function saw, what it loads, what the caller saw. */
struct state at_call, seen_at_entry, at_return, seen_at_return, of_the_program;
uint64_t caller_rsp;

__asm__(
	".macro GPRS op, state\n"
	" .if \\op\n"
	"  mov \\state+0(%rip), %rax\n  mov \\state+8(%rip), %rbx\n  mov \\state+16(%rip), %rcx\n"
	"  mov \\state+24(%rip), %rdx\n  mov \\state+32(%rip), %rsi\n  mov \\state+40(%rip), %rdi\n"
	"  mov \\state+48(%rip), %rbp\n  mov \\state+64(%rip), %r8\n  mov \\state+72(%rip), %r9\n"
	"  mov \\state+80(%rip), %r10\n  mov \\state+88(%rip), %r11\n  mov \\state+96(%rip), %r12\n"
	"  mov \\state+104(%rip), %r13\n  mov \\state+112(%rip), %r14\n  mov \\state+120(%rip), %r15\n"
	" .else\n"
	"  mov %rax, \\state+0(%rip)\n  mov %rbx, \\state+8(%rip)\n  mov %rcx, \\state+16(%rip)\n"
	"  mov %rdx, \\state+24(%rip)\n  mov %rsi, \\state+32(%rip)\n  mov %rdi, \\state+40(%rip)\n"
	"  mov %rbp, \\state+48(%rip)\n  mov %rsp, \\state+56(%rip)\n  mov %r8, \\state+64(%rip)\n"
	"  mov %r9, \\state+72(%rip)\n  mov %r10, \\state+80(%rip)\n  mov %r11, \\state+88(%rip)\n"
	"  mov %r12, \\state+96(%rip)\n  mov %r13, \\state+104(%rip)\n  mov %r14, \\state+112(%rip)\n"
	"  mov %r15, \\state+120(%rip)\n"
	" .endif\n"
	".endm\n"
	".macro VECTORS load, state, level\n"
	" .if \\level == 2\n"
	"  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"  .if \\load\n   vmovdqu64 \\state+768+\\n*64(%rip), %zmm\\n\n"
	"  .else\n   vmovdqu64 %zmm\\n, \\state+768+\\n*64(%rip)\n  .endif\n"
	"  .endr\n"
	"  .irp n, 0,1,2,3,4,5,6,7\n"
	"  .if \\load\n   kmovq \\state+136+\\n*8(%rip), %k\\n\n"
	"  .else\n   kmovq %k\\n, \\state+136+\\n*8(%rip)\n  .endif\n"
	"  .endr\n"
	" .elseif \\level == 1\n"
	"  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"  .if \\load\n   vmovdqu \\state+768+\\n*64(%rip), %ymm\\n\n"
	"  .else\n   vmovdqu %ymm\\n, \\state+768+\\n*64(%rip)\n  .endif\n"
	"  .endr\n"
	" .endif\n"
	".endm\n"
	/* Everything but rsp. */
	".macro LOAD state, level\n"
	" fxrstor64 \\state+256(%rip)\n"
	" VECTORS 1, \\state, \\level\n"
	" pushq \\state+128(%rip)\n popfq\n"
	" GPRS 1, \\state\n"
	".endm\n"
	/* Changes none of it. */
	".macro STORE state, level\n"
	" GPRS 0, \\state\n"
	" pushfq\n popq \\state+128(%rip)\n"
	" fxsave64 \\state+256(%rip)\n"
	" VECTORS 0, \\state, \\level\n"
	".endm\n"
	".macro PAIR name, level, first:vararg\n"
	" .globl filled_\\name, call_\\name\n"
	" .type filled_\\name, @function\n .p2align 4\n"
	"filled_\\name:\n .cfi_startproc\n"
	" \\first\n"
	" STORE seen_at_entry, \\level\n"
	" LOAD at_return, \\level\n"
	" ret\n .cfi_endproc\n .size filled_\\name, . - filled_\\name\n"
	" .type call_\\name, @function\n .p2align 4\n"
	"call_\\name:\n"
	" push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n sub $8, %rsp\n"
	" fxsave64 of_the_program+256(%rip)\n"
	" mov %rsp, caller_rsp(%rip)\n"
	" LOAD at_call, \\level\n"
	" call filled_\\name\n"
	" STORE seen_at_return, \\level\n"
	" cld\n"
	" .if \\level\n vzeroupper\n .endif\n"
	" fxrstor64 of_the_program+256(%rip)\n"
	" add $8, %rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
	" .size call_\\name, . - call_\\name\n"
	".endm\n"
	".text\n"
	".irp level, 0,1,2\n"
	" PAIR store_\\level, \\level, mov %rax, seen_at_entry(%rip)\n"
	" PAIR endbr_\\level, \\level, endbr64\n"
	" PAIR lea_\\level, \\level, lea 0(%rdi), %rdi\n"
	" PAIR vector_\\level, \\level, movaps %xmm3, %xmm3\n"
	".endr\n");

#define FILLED(X) X(store_0, 0) X(endbr_0, 0) X(lea_0, 0) X(store_1, 1) X(endbr_1, 1) X(lea_1, 1) \
	X(store_2, 2) X(endbr_2, 2) X(lea_2, 2) X(vector_0, 0)
#define DECLARE(name, level) extern void call_##name(void);
FILLED(DECLARE)

static uint64_t random_state = 88172645463325252ull;
static uint64_t random_number(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

#define FLAGS 0x8d5ull /* CF PF AF ZF SF OF */

static void fill(struct state *state, int level, int x87_depth)
{
	uint64_t *words = (uint64_t *)(void *)state;
	memset(state, 0, sizeof *state);
	for (size_t i = 0; i < 16; i++)
		state->gpr[i] = random_number();
	for (size_t i = 0; i < 8; i++)
		state->k[i] = random_number();
	for (size_t i = 768 / 8; i < sizeof *state / 8; i++)
		words[i] = random_number();
	uint64_t choice = random_number();
	state->flags = 0x202 | (choice % 4 == 0 ? FLAGS : choice % 4 == 1 ? 0 : (choice >> 8) & FLAGS);
	uint16_t control = (uint16_t)(0x007f | (random_number() % 16) << 8), status, top = (uint16_t)(8 - x87_depth);
	status = (uint16_t)((top & 7) << 11 | (random_number() % 2) << 14);
	/* Rounding, flushing of denormals, and any of the sticky flags; everything masked. */
	uint32_t mxcsr = (uint32_t)(0x1f80 | (random_number() & 0xe07f));
	uint8_t tags = (uint8_t)(0xff00 >> x87_depth);
	memcpy(state->fx, &control, 2);
	memcpy(state->fx + 2, &status, 2);
	state->fx[4] = tags;
	memcpy(state->fx + 24, &mxcsr, 4);
	for (int i = 0; i < 8; i++) {
		uint64_t mantissa = random_number() | 1ull << 63;
		uint16_t exponent = (uint16_t)(0x3fff + random_number() % 100);
		memcpy(state->fx + 32 + 16 * i, &mantissa, 8);
		memcpy(state->fx + 40 + 16 * i, &exponent, 2);
	}
	for (int i = 0; i < 16; i++)
		memcpy(state->fx + 160 + 16 * i, state->zmm[i], 16);
	(void)level;
}

static int said;
static void differs(const char *who, const char *when, const char *what, int which)
{
	if (said++ < 20)
		printf("%s %s: %s %d differs\n", who, when, what, which);
}

static void compare(const char *who, const char *when, const struct state *is, const struct state *was, int level)
{
	for (int i = 0; i < 16; i++)
		if (i != RSP && is->gpr[i] != was->gpr[i])
			differs(who, when, "general register", i);
	if ((is->flags ^ was->flags) & (FLAGS | 0x400))
		differs(who, when, "a flag of rflags", (int)((is->flags ^ was->flags) & 0xfff));
	if (memcmp(is->fx, was->fx, 2) != 0)
		differs(who, when, "x87 control word", 0);
	if (memcmp(is->fx + 2, was->fx + 2, 2) != 0)
		differs(who, when, "x87 status word", 0);
	if (is->fx[4] != was->fx[4])
		differs(who, when, "x87 stack depth", 0);
	if (memcmp(is->fx + 24, was->fx + 24, 4) != 0)
		differs(who, when, "mxcsr", 0);
	for (int i = 0; i < 8; i++)
		if (memcmp(is->fx + 32 + 16 * i, was->fx + 32 + 16 * i, 10) != 0)
			differs(who, when, "st", i);
	for (int i = 0; i < 16; i++)
		if (memcmp(is->fx + 160 + 16 * i, was->fx + 160 + 16 * i, 16) != 0)
			differs(who, when, "xmm", i);
	for (int i = 0; i < 16 && level == 1; i++)
		if (memcmp(is->zmm[i], was->zmm[i], 32) != 0)
			differs(who, when, "ymm", i);
	for (int i = 0; i < 32 && level == 2; i++)
		if (memcmp(is->zmm[i], was->zmm[i], 64) != 0)
			differs(who, when, "zmm", i);
	for (int i = 0; i < 8 && level == 2; i++)
		if (is->k[i] != was->k[i])
			differs(who, when, "k", i);
}

static int highest_level(void)
{
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
		return 2;
	return __builtin_cpu_supports("avx") ? 1 : 0;
}

static void try_call(const char *name, int level, void (*call)(void))
{
	int highest = highest_level();
	if (level > highest) {
		printf("%s: NOT RUN, the processor lacks it\n", name);
		return;
	}
	fill(&at_call, level, (int)(random_number() % 4));
	fill(&at_return, level, (int)(random_number() % 3));
	memset(&seen_at_entry, 0, sizeof seen_at_entry);
	memset(&seen_at_return, 0, sizeof seen_at_return);
	call();
	compare(name, "at entry", &seen_at_entry, &at_call, level);
	compare(name, "at return", &seen_at_return, &at_return, level);
	if (seen_at_entry.gpr[RSP] != caller_rsp - 8)
		differs(name, "at entry", "rsp", RSP);
	if (seen_at_return.gpr[RSP] != caller_rsp)
		differs(name, "at return", "rsp", RSP);
}

#define TRY_CALL(name, level) try_call(#name, level, call_##name);
static void try_all(int rounds)
{
	for (int i = 0; i < rounds; i++) {
		FILLED(TRY_CALL)
	}
	printf("%d differences\n", said);
}

#endif
