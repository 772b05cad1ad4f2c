/*
 * arguments: what a function of libc was called with, by code that knows nothing of it.
 *
 * You will see which variables the program asks getenv for. Reading a string that the program
 * passed can't crash: uprobe_read_string stops where the memory ends.
 *
 *     gcc -I include -rdynamic c-examples/arguments.c -o arguments
 *     LD_PRELOAD=target/release/libuprobe.so ./arguments
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uprobe.h>

#define ROOM 8
static char asked[ROOM][32];
static unsigned count;

static int on_getenv(struct uprobe *probe, struct uprobe_regs *regs)
{
	unsigned mine = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
	(void)probe;
	if (mine < ROOM)
		uprobe_read_string(asked[mine], (const void *)uprobe_arg(regs, 1), sizeof asked[mine]);
	return 0;
}

int main(void)
{
	struct uprobe probe = { .pathname = "libc.so.6", .symbol_name = "getenv", .pre_handler = on_getenv };
	int error = register_uprobe(&probe);
	if (error != 0) {
		fprintf(stderr, "register_uprobe: %s\n", strerror(-error));
		return 1;
	}
	const char *names[] = { "HOME", "A_NAME_LONGER_THAN_THE_THIRTY_TWO_BYTES_KEPT", "PATH" };
	int found = 0;
	for (int i = 0; i < 3; i++)
		found += getenv(names[i]) != NULL;
	unregister_uprobe(&probe);
	for (unsigned i = 0; i < count && i < ROOM; i++)
		printf("getenv(\"%s\")\n", asked[i]);
	return found == 3;
}
