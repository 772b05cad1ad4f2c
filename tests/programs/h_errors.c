/* What can't be registered says why, and nothing is printed by the library itself. */
#include "handlers.h"

FUNCTION long target(long a) { KEEP(); return a + 1; }
int variable = 5;
static const char constant[64] = "not code";
extern char foreign[], inside[];
/* mov $imm32, %eax: five bytes; then an int3 of the program's own. */
__asm__(".text\n .globl foreign, inside\n .type inside, @function\n inside: mov $1, %eax\n foreign: int3\n ret\n"
	".size inside, . - inside\n");

static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }

static const char *name(int error)
{
	switch (-error) {
	case 0: return "0";
	case ENOENT: return "-ENOENT";
	case EINVAL: return "-EINVAL";
	case EILSEQ: return "-EILSEQ";
	case EBUSY: return "-EBUSY";
	case ERANGE: return "-ERANGE";
	case EFAULT: return "-EFAULT";
	default: return strerror(-error);
	}
}
static void try(const char *what, struct uprobe probe)
{
	probe.pre_handler = fine;
	int error = register_uprobe(&probe);
	printf("%s: %s\n", what, name(error));
	if (error == 0)
		printf("  unregister: %s\n", name(unregister_uprobe(&probe)));
}

int main(void)
{
	NEED_LIBRARY();
	struct uprobe never = PROBE(target);
	printf("before the first call: %s", name(unregister_uprobe(&never)));
	printf(" %s", name(enable_uprobe(&never)));
	printf(" %s", name(disable_uprobe(&never)));
	printf(" %s\n", name(uprobe_sync(&never)));
	try("no such symbol", (struct uprobe){ .symbol_name = "no_such_function" });
	try("no such symbol in libc", (struct uprobe){ .pathname = "libc.so.6", .symbol_name = "no_such_function" });
	try("data", (struct uprobe){ .symbol_name = "variable" });
	try("inside an instruction", (struct uprobe){ .symbol_name = "inside", .offset = 2 });
	try("its own int3", (struct uprobe){ .symbol_name = "inside", .offset = 5 });
	try("beyond the function", (struct uprobe){ .symbol_name = "inside", .offset = 0x100000 });
	try("an address inside an instruction", (struct uprobe){ .addr = (char *)(uintptr_t)inside + 2 });
	try("an address of data", (struct uprobe){ .addr = (void *)(uintptr_t)constant });
	try("an address of nothing", (struct uprobe){ .addr = (void *)8 });
	try("a place in the library itself", (struct uprobe){ .addr = (void *)(uintptr_t)unregister_uprobe });
	try("nothing said", (struct uprobe){ .symbol_name = NULL });
	printf("NULL: %s\n", name(register_uprobe(NULL)));
	printf("unregister NULL: %s\n", name(unregister_uprobe(NULL)));
	struct uprobe twice = PROBE(target, .pre_handler = fine);
	printf("once: %s\n", name(register_uprobe(&twice)));
	printf("twice: %s\n", name(register_uprobe(&twice)));
	target(1);
	printf("hits %llu\n", (unsigned long long)twice.nhit);
	printf("unregister: %s\n", name(unregister_uprobe(&twice)));
	printf("unregister again: %s\n", name(unregister_uprobe(&twice)));
	struct uprobe wiped = PROBE(target, .pre_handler = fine), clean = wiped;
	register_uprobe(&wiped);
	wiped = clean; /* which the header forbids */
	printf("written over, and again: %s\n", name(register_uprobe(&wiped)));
	printf("unregister: %s\n", name(unregister_uprobe(&wiped)));
	printf("disable: %s\n", name(disable_uprobe(&twice)));
	printf("enable: %s\n", name(enable_uprobe(&twice)));
	struct uprobe off = PROBE(target, .pre_handler = fine, .flags = UPROBE_FLAG_DISABLED);
	printf("registered disabled: %s\n", name(register_uprobe(&off)));
	target(1);
	printf("hits %llu, flag %d\n", (unsigned long long)off.nhit, (off.flags & UPROBE_FLAG_DISABLED) != 0);
	printf("enable: %s\n", name(enable_uprobe(&off)));
	target(1);
	printf("hits %llu, flag %d\n", (unsigned long long)off.nhit, (off.flags & UPROBE_FLAG_DISABLED) != 0);
	UNREGISTER(&off);
	/* An object that isn't loaded yet is no error: the probe waits. */
	struct uprobe later = { .pathname = "libz.so.1", .symbol_name = "crc32", .pre_handler = fine };
	int status = register_uprobe(&later);
	printf("not loaded: %s, pending %d\n", name(status), (later.flags & UPROBE_FLAG_PENDING) != 0);
	printf("unregister: %s\n", name(unregister_uprobe(&later)));
	return 0;
}
