/* register_uprobes is all or nothing. */
#include "handlers.h"

FUNCTION long one(long a) { KEEP(); return a + 1; }
FUNCTION long two(long a) { KEEP(); return a + 2; }

static int fine(struct uprobe *probe, struct uprobe_regs *regs) { (void)probe; (void)regs; return 0; }

int main(void)
{
	NEED_LIBRARY();
	struct uprobe a = PROBE(one, .pre_handler = fine), b = PROBE(two, .pre_handler = fine);
	struct uprobe missing = PROBE(no_such_function, .pre_handler = fine);
	struct uprobe *all[] = { &a, &b, &missing };
	printf("with a bad one: %s\n", strerror(-register_uprobes(all, 3)));
	one(1);
	two(1);
	printf("hits %llu %llu\n", (unsigned long long)a.nhit, (unsigned long long)b.nhit);
	printf("none is registered: %s\n", strerror(-unregister_uprobe(&a)));
	printf("two good ones: %d\n", register_uprobes(all, 2));
	one(1);
	two(1);
	two(1);
	printf("hits %llu %llu\n", (unsigned long long)a.nhit, (unsigned long long)b.nhit);
	printf("unregister: %d\n", unregister_uprobes(all, 2));
	one(1);
	printf("hits %llu %llu\n", (unsigned long long)a.nhit, (unsigned long long)b.nhit);
	printf("none: %s\n", strerror(-register_uprobes(all, 0)));
	struct uprobe *twice[] = { &a, &a };
	printf("one twice: %s\n", strerror(-register_uprobes(twice, 2)));
	one(1);
	return 0;
}
