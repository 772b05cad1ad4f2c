/* Functions whose first five bytes are cut into instructions in each way there is, where the five lie
 * inside a cache line, across two, and across two pages. Each instruction changes the result, so that one
 * left out, run twice or torn is seen. All of them take eax and ecx, and return eax. */
#ifndef WINDOWS_H
#define WINDOWS_H

#include <stdint.h>

__asm__(
	".macro insn_of length\n"
	"  .if \\length == 1\n    xchg %eax, %ecx\n"
	"  .elseif \\length == 2\n    add %ecx, %eax\n"
	"  .elseif \\length == 3\n    sub $5, %eax\n"
	"  .elseif \\length == 4\n    lea 3(%rax,%rcx,2), %eax\n"
	"  .elseif \\length == 5\n    add $0x01020304, %eax\n"
	"  .elseif \\length == 6\n    add $0x04030201, %ecx\n"
	"  .elseif \\length == 7\n    lea 0x11223344(%rcx,%rax,4), %ecx\n"
	"  .else\n    .error \"length\"\n  .endif\n"
	".endm\n"
	/* `before`: bytes of the five that lie before an edge of `edge` bytes; 0: all behind it. */
	".macro window edge, before, lengths:vararg\n"
	"  .balign \\edge, 0x90\n"
	"  .if \\before\n    .skip \\edge - \\before, 0x90\n  .endif\n"
	"  .type window_\\@, @function\n"
	"window_\\@:\n  .cfi_startproc\n"
	"  .irp length, \\lengths\n    insn_of \\length\n  .endr\n"
	"  imul $3, %eax, %eax\n  add %ecx, %eax\n  ret\n  .cfi_endproc\n"
	"  .size window_\\@, . - window_\\@\n"
	"  .pushsection .data.rel.ro.windows, \"aw\"\n"
	"  .quad window_\\@, \\edge, \\before\n  .byte \\lengths\n  .balign 8, 0\n"
	"  .popsection\n"
	".endm\n"
	".macro everywhere lengths:vararg\n"
	"  window 64, 0, \\lengths\n"
	"  .irp before, 1, 2, 3, 4\n"
	"    window 64, \\before, \\lengths\n"
	"  .endr\n"
	"  .irp before, 1, 2, 3, 4\n"
	"    window 4096, \\before, \\lengths\n"
	"  .endr\n"
	".endm\n"
	".pushsection .data.rel.ro.windows, \"aw\"\n.balign 8\nwindow_table:\n.popsection\n"
	".pushsection .text.windows, \"ax\"\n"
	"everywhere 5\neverywhere 6\neverywhere 7\n"
	"everywhere 4, 1\neverywhere 4, 3\n"
	"everywhere 3, 2\neverywhere 3, 5\neverywhere 3, 1, 1\neverywhere 3, 1, 4\n"
	"everywhere 2, 3\neverywhere 2, 6\neverywhere 2, 2, 1\neverywhere 2, 2, 3\n"
	"everywhere 2, 1, 2\neverywhere 2, 1, 1, 1\n"
	"everywhere 1, 4\neverywhere 1, 7\neverywhere 1, 3, 1\neverywhere 1, 2, 2\neverywhere 1, 2, 6\n"
	"everywhere 1, 2, 1, 1\neverywhere 1, 1, 3\neverywhere 1, 1, 5\neverywhere 1, 1, 2, 1\n"
	"everywhere 1, 1, 1, 2\neverywhere 1, 1, 1, 1, 1\neverywhere 1, 1, 1, 1, 4\n"
	".popsection\n"
	".pushsection .data.rel.ro.windows, \"aw\"\nwindow_table_end:\n.popsection\n"
	/* long call_window(place, eax, ecx): enters at any instruction; rbx and rbp tell that nothing else
	 * was changed, and r12 what rsp was. */
	".pushsection .text\n.globl call_window\n.type call_window, @function\n"
	"call_window:\n"
	"  .cfi_startproc\n"
	"  push %rbx\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset rbx, 0\n"
	"  push %r12\n  .cfi_adjust_cfa_offset 8\n  .cfi_rel_offset r12, 0\n"
	"  mov %rsp, %r12\n"
	"  mov %edx, %ecx\n  mov %esi, %eax\n  mov %rdi, %rbx\n  mov $0x1111, %edx\n  mov $0x2222, %r8d\n"
	"  call *%rdi\n"
	".globl call_window_back\ncall_window_back:\n"
	"  cmp %rsp, %r12\n  jne 7f\n  cmp %rdi, %rbx\n  jne 7f\n"
	"  cmp $0x1111, %edx\n  jne 7f\n  cmp $0x2222, %r8d\n  jne 7f\n"
	"  mov %eax, %eax\n"
	"  pop %r12\n  .cfi_adjust_cfa_offset -8\n  pop %rbx\n  .cfi_adjust_cfa_offset -8\n  ret\n"
	"7:\n  ud2\n"
	"  .cfi_endproc\n"
	".size call_window, . - call_window\n.popsection\n");

/* One of them: where it is, which edge lies `before` bytes behind its start, and how it is cut. */
struct window {
	unsigned char *start;
	uint64_t edge, before;
	unsigned char lengths[8];
};
extern const struct window window_table[], window_table_end[];
extern const char call_window_back[];
long call_window(const void *place, unsigned eax, unsigned ecx);

/* The offsets where instructions begin inside the five bytes, the first being 0; how many. */
static inline int boundaries(const struct window *w, int offsets[5])
{
	int count = 0, offset = 0;
	for (int i = 0; i < 8 && w->lengths[i] && offset < 5; i++) {
		offsets[count++] = offset;
		offset += w->lengths[i];
	}
	return count;
}

#endif
