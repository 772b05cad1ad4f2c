/* Loads and unloads a library, or registers and unregisters probes, again and again: what is mapped for
 * code that was displaced must not grow with it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "uprobe.h"

/* Bytes that are executable and come from no file. */
static unsigned long displaced(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long sum = 0, from, to;
	char line[512], access[8], rest[400];

	while (fgets(line, sizeof line, maps)) {
		rest[0] = 0;
		sscanf(line, "%lx-%lx %7s %*s %*s %*s %399s", &from, &to, access, rest);
		if (access[2] == 'x' && rest[0] == 0)
			sum += to - from;
	}
	fclose(maps);
	return sum;
}

__attribute__((noinline)) int work(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static int on_return(struct uretprobe_instance *instance, struct uprobe_regs *regs)
{
	(void)instance;
	(void)regs;
	return 0;
}

static int on_entry(struct uprobe *probe, struct uprobe_regs *regs)
{
	(void)probe;
	(void)regs;
	return 0;
}

static struct uprobe entry = { .symbol_name = "work", .pre_handler = on_entry };
static struct uretprobe ret = { .up = { .symbol_name = "work" }, .handler = on_return };

static int round_of(const char *library, int i)
{
	int bad = 0;

	if (library) {
		void *handle = dlopen(library, RTLD_NOW);
		long (*function)(long) = handle ? (long (*)(long))dlsym(handle, "plugged_work") : NULL;

		if (!function)
			return 1;
		function(i);
		return dlclose(handle);
	}
	bad += register_uprobe(&entry) != 0;
	bad += work(i) != i + 1;
	bad += register_uretprobe(&ret) != 0;
	bad += work(i) != i + 1;
	unregister_uprobe(&entry);
	bad += work(i) != i + 1;
	bad += entry.nhit != 2 || ret.up.nhit != 2;
	unregister_uretprobe(&ret);
	return bad;
}

int main(int argc, char **argv)
{
	const char *library = argc > 1 ? argv[1] : NULL;
	unsigned long first = 0;
	int bad = 0;

	for (int i = 0; i < 400; i++) {
		bad += round_of(library, i);
		if (i == 20)
			first = displaced();
	}
	printf("bad %d grown %ld\n", bad, (long)(displaced() - first));
	return bad != 0;
}
