/* What a return probe can't be; switching it off and on; a batch is all or nothing. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }
FUNCTION long second(long a) { KEEP(); return a + 2; }
int variable = 5;
extern char inside[];
__asm__(".text\n .globl inside\n .type inside, @function\n inside: mov $1, %eax\n mov $2, %ecx\n ret\n"
	".size inside, . - inside\n");

static int called;
static int returned(struct uretprobe_instance *ri, struct uprobe_regs *regs) { (void)ri; (void)regs; called++; return 0; }
static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }
static void fine_post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe; (void)regs; (void)flags;
}
static void say(const char *what, int error) { printf("%s: %s\n", what, error_name(error)); }
static void try(const char *what, struct uretprobe probe)
{
	int error = register_uretprobe(&probe);
	say(what, error);
	if (error == 0)
		say("  unregister", unregister_uretprobe(&probe));
}
static void call_both(void)
{
	long sum = target(1) + second(1);
	printf("%ld, called %d\n", sum, called);
}

int main(void)
{
	NEED_LIBRARY();
	try("no handler", (struct uretprobe){ .up = PROBE(target) });
	try("only an entry_handler", (struct uretprobe){ .up = PROBE(target), .entry_handler = returned });
	try("a pre_handler", (struct uretprobe){ .up = PROBE(target, .pre_handler = fine), .handler = returned });
	try("a post_handler", (struct uretprobe){ .up = PROBE(target, .post_handler = fine_post), .handler = returned });
	try("too much data", (struct uretprobe){ .up = PROBE(target), .handler = returned, .data_size = UPROBE_MAX_DATA_SIZE + 1 });
	try("the most data", (struct uretprobe){ .up = PROBE(target), .handler = returned, .data_size = UPROBE_MAX_DATA_SIZE });
	try("negative maxactive", (struct uretprobe){ .up = PROBE(target), .handler = returned, .maxactive = -1 });
	try("no such symbol", (struct uretprobe){ .up = PROBE(no_such_function), .handler = returned });
	try("data", (struct uretprobe){ .up = PROBE(variable), .handler = returned });
	try("the second instruction", (struct uretprobe){ .up = PROBE(inside, .offset = 5), .handler = returned });
	try("its address", (struct uretprobe){ .up = { .addr = inside + 5 }, .handler = returned });
	try("the address of a function", (struct uretprobe){ .up = { .addr = ENTRY(target) }, .handler = returned });
	try("dlopen", (struct uretprobe){ .up = { .pathname = "libc.so.6", .symbol_name = "dlopen" }, .handler = returned });
	say("NULL", register_uretprobe(NULL));
	say("unregister NULL", unregister_uretprobe(NULL));
	struct uretprobe a = { .up = PROBE(target), .handler = returned };
	struct uretprobe b = { .up = PROBE(second), .handler = returned }, bad = { .up = PROBE(second) };
	struct uretprobe *all[] = { &a, &b, &bad }, *twice[] = { &a, &a };
	say("none", register_uretprobes(all, 0));
	say("one twice", register_uretprobes(twice, 2));
	say("with a bad one", register_uretprobes(all, 3));
	call_both();
	say("two", register_uretprobes(all, 2));
	say("again", register_uretprobe(&a));
	printf("found at target: %d\n", a.up.addr == ENTRY(target));
	call_both();
	say("disable", disable_uprobe(&a.up));
	printf("flag %d\n", (a.up.flags & UPROBE_FLAG_DISABLED) != 0);
	call_both();
	say("enable", enable_uprobe(&a.up));
	call_both();
	say("unregister", unregister_uretprobes(all, 2));
	say("again", unregister_uretprobe(&a));
	call_both();
	printf("hits %llu %llu\n", (unsigned long long)a.up.nhit, (unsigned long long)b.up.nhit);
	struct uretprobe off = { .up = PROBE(target, .flags = UPROBE_FLAG_DISABLED), .handler = returned };
	say("registered disabled", register_uretprobe(&off));
	call_both();
	say("unregister", unregister_uretprobe(&off));
	return 0;
}
