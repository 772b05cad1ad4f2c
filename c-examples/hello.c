/*
 * hello: a probe at the entry of one of this program's own functions.
 *
 * You will see a line from the handler before each line of the function, and at the end how
 * often the probe was hit.
 *
 *     gcc -I include -rdynamic c-examples/hello.c -o hello
 *     LD_PRELOAD=target/release/libuprobe.so ./hello
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uprobe.h>

__attribute__((noinline)) void greet(const char *whom)
{
	printf("hello, %s\n", whom);
	fflush(stdout);
}

/* A handler runs under the rules of a signal handler: write(2), not printf. */
static int on_greet(struct uprobe *probe, struct uprobe_regs *regs)
{
	static const char text[] = "greet is about to run\n";
	(void)probe;
	(void)regs;
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		return 0; /* nothing to be done about it here */
	return 0;
}

int main(void)
{
	struct uprobe probe = { .symbol_name = "greet", .pre_handler = on_greet };
	int error = register_uprobe(&probe);
	if (error != 0) {
		fprintf(stderr, "register_uprobe: %s\n", strerror(-error));
		return 1;
	}
	greet("world");
	greet("probe");
	unregister_uprobe(&probe);
	greet("nobody");
	printf("greet was hit %llu times\n", (unsigned long long)probe.nhit);
	return 0;
}
