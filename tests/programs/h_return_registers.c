/* A return probe's handlers use every register there is, and the program finds all of its own as they
 * were: h_return_registers ROUNDS. */
#include "registers.h"
#include "handlers.h"
#include <math.h>

static long entries, returns, other;
static volatile double number = 2;
static int highest;

/* Whatever compiled code may leave behind. */
#define USED "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory", \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
	"xmm12", "xmm13", "xmm14", "xmm15"

static void use_everything(void)
{
	char text[200];
	if (highest >= 2)
		__asm__ volatile(
			".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
			"vpternlogd $0xff, %%zmm\\n, %%zmm\\n, %%zmm\\n\n.endr\n"
			".irp n, 0,1,2,3,4,5,6,7\nkxnorw %%k\\n, %%k\\n, %%k\\n\n.endr\n" ::: USED);
	else if (highest == 1)
		__asm__ volatile("vzeroall" ::: USED);
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0\npcmpeqd %%xmm15, %%xmm15\n"
			 "xor %%eax, %%eax\nmov $-1, %%r11\nmov %%r11, %%r10\nmov %%r11, %%r8\n" ::: USED);
	/* x87 and SSE arithmetic, vector string functions, conversions of stdio. */
	long double x87 = (long double)number;
	__asm__ volatile("fldpi\nfmulp" : "+t"(x87));
	number = sin(number) * sqrt(number + 5) + (double)x87;
	snprintf(text, sizeof text, "%Lf %f %s %d", x87, number, "some text", 7);
	memset(text, (int)strlen(text), sizeof text);
	errno = 1234;
	__asm__ volatile("fninit" ::: "memory");
}
static int at_entry(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	uint64_t *data = uprobe_instance_data(ri);
	(void)regs;
	use_everything();
	data[0] = (uint64_t)++entries;
	data[3] = ~data[0];
	return 0;
}
static int at_the_return(struct uretprobe_instance *ri, struct uprobe_regs *regs)
{
	const uint64_t *data = uprobe_instance_data(ri);
	if (data[3] != ~data[0] || regs->rsp != ri->slot + 8 || regs->rip != ri->ret_addr ||
	    regs->rax != at_return.gpr[RAX] || regs->r15 != at_return.gpr[R15])
		other++;
	use_everything();
	returns++;
	return 0;
}

#define PROBE_FILLED(name, level) { .up = PROBE(filled_##name), .handler = at_the_return, \
	.entry_handler = at_entry, .data_size = 32 },
static struct uretprobe probes[] = { FILLED(PROBE_FILLED) };
#define COUNT (sizeof probes / sizeof *probes)

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100;
	NEED_LIBRARY();
	highest = highest_level();
	for (size_t i = 0; i < COUNT; i++) {
		int error = register_uretprobe(&probes[i]);
		if (error)
			printf("%s: %s\n", probes[i].up.symbol_name, strerror(-error));
	}
	errno = 7;
	try_all(rounds);
	uint64_t hits = 0, missed = 0;
	for (size_t i = 0; i < COUNT; i++) {
		hits += probes[i].up.nhit;
		missed += probes[i].nmissed;
		if (unregister_uretprobe(&probes[i]) != 0)
			puts("it can't be unregistered");
	}
	int wanted = rounds * (int)COUNT;
	if (highest < 2)
		wanted -= rounds * (highest == 1 ? 3 : 6);
	printf("entries %s, returns %s, hits %s, missed %d, otherwise %ld, errno %d\n",
	       entries == wanted ? "all" : "not all", returns == wanted ? "all" : "not all",
	       hits == (uint64_t)wanted ? "all" : "not all", (int)missed, other, errno);
	return 0;
}
