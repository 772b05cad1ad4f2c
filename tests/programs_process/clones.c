/* clone, clone3 and unshare in their forms: who shares memory, thread-local data, files, signal handlers;
 * each child runs probed functions, of the program and of libc. */
#include "ways.h"
#include <linux/futex.h>
#include <linux/sched.h>

#define STACK (256 << 10)
static volatile int in_child;
static __thread volatile int own = 5;

static char *self;
static int shares_memory;

static int calls_some(void *argument)
{
	for (int i = 0; i < 10; i++)
		work(i);
	in_child += 10;
	return (int)(long)argument;
}
static int leaves(void *argument)
{
	calls_some(argument);
	_exit((int)(long)argument);
}
static int dies(void *argument)
{
	(void)argument;
	work(1);
	in_child += 1;
	if (!shares_memory)
		LEAVES_NO_REPORT(1);
	raise(SIGKILL);
	return 0;
}
static int aborts(void *argument)
{
	(void)argument;
	work(1);
	in_child += 1;
	abort();
}
static int executes(void *argument)
{
	char *argv[] = { self, "child", NULL };

	(void)argument;
	work(1);
	in_child += 1;
	MADE_ELSEWHERE(1);
	execve(self, argv, environ);
	_exit(99);
}

static void try(const char *what, int (*run)(void *), int flags)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	int before = in_child;
	pid_t pid;

	fflush(stdout);
	shares_memory = (flags & CLONE_VM) != 0;
	pid = clone(run, stack + STACK, flags, (void *)3L);
	tell_end(what, pid);
	printf("    memory %s\n", in_child == before ? "its own" : "shared");
	munmap(stack, STACK);
}

/* A thread as a language's runtime makes it, by the system call: on its own stack, with thread-local data of its
 * own (a copy of ours, which is good enough) or without. */
struct raw {
	int tid;
	char *stack, *tls;
	size_t tls_size;
};
static void raw_body(void)
{
	for (int i = 0; i < 1000; i++)
		work(i);
	__sync_fetch_and_add(&in_child, 1000);
}
static long raw_clone(unsigned long flags, void *stack, void *tls, int *tid)
{
	register int *r10 __asm__("r10") = tid;
	register void *r8 __asm__("r8") = tls;
	register void (*body)(void) __asm__("r12") = raw_body;
	long result;

	__asm__ volatile("syscall\n\t"
			 "test %%eax, %%eax\n\t"
			 "jnz 2f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "call *%%r12\n\t"
			 "xor %%edi, %%edi\n\t"
			 "mov $60, %%eax\n\t"
			 "syscall\n"
			 "2:"
			 : "=a"(result)
			 : "a"((long)SYS_clone), "D"(flags), "S"(stack), "d"(tid), "r"(r10), "r"(r8), "r"(body)
			 : "rcx", "r11", "memory");
	return result;
}
static void raw_threads(int with_tls)
{
	enum { N = 4 };
	struct raw raw[N];

	for (int i = 0; i < N; i++) {
		unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
				      CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID;
		char *tls = NULL;
		char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (with_tls) {
			/* struct pthread and the static thread-local blocks below it, as they are: zeroes there. */
			enum { BELOW = 16384, ABOVE = 4096 };
			char *block = mmap(NULL, BELOW + ABOVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			unsigned long thread_pointer;

			__asm__("mov %%fs:0, %0" : "=r"(thread_pointer));
			tls = block + BELOW;
			memcpy(tls, (void *)thread_pointer, 0x700);
			((void **)tls)[0] = tls;
			((void **)tls)[2] = tls;
			flags |= CLONE_SETTLS;
		}
		raw[i].tid = 1;
		if (raw_clone(flags, stack + STACK - 64, tls, &raw[i].tid) < 0)
			DIE("clone");
	}
	for (int i = 0; i < N; i++)
		for (int now; (now = __atomic_load_n(&raw[i].tid, __ATOMIC_ACQUIRE)) != 0;)
			syscall(SYS_futex, &raw[i].tid, FUTEX_WAIT, now, NULL, NULL, 0);
	printf("raw threads %s: done\n", with_tls ? "with data of their own" : "with our data");
}

static void by_clone3(const char *what, unsigned long long flags)
{
	struct clone_args args = { .flags = flags, .exit_signal = SIGCHLD };
	int pidfd = -1;
	long pid;

	if (flags & CLONE_PIDFD)
		args.pidfd = (unsigned long)&pidfd;
	fflush(stdout);
	pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0) {
		for (int i = 0; i < 10; i++)
			work(i);
		_exit(4);
	}
	if (pidfd >= 0) {
		siginfo_t info = { 0 };

		MUST(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED));
		printf("%s: code %d status %d\n", what, info.si_code, info.si_status);
		close(pidfd);
		return;
	}
	tell_end(what, (pid_t)pid);
}

int main(int argc, char **argv)
{
	self = argv[0];
	if (argc > 1) {
		work(1);
		return 8;
	}
	static const struct { const char *what; int flags; } forms[] = {
		{ "own memory", SIGCHLD },
		{ "vfork", CLONE_VM | CLONE_VFORK | SIGCHLD },
		{ "shared memory", CLONE_VM | SIGCHLD },
		{ "shared memory, files and handlers", CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD },
		{ "waits, own memory", CLONE_VFORK | SIGCHLD },
		{ "no signal", CLONE_VM },
		{ "files", CLONE_FILES | CLONE_FS | SIGCHLD },
		{ "parent's", CLONE_PARENT_SETTID | CLONE_IO | SIGUSR1 },
	};
	signal(SIGUSR1, SIG_IGN);
	for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++) {
		char what[100];
#define WITH(run) (snprintf(what, sizeof what, "%s, " #run, forms[i].what), what)
		try(WITH(calls_some), calls_some, forms[i].flags);
		try(WITH(leaves), leaves, forms[i].flags);
		try(WITH(dies), dies, forms[i].flags);
		if (!(forms[i].flags & CLONE_SIGHAND)) {
			try(WITH(aborts), aborts, forms[i].flags);
			try(WITH(executes), executes, forms[i].flags);
		}
	}
	by_clone3("clone3", 0);
	by_clone3("clone3 with a descriptor", CLONE_PIDFD);
	by_clone3("clone3, handlers cleared", CLONE_CLEAR_SIGHAND);
	raw_threads(1);
	raw_threads(0);
	raw_threads(1);
	for (int i = 0; i < 5; i++)
		work(i);
	printf("own %d\n", own);
	TELL_WORKS();
	return 0;
}
