/* A jprobe copies arguments from the stack, which may end right behind the return address. */
#include "handlers.h"
#include <sys/mman.h>
#include <ucontext.h>

FUNCTION long target(long a) { KEEP(); return a + 1; }

static long seen, result;
static char *end;
static ucontext_t home;

static long entry(long a) { seen += a; return 0; }
/* Calls target(a) with rsp at the end of the mapping but for the call's own eight bytes. */
long call_at_end(long a, char *stack);
__asm__(".text\n .globl call_at_end\n .type call_at_end, @function\n"
	"call_at_end: push %rbp\n mov %rsp, %rbp\n mov %rsi, %rsp\n call target\n mov %rbp, %rsp\n pop %rbp\n ret\n"
	" .size call_at_end, . - call_at_end\n");
static void coroutine(void) { result += target(20); }

int main(void)
{
	enum { SIZE = 256 << 10 };
	NEED_LIBRARY();
	struct ujprobe probe = { .up = PROBE(target), .entry = ENTRY(entry) };
	ucontext_t other;
	char *stack = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED)
		DIE("mmap");
	end = stack + SIZE;
	MUST(mprotect(end, 4096, PROT_NONE));
	REGISTER_AS(ujprobe, &probe);
	result = call_at_end(10, end);
	MUST(getcontext(&other));
	other.uc_stack.ss_sp = stack;
	other.uc_stack.ss_size = SIZE;
	other.uc_link = &home;
	makecontext(&other, coroutine, 0);
	MUST(swapcontext(&home, &other));
	UNREGISTER_AS(ujprobe, &probe);
	printf("result %ld, seen %ld\n", result, seen);
	return 0;
}
