/* The program that all candidates probe, and the floors: the same function with what a probe must at
 * least do written into it by hand, and nothing else.
 *
 * A floor's function begins with the jump (or int3) that its probe would have written over the first
 * two instructions; its detour runs these two and jumps back. */

.macro FUNCTION name
	.globl \name
	.type \name, @function
	.p2align 6
\name:
.endm
.macro END name
	.size \name, . - \name
.endm

.macro DISPLACED
	endbr64
	lea (%rdi,%rdi,2), %eax
.endm
.macro REST
	xor %edi, %esi
	add %esi, %eax
	imul $5, %eax, %eax
	ret
.endm

	.text
/* int work(int a, int b): as gcc -O2 -fcf-protection makes it. */
FUNCTION work
	DISPLACED
	REST
END work
#ifdef WITH_NOP5
/* As with -mfentry -mnop-mcount: the kernel's best case. uftrace, where it sees one of these, patches nothing else. */
FUNCTION work_nop5
	.byte 0x0f, 0x1f, 0x44, 0x00, 0x00
	DISPLACED
	REST
END work_nop5
#endif
/* With a frame pointer and without CET: the kernel emulates the push. */
FUNCTION work_push
	push %rbp
	mov %rsp, %rbp
	lea (%rdi,%rdi,2), %eax
	xor %edi, %esi
	add %esi, %eax
	imul $5, %eax, %eax
	pop %rbp
	ret
END work_push
#ifdef WITH_MCOUNT
/* As with gcc -pg. */
FUNCTION work_pg
	endbr64
	push %rbp
	mov %rsp, %rbp
	call *mcount@GOTPCREL(%rip)
	lea (%rdi,%rdi,2), %eax
	xor %edi, %esi
	add %esi, %eax
	imul $5, %eax, %eax
	pop %rbp
	ret
END work_pg
#endif

/* Eight callers, so that as many returns depend on the processor's return stack. */
.macro CALLER n, next
FUNCTION chain\n
	sub $8, %rsp
	call chain\next
	add $1, %eax
	add $8, %rsp
	ret
END chain\n
.endm
CALLER 1, 2
CALLER 2, 3
CALLER 3, 4
CALLER 4, 5
CALLER 5, 6
CALLER 6, 7
CALLER 7, 8
FUNCTION chain8
	sub $8, %rsp
	call *%rdx
	add $1, %eax
	add $8, %rsp
	ret
END chain8

	.section .tbss, "awT", @nobits
	.p2align 6
	.globl floor_cell, floor_cells, floor_shadow, floor_histogram
floor_cell:      .zero 8        /* counted in directly */
floor_cells:     .zero 8        /* points to what is counted in */
floor_shadow:    .zero 8        /* points to the next free { return address, start } */
floor_sum:       .zero 8
floor_histogram: .zero 8 * 64
	.text

.macro JUMPING name
FUNCTION \name
	.byte 0xe9              /* jmp with four bytes, however near */
	.long detour_\name - . - 4
	.byte 0x66, 0x90
back_\name:
	REST
END \name
	.p2align 5
detour_\name:
.endm
.macro BACK name
	DISPLACED
	jmp back_\name
.endm

JUMPING floor_jump
	BACK floor_jump

JUMPING floor_count
	incq %fs:floor_cell@tpoff
	BACK floor_count

JUMPING floor_count_indirect
	push %rax
	mov %fs:floor_cells@tpoff, %rax
	test %rax, %rax
	jz 1f
	incq 8(%rax)
1:	pop %rax
	BACK floor_count_indirect

/* All general registers and the flags, a call of a C function that does nothing, and back. rbp holds the
 * stack meanwhile. */
.macro SAVE_GENERAL
	lea -128(%rsp), %rsp
	push %rax
	lahf
	seto %al
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, %rbp
.endm
.macro CALL_HANDLER
	xor %edi, %edi
	mov %rbp, %rsi
	call *floor_handler(%rip)
.endm
.macro RESTORE_GENERAL
	mov %rbp, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $127, %al
	sahf
	pop %rax
	lea 128(%rsp), %rsp
.endm
.macro VECTORS move, register, size, numbers:vararg
	.irp n, \numbers
	\move %\register\n, \size * \n(%rsp)
	.endr
.endm
.macro VECTORS_BACK move, register, size, numbers:vararg
	.irp n, \numbers
	\move \size * \n(%rsp), %\register\n
	.endr
.endm
#define SIXTEEN 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
#define SECOND_SIXTEEN 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31

JUMPING floor_save
	SAVE_GENERAL
	and $-16, %rsp
	CALL_HANDLER
	RESTORE_GENERAL
	BACK floor_save

/* The same for all that a handler is shown and may change, as struct uprobe_regs has it: rip, rsp, and the whole of
 * rflags. C code wants the direction flag clear, which lahf and seto don't tell of, nor sahf brings back. */
