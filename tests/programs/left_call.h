/* A call of qsort that is under way for ever, on a stack that is gone: what looks at it faults. */
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

static ucontext_t outside, inside;

static int leave(const void *a, const void *b)
{
	(void)a;
	(void)b;
	swapcontext(&inside, &outside);
	return 0;
}

static void sort(void)
{
	int numbers[] = { 2, 1 };
	qsort(numbers, 2, sizeof *numbers, leave);
}

static void leave_a_call(void)
{
	size_t size = 65536;
	char *other = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	getcontext(&inside);
	inside.uc_stack = (stack_t){ .ss_sp = other, .ss_size = size };
	makecontext(&inside, sort, 0);
	swapcontext(&outside, &inside);
	munmap(other, size);
}
