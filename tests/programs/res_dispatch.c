/* Has its own system calls raise SIGSYS in itself (Syscall User Dispatch), as emulators of other systems do. Each
 * mode says from where calls are made all the same. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define OFF 0UL
#define ON 1UL
#define RESULT 4711

static volatile int calls;
static volatile char selector;
static volatile struct {
	int times, number, code, same_place;
	long offset;
} caught;

__attribute__((noinline, noclone)) int work(const char *text)
{
	calls++;
	return text[0];
}
static void some_work(int n)
{
	for (int i = 0; i < n; i++)
		work("text");
}
static void on_sigsys(int number, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	Dl_info found;
	(void)number;
	selector = 0;
	work("handler");
	caught.times++;
	caught.number = info->si_syscall;
	caught.code = info->si_code;
	caught.same_place = (greg_t)info->si_call_addr == regs[REG_RIP];
	caught.offset = dladdr(info->si_call_addr, &found) ? (char *)info->si_call_addr - (char *)found.dli_fbase : -1;
	regs[REG_RAX] = RESULT;
}
static void show(const char *what, long result)
{
	selector = 0;
	printf("%s: %ld; %d times, call %d, code %d, at %lx %d\n", what, result, caught.times, caught.number,
	       caught.code, caught.times ? caught.offset : 0, caught.same_place);
	caught.times = caught.number = caught.code = caught.same_place = 0;
}
/* A system call of the program's own. */
static long direct(long number)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
	return result;
}
static struct { unsigned long start, len; } range;
static int find_libc(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	if (!strstr(info->dlpi_name, "libc.so"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
			range.start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
			range.len = info->dlpi_phdr[i].p_memsz;
		}
	return *(int *)arg = 1;
}
static void dispatch(unsigned long mode)
{
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, mode ? range.start : 0, mode ? range.len : 0,
		  mode ? &selector : NULL)) {
		perror("PR_SET_SYSCALL_USER_DISPATCH");
		exit(77);
	}
}
static void calls_of_libc(void)
{
	sigset_t traps, mask;
	long result;
	sigemptyset(&traps);
	sigaddset(&traps, SIGTRAP);
	selector = 1;
	some_work(20);
	result = syscall(SYS_getppid);
	show("getppid", result == getppid() ? -1 : result);
	selector = 1;
	some_work(20);
	result = pthread_sigmask(SIG_BLOCK, &traps, NULL);
	show("sigmask", result ? -1 : 0);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	printf("SIGTRAP is%s blocked\n", sigismember(&mask, SIGTRAP) ? "" : " not");
	pthread_sigmask(SIG_UNBLOCK, &traps, NULL);
	selector = 1;
	some_work(20);
	result = close(1234);
	show("close", result);
	selector = 1;
	result = direct(SYS_getppid);
	show("direct", result == getppid() ? -1 : result);
}
static void *thread(void *arg)
{
	selector = 1;
	calls_of_libc();
	return arg;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
	int found = 0;
	sigaction(SIGSYS, &action, NULL);
	if (!strcmp(mode, "libc"))
		dl_iterate_phdr(find_libc, &found);
	for (int turn = 0; turn < 3; turn++) {
		dispatch(ON);
		some_work(10);
		calls_of_libc();
		dispatch(OFF);
		calls_of_libc();
	}
	dispatch(ON);
	/* Neither a thread nor a child inherits it. */
	pthread_t other;
	if (pthread_create(&other, NULL, thread, NULL))
		return 1;
	pthread_join(other, NULL);
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		calls_of_libc();
		fflush(stdout);
		_exit(0);
	}
	int status;
	if (waitpid(child, &status, 0) != child || status)
		return 1;
	printf("wrong: %d\n", prctl(PR_SET_SYSCALL_USER_DISPATCH, ON, ~0UL, 2UL, &selector) ? errno : 0);
	calls_of_libc();
	dispatch(OFF);
	printf("hits work %d\n", calls);
	return 0;
}
