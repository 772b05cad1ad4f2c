/* What LuaJIT's interpreter does: a function with a personality routine and no table for it, which finds what it
 * needs by its frame's address. The exception is raised in a function that it calls. Prints, for each exception, whether
 * both phases found that address where the function left it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unwind.h>

void run_from_here(void (*raises)(void));

/* rsp of run_from_here where it calls. */
uint64_t frame_of_the_call;
static int is_right[2];

static void ended(_Unwind_Reason_Code code, struct _Unwind_Exception *exception)
{
	(void)code, (void)exception;
}

__attribute__((noinline)) void raises(void)
{
	static struct _Unwind_Exception exception;

	exception.exception_class = 0x4f55525342594144;
	exception.exception_cleanup = ended;
	_Unwind_RaiseException(&exception);
	puts("nobody catches it");
	exit(1);
}

_Unwind_Reason_Code by_address(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
			       struct _Unwind_Exception *exception, struct _Unwind_Context *context)
{
	extern char caught_here[];

	(void)version, (void)class, (void)exception;
	is_right[(actions & _UA_CLEANUP_PHASE) != 0] = _Unwind_GetCFA(context) == frame_of_the_call;
	if (actions & _UA_SEARCH_PHASE)
		return _URC_HANDLER_FOUND;
	_Unwind_SetIP(context, (uintptr_t)caught_here);
	return _URC_INSTALL_CONTEXT;
}

__asm__(".globl run_from_here\n"
	".type run_from_here, @function\n"
	"run_from_here:\n"
	".cfi_startproc\n"
	".cfi_personality 0x9b, reference\n"
	"push %rbx\n"
	".cfi_adjust_cfa_offset 8\n"
	".cfi_offset rbx, -16\n"
	"mov frame_of_the_call@GOTPCREL(%rip), %rax\n"
	"mov %rsp, (%rax)\n"
	"call *%rdi\n"
	".globl caught_here\n"
	"caught_here:\n"
	"pop %rbx\n"
	".cfi_adjust_cfa_offset -8\n"
	"ret\n"
	".cfi_endproc\n"
	".size run_from_here, . - run_from_here\n"
	".section .data.rel.local, \"aw\"\n"
	".balign 8\n"
	"reference: .quad by_address\n"
	".text\n");

int main(void)
{
	for (int i = 0; i < 3; i++) {
		run_from_here(raises);
		printf("searching %d, catching %d\n", is_right[0], is_right[1]);
	}
	return 0;
}
