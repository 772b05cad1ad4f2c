/* 50,000 probes are registered and unregistered, several times: the memory they take is given back, and
 * the next round takes no more than the last. Without arguments it only has the functions.
 *   many_probes ROUNDS
 */
#include "handlers.h"
#include <unistd.h>

#define COUNT 50000

__asm__(".text\n.altmacro\n"
	".macro function n\n"
	".globl fn_\\n\n.type fn_\\n, @function\n"
	"fn_\\n: push %rbp; mov %rsp, %rbp; lea \\n(%rdi), %rax; pop %rbp; ret\n"
	".size fn_\\n, . - fn_\\n\n.p2align 4\n"
	".endm\n"
	".set i, 0\n.rept 50000\nfunction %i\n.set i, i + 1\n.endr\n.noaltmacro\n");
long fn_4711(long);

static struct uprobe probes[COUNT], *pointers[COUNT];
static char names[COUNT][12];
static int nothing(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }

static long resident(void)
{
	long pages = -1;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%*d %ld", &pages) != 1)
		exit(2);
	fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 0, falls = 1, grows = 0;
	unsigned long hits = 0;
	long first = 0;
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < COUNT; i++) {
			snprintf(names[i], sizeof names[i], "fn_%d", i);
			memset(&probes[i], 0, sizeof probes[i]);
			probes[i].symbol_name = names[i];
			probes[i].pre_handler = nothing;
			pointers[i] = &probes[i];
		}
		MUST(register_uprobes(pointers, COUNT));
		if (fn_4711(1) != 4712)
			exit(3);
		long armed = resident();
		MUST(unregister_uprobes(pointers, COUNT));
		fn_4711(1);
		hits += probes[4711].nhit;
		long after = resident();
		/* The second round still finds other stretches free than the first; from then on it is always the same. */
		if (round <= 1)
			first = after;
		falls &= after < armed - 80 * COUNT;
		grows |= after > first + first / 16;
		fprintf(stderr, "%ld armed, %ld after\n", armed, after);
	}
	printf("%lu of %d hits; falls: %s; grows: %s\n", hits, rounds, falls ? "yes" : "no", grows ? "yes" : "no");
	return 0;
}
