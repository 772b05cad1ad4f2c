/* Faults of instructions that a jump displaces: first, second, ... fifth of them. What the program's handler is
 * told, and what comes of repairing, skipping and leaving, is the same before and after the probes. */
#include "handlers.h"
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* rdi: memory to write to, or a divisor. Each returns rdi + rcx, rcx being 5 unless it was changed. */
__asm__(".macro faulty before, kind:req, insn:vararg\n"
	"  .balign 16\n  .type faulty_\\@, @function\nfaulty_\\@:\n"
	"  .rept \\before\n    nop\n  .endr\n"
	"7:\n  \\insn\n8:\n  lea (%rdi,%rcx), %rax\n  ret\n  .size faulty_\\@, . - faulty_\\@\n"
	"  .pushsection .data.rel.ro.faulty, \"aw\"\n  .quad faulty_\\@, 7b, 8b, \\kind\n  .popsection\n.endm\n"
	".pushsection .data.rel.ro.faulty, \"aw\"\n.balign 8\nfaulty_table:\n.popsection\n"
	".pushsection .text.faulty, \"ax\"\n"
	".irp before, 0, 1, 2, 3, 4\n"
	"  faulty \\before, 0, mov %rdx, (%rdi)\n  faulty \\before, 0, movb $1, (%rdi)\n"
	"  faulty \\before, 0, lock incl 8(%rdi)\n  faulty \\before, 0, movups %xmm0, (%rdi)\n"
	"  faulty \\before, 0, add (%rdi), %r8d\n  faulty \\before, 0, push (%rdi); pop %r9\n"
	"  faulty \\before, 1, div %edi\n  faulty \\before, 2, ud2\n  faulty \\before, 2, .byte 0x0f, 0xff, 0xc0\n"
	"  faulty \\before, 3, call *(%rdi)\n"
	".endr\n.popsection\n"
	".pushsection .data.rel.ro.faulty, \"aw\"\nfaulty_table_end:\n.popsection\n"
	".pushsection .text\n.globl call_faulty\n.type call_faulty, @function\ncall_faulty:\n"
	"  mov %rdi, %r10\n  mov %rsi, %rdi\n  mov $5, %ecx\n  xor %edx, %edx\n  mov $77, %eax\n  jmp *%r10\n"
	".size call_faulty, . - call_faulty\n.popsection\n");
struct faulty { char *start, *insn, *next; long kind; };
extern const struct faulty faulty_table[], faulty_table_end[];
long call_faulty(void *place, uint64_t rdi);

enum { REPAIR, SKIP, LEAVE, WAYS };
struct seen { long signal, code, trap, rip, address, rdi, result, faults; };
static volatile struct seen now;
static const struct faulty *volatile current;
static volatile int way;
static sigjmp_buf out;
static uint64_t good[4];
static void fine(void) {}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	now.signal = signal;
	now.code = info->si_code;
	now.trap = regs[REG_TRAPNO];
	now.rip = (char *)(uintptr_t)regs[REG_RIP] - current->start;
	now.address = (intptr_t)info->si_addr;
	if ((char *)info->si_addr >= current->start && (char *)info->si_addr < current->next)
		now.address = (char *)info->si_addr - current->start;
	now.rdi = regs[REG_RDI];
	if (++now.faults > 1)
		_exit(3);
	if (way == LEAVE)
		siglongjmp(out, 1);
	if (way == REPAIR && current->kind != 2)
		regs[REG_RDI] = current->kind == 1 ? 7 : (greg_t)(uintptr_t)good;
	else {
		regs[REG_RIP] = (greg_t)(uintptr_t)current->next;
		regs[REG_RCX] += 100;
	}
}

static struct seen once(const struct faulty *f, int how)
{
	current = f;
	way = how;
	now = (struct seen){ 0 };
	good[0] = (uint64_t)(uintptr_t)fine;
	good[1] = 0;
	long result = -1;
	if (sigsetjmp(out, 1) == 0)
		result = call_faulty(f->start, f->kind == 1 ? 0 : 64);
	struct seen s = now;
	s.result = result - (long)(s.faults && how == REPAIR && f->kind != 2 && f->kind != 1 ? (intptr_t)good : 0);
	return s;
}

static unsigned long hits;
static int count(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; hits++; return 0; }

int main(void)
{
	NEED_LIBRARY();
	static struct seen before[256][WAYS];
	static struct uprobe probes[256];
	long n = faulty_table_end - faulty_table, wrong = 0, jumps = 0;
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	MUST(sigaction(SIGSEGV, &action, NULL));
	MUST(sigaction(SIGFPE, &action, NULL));
	MUST(sigaction(SIGILL, &action, NULL));
	MUST(sigaction(SIGBUS, &action, NULL));
	for (long i = 0; i < n; i++)
		for (int how = 0; how < WAYS; how++)
			before[i][how] = once(&faulty_table[i], how);
	for (long i = 0; i < n; i++) {
		probes[i].addr = faulty_table[i].start;
		probes[i].pre_handler = count;
		REGISTER(&probes[i]);
		jumps += (probes[i].flags & UPROBE_FLAG_OPTIMIZED) != 0;
	}
	for (long i = 0; i < n; i++)
		for (int how = 0; how < WAYS; how++) {
			struct seen after = once(&faulty_table[i], how), *b = &before[i][how];
			if (memcmp(&after, b, sizeof after) == 0)
				continue;
			wrong++;
			printf("%ld, insn at %ld, kind %ld, way %d: signal %ld %ld, code %ld %ld, trap %ld %ld, rip %ld %ld, address %ld %ld, rdi %ld %ld, result %ld %ld, faults %ld %ld\n",
			       i, (long)(faulty_table[i].insn - faulty_table[i].start), faulty_table[i].kind, how, b->signal, after.signal, b->code, after.code, b->trap,
			       after.trap, b->rip, after.rip, b->address, after.address, b->rdi, after.rdi, b->result,
			       after.result, b->faults, after.faults);
		}
	printf("wrong %ld, hits %s\n", wrong, hits == (unsigned long)n * WAYS ? "right" : "wrong");
	fprintf(stderr, "jumps %ld of %ld\n", jumps, n);
	return 0;
}
