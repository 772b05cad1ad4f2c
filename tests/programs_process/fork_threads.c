/* Forks while other threads are inside handlers, register and unregister, load and unload a library, list the
 * objects, raise exceptions' kind of questions: each child does all of it too, and none waits for ever.
 * fork_threads FORKS LIBRARY */
#include "ways.h"
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <uprobe.h>

static atomic_int stop, handled, failures;
static const char *library;

FUNCTION int other(int a) { KEEP(); return a + 2; }
FUNCTION int childs(int a) { KEEP(); return a + 3; }

static int on_work(struct uprobe *p, struct uprobe_regs *regs)
{
	(void)p; (void)regs;
	atomic_fetch_add(&handled, 1);
	return 0;
}
static void failed(const char *what, long result)
{
	atomic_fetch_add(&failures, 1);
	dprintf(1, "%s: %ld\n", what, result);
}

static void *calls(void *unused)
{
	while (!stop)
		work(1);
	return unused;
}
static void come_and_go(struct uprobe *probe)
{
	int result = register_uprobe(probe);

	if (result != 0)
		failed("register", result);
	else if ((result = unregister_uprobe(probe)) != 0)
		failed("unregister", result);
}
static void *registers(void *unused)
{
	struct uprobe probe = { .symbol_name = "other", .pre_handler = on_work };

	while (!stop)
		come_and_go(&probe);
	return unused;
}
static int load(void)
{
	void *handle = dlopen(library, RTLD_NOW);
	int (*function)(int) = handle ? (int (*)(int))dlsym(handle, "plugged_work") : NULL;

	if (!function)
		return -1;
	function(1);
	return dlclose(handle);
}
static void *loads(void *unused)
{
	while (!stop)
		if (load() != 0)
			failed("dlopen", 0);
	return unused;
}
static int on_object(struct dl_phdr_info *info, size_t size, void *count)
{
	(void)info; (void)size;
	++*(int *)count;
	return 0;
}
static void *lists(void *unused)
{
	while (!stop) {
		int count = 0;

		dl_iterate_phdr(on_object, &count);
	}
	return unused;
}

/* What a child can do in its one thread without us, it can with us; and registering is one thing more. The lock
 * that dl_iterate_phdr takes is not the child's where another thread held it: libc's own calls wait there then. */
static int in_child(int loads_too)
{
	struct uprobe probe = { .symbol_name = "childs", .pre_handler = on_work };
	int before = handled;

	alarm(60);
	for (int i = 0; i < 3; i++)
		work(i);
	if (handled != before + 3)
		return 10;
	if (register_uprobe(&probe) != 0)
		return 11;
	childs(1);
	if (handled != before + 4)
		return 12;
	if (unregister_uprobe(&probe) != 0)
		return 13;
	if (loads_too && load() != 0)
		return 14;
	return 0;
}

int main(int argc, char **argv)
{
	static void *(*const bodies[])(void *) = { calls, registers, registers, loads, lists };
	enum { THREADS = sizeof bodies / sizeof *bodies };
	struct uprobe probe = { .symbol_name = "work", .pre_handler = on_work };
	int forks = argc > 1 ? atoi(argv[1]) : 1000, wrong = 0;
	pthread_t threads[THREADS];

	library = argv[2];
	if (!UPROBE_AVAILABLE() || register_uprobe(&probe) != 0)
		return 99;
	for (int i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, bodies[i], NULL));
	for (int i = 0; i < forks; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(in_child(0));
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			DIE("fork");
		if (status != 0) {
			tell_status("a child", status);
			wrong++;
		}
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("wrong %d failures %d handled %d\n", wrong, (int)failures, handled > 0);
	return wrong != 0;
}
