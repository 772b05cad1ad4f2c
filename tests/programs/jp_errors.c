/* What a jprobe can't be; switching it off and on; a batch is all or nothing. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long second(long a) { KEEP(); return a + 2; }
int variable = 5;
extern char inside[];
__asm__(".text\n .globl inside\n .type inside, @function\n inside: mov $1, %eax\n mov $2, %ecx\n ret\n"
	".size inside, . - inside\n");

static int called;
static long entry(long a) { called++; return a; }
static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void fine_post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
}
static void try(const char *what, struct ujprobe probe)
{
	int error = register_ujprobe(&probe);
	printf("%s: %s\n", what, error_name(error));
	if (error == 0)
		printf("  unregister: %s\n", error_name(unregister_ujprobe(&probe)));
}

static void call_both(void)
{
	long sum = target(1) + second(1);
	printf("%ld, called %d\n", sum, called);
}
static void say(const char *what, int error) { printf("%s: %s\n", what, error_name(error)); }

int main(void)
{
	NEED_LIBRARY();
	try("no entry", (struct ujprobe){ .up = PROBE(target) });
	try("a pre_handler", (struct ujprobe){ .up = PROBE(target, .pre_handler = fine), .entry = ENTRY(entry) });
	try("a post_handler", (struct ujprobe){ .up = PROBE(target, .post_handler = fine_post), .entry = ENTRY(entry) });
	try("no such symbol", (struct ujprobe){ .up = PROBE(no_such_function), .entry = ENTRY(entry) });
	try("data", (struct ujprobe){ .up = PROBE(variable), .entry = ENTRY(entry) });
	try("the second instruction", (struct ujprobe){ .up = PROBE(inside, .offset = 5), .entry = ENTRY(entry) });
	try("its address", (struct ujprobe){ .up = { .addr = inside + 5 }, .entry = ENTRY(entry) });
	try("inside an instruction", (struct ujprobe){ .up = PROBE(inside, .offset = 2), .entry = ENTRY(entry) });
	try("the address of a function", (struct ujprobe){ .up = { .addr = ENTRY(target) }, .entry = ENTRY(entry) });
	say("NULL", register_ujprobe(NULL));
	say("unregister NULL", unregister_ujprobe(NULL));
	struct ujprobe a = { .up = PROBE(target), .entry = ENTRY(entry) };
	struct ujprobe b = { .up = PROBE(second), .entry = ENTRY(entry) }, bad = { .up = PROBE(second) };
	struct ujprobe *all[] = { &a, &b, &bad }, *twice[] = { &a, &a };
	say("none", register_ujprobes(all, 0));
	say("one twice", register_ujprobes(twice, 2));
	say("with a bad one", register_ujprobes(all, 3));
	call_both();
	say("two", register_ujprobes(all, 2));
	say("again", register_ujprobe(&a));
	call_both();
	say("disable", disable_uprobe(&a.up));
	call_both();
	say("enable", enable_uprobe(&a.up));
	call_both();
	say("unregister", unregister_ujprobes(all, 2));
	say("again", unregister_ujprobe(&a));
	call_both();
	return 0;
}
