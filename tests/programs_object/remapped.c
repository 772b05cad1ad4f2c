/* The program changes its own text, and that of a library under probes: with its own bytes, or with something
 * else altogether, which must stay as it is. remapped LIBRARY */
#include "check.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uprobe.h>

#define PAGE 4096UL
static int handled;
static int on_hit(struct uprobe *p, struct uprobe_regs *regs) { (void)p; (void)regs; handled++; return 0; }
static int on_return(struct uretprobe_instance *i, struct uprobe_regs *regs) { (void)i; (void)regs; return 0; }
void counted(int what, int n) { (void)what; (void)n; }

static int (*work)(int);
static void *handle;
static const char *library;

static char *page(void) { return (char *)((unsigned long)work & ~(PAGE - 1)); }

/* Where the page of text is in the file. */
static off_t page_offset;

static void load(void)
{
	unsigned long from, to, offset, at;
	FILE *maps;
	char line[300];

	handle = dlopen(library, RTLD_NOW);
	work = handle ? (int (*)(int))dlsym(handle, "busy_work") : NULL;
	if (!work)
		exit(98);
	at = (unsigned long)page();
	maps = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx %*s %lx", &from, &to, &offset) == 3 && from <= at && at < to)
			page_offset = (off_t)(offset + (at - from));
	fclose(maps);
}
static struct uprobe *probe_new(void)
{
	struct uprobe *probe = calloc(1, sizeof *probe);

	probe->pathname = library;
	probe->symbol_name = "busy_work";
	probe->pre_handler = on_hit;
	MUST(register_uprobe(probe));
	handled = 0;
	return probe;
}
/* The pages of text, copied into memory without a file and moved over themselves: what programs do that want
 * huge pages for it. */
static void moved_over_itself(void)
{
	struct uprobe *probe = probe_new();
	char *at = page();
	char *copy = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	work(1);
	memcpy(copy, at, PAGE);
	mprotect(copy, PAGE, PROT_READ | PROT_EXEC);
	if (mremap(copy, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
		DIE("mremap");
	work(2);
	printf("moved over itself: %d", handled);
	MUST(unregister_uprobe(probe));
	printf(" then %d %d\n", work(3), handled);
	probe = probe_new();
	work(4);
	printf("  again: %d\n", handled);
	MUST(unregister_uprobe(probe));
}

/* The file mapped again, over itself: nothing of ours is there any more. */
static void mapped_again(void)
{
	struct uprobe *probe = probe_new();
	char *at = page();
	int fd = open(library, O_RDONLY);

	work(1);
	if (mmap(at, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, page_offset) != at)
		DIE("mmap");
	close(fd);
	work(2);
	printf("mapped again: %d", handled);
	MUST(unregister_uprobe(probe));
	printf(" then %d\n", work(3));
	probe = probe_new();
	work(4);
	printf("  again: %d\n", handled);
	MUST(unregister_uprobe(probe));
}

/* Something else is there when the probe goes: it stays as it is, byte by byte. */
static void something_else(int return_probe, int again, int which)
{
	struct uretprobe *ret = calloc(1, sizeof *ret);
	struct uprobe *probe = NULL;
	char *at = page(), filling = "\x5a\xcc\xe9"[which];
	int wrong = 0;

	if (return_probe) {
		ret->up.pathname = library;
		ret->up.symbol_name = "busy_work";
		ret->handler = on_return;
		MUST(register_uretprobe(ret));
	} else {
		probe = probe_new();
	}
	work(1);
	if (mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		DIE("mmap");
	/* It may even look like a breakpoint of ours, or a jump. */
	memset(at, filling, PAGE);
	if (again) {
		MUST(disable_uprobe(return_probe ? &ret->up : probe));
		int result = enable_uprobe(return_probe ? &ret->up : probe);
		(void)result;
	}
	MUST(return_probe ? unregister_uretprobe(ret) : unregister_uprobe(probe));
	for (unsigned long i = 0; i < PAGE; i++)
		wrong += at[i] != filling;
	printf("something else: %d bytes wrong\n", wrong);
	struct uprobe late = { .pathname = library, .symbol_name = "busy_work", .pre_handler = on_hit };
	printf("  probed there: %s\n", register_uprobe(&late) == 0 ? "yes" : "refused");
	for (unsigned long i = 0; i < PAGE; i++)
		wrong += at[i] != filling;
	printf("  %d bytes wrong\n", wrong);
}

/* Nothing is there when it goes. */
static void nothing(void)
{
	struct uprobe *probe = probe_new();

	work(1);
	MUST(munmap(page(), PAGE));
	printf("nothing: %d\n", unregister_uprobe(probe));
}

/* A page that may not be executed for a while, or be read, or is written to elsewhere. */
static void protected(void)
{
	struct uprobe *probe = probe_new();
	char *at = page();

	work(1);
	MUST(mprotect(at, PAGE, PROT_NONE));
	MUST(disable_uprobe(probe));
	MUST(mprotect(at, PAGE, PROT_READ));
	MUST(enable_uprobe(probe));
	MUST(mprotect(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	work(2);
	printf("protected: %d", handled);
	/* Its last byte, which is padding, by the program itself. */
	at[PAGE - 1] ^= 0;
	madvise(at, PAGE, MADV_HUGEPAGE);
	work(3);
	MUST(unregister_uprobe(probe));
	MUST(mprotect(at, PAGE, PROT_READ | PROT_EXEC));
	printf(" %d then %d\n", handled, work(4));
}

/* madvise throws away what is not in the file: our bytes too. */
static void dropped(void)
{
	struct uprobe *probe = probe_new();

	work(1);
	MUST(madvise(page(), PAGE, MADV_DONTNEED));
	work(2);
	printf("dropped: %d", handled);
	MUST(unregister_uprobe(probe));
	printf(" then %d\n", work(3));
	probe = probe_new();
	work(4);
	printf("  again: %d\n", handled);
	MUST(unregister_uprobe(probe));
}

int main(int argc, char **argv)
{
	library = argv[1];
	if (argc < 2 || !UPROBE_AVAILABLE())
		return 99;
	setvbuf(stdout, NULL, _IONBF, 0);
	load();
	protected();
	dropped();
	moved_over_itself();
	mapped_again();
	pid_t (*volatile forks)(void) = fork;
	for (int i = 0; i < 13; i++)
		if (forks() == 0) {
			i < 12 ? something_else(i & 1, (i >> 1) & 1, i >> 2) : nothing();
			_exit(0);
		} else {
			wait(NULL);
		}
	return 0;
}