JUMPING floor_save_whole
	lea -128(%rsp), %rsp
	pushfq
	lea -16(%rsp), %rsp
	push %rcx
	push %rax
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r15
	push %r14
	push %r13
	push %r12
	push %r11
	push %r10
	push %r9
	push %r8
	lea 272(%rsp), %rax
	mov %rax, 128(%rsp)
	lea floor_save_whole(%rip), %rax
	mov %rax, 120(%rsp)
	mov %rsp, %rbp
	and $-16, %rsp
	cld
	CALL_HANDLER
	mov %rbp, %rsp
	pop %r8
	pop %r9
	pop %r10
	pop %r11
	pop %r12
	pop %r13
	pop %r14
	pop %r15
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rax
	pop %rcx
	lea 16(%rsp), %rsp
	popfq
	lea 128(%rsp), %rsp
	BACK floor_save_whole

JUMPING floor_save_xmm
	SAVE_GENERAL
	sub $256, %rsp
	and $-16, %rsp
	VECTORS movaps, xmm, 16, SIXTEEN
	CALL_HANDLER
	VECTORS_BACK movaps, xmm, 16, SIXTEEN
	RESTORE_GENERAL
	BACK floor_save_xmm

JUMPING floor_save_ymm
	SAVE_GENERAL
	sub $512, %rsp
	and $-64, %rsp
	VECTORS vmovaps, ymm, 32, SIXTEEN
	vzeroupper
	CALL_HANDLER
	VECTORS_BACK vmovaps, ymm, 32, SIXTEEN
	RESTORE_GENERAL
	BACK floor_save_ymm

JUMPING floor_save_zmm
	SAVE_GENERAL
	sub $(64 * 32 + 64), %rsp
	and $-64, %rsp
	VECTORS vmovaps, zmm, 64, SIXTEEN
	VECTORS vmovaps, zmm, 64, SECOND_SIXTEEN
	.irp n, 0,1,2,3,4,5,6,7
	kmovq %k\n, 2048 + 8 * \n(%rsp)
	.endr
	vzeroupper
	CALL_HANDLER
	.irp n, 0,1,2,3,4,5,6,7
	kmovq 2048 + 8 * \n(%rsp), %k\n
	.endr
	VECTORS_BACK vmovaps, zmm, 64, SIXTEEN
	VECTORS_BACK vmovaps, zmm, 64, SECOND_SIXTEEN
	RESTORE_GENERAL
	BACK floor_save_zmm

/* floor_xsave_size is set by target.c from cpuid; all components but AMX. */
JUMPING floor_save_xsavec
	SAVE_GENERAL
	sub floor_xsave_size(%rip), %rsp
	and $-64, %rsp
	xor %eax, %eax
	.irp n, 2,3,4,5,6,7
	mov %rax, 512 + 8 * \n(%rsp)
	.endr
	mov $0xe7, %eax
	xor %edx, %edx
	xsavec (%rsp)
	mov %rsp, %rbx
	CALL_HANDLER
	mov $0xe7, %eax
	xor %edx, %edx
	xrstor (%rbx)
	RESTORE_GENERAL
	BACK floor_save_xsavec

/* The return followed by a stub whose calls and returns are paired: the return address goes to a shadow
 * stack, the stub calls the function in the caller's place. r10 and r11 are nobody's at both ends. */
.macro STUB_ENTER
	mov %fs:floor_shadow@tpoff, %r11
	pop (%r11)
	add $16, %r11
	mov %r11, %fs:floor_shadow@tpoff
.endm
.macro STUB_LEAVE
	mov %fs:floor_shadow@tpoff, %r11
	sub $16, %r11
	mov %r11, %fs:floor_shadow@tpoff
.endm

JUMPING floor_stub
	STUB_ENTER
	call 1f
	STUB_LEAVE
	push (%r11)
	ret
1:	BACK floor_stub

.macro STAMP
	push %rax
	push %rdx
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	mov %rax, -8(%r11)
	pop %rdx
	pop %rax
.endm
.macro ELAPSED
	mov %rax, %r8
	mov %rdx, %r9
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	sub 8(%r11), %rax
.endm

JUMPING floor_stub_ticks
	STUB_ENTER
	STAMP
	call 1f
	STUB_LEAVE
	ELAPSED
	mov %rax, 8(%r11)
	mov %r8, %rax
	mov %r9, %rdx
	push (%r11)
	ret
1:	BACK floor_stub_ticks

JUMPING floor_stub_histogram
	STUB_ENTER
	STAMP
	call 1f
	STUB_LEAVE
	ELAPSED
	add %rax, %fs:floor_sum@tpoff
	or $1, %rax
	bsr %rax, %rax
	incq %fs:floor_histogram@tpoff(,%rax,8)
	mov %r8, %rax
	mov %r9, %rdx
	push (%r11)
	ret
1:	BACK floor_stub_histogram

/* What the SIGTRAP handler of target.c does nothing about. */
FUNCTION floor_int3
	int3
	DISPLACED
	REST
END floor_int3
/* And where it puts floor_landing in the place of the return address. */
FUNCTION floor_int3_stub
	int3
	DISPLACED
	REST
END floor_int3_stub
FUNCTION floor_landing
	STUB_LEAVE
	push (%r11)
	ret
END floor_landing
	.section .note.GNU-stack, "", @progbits
