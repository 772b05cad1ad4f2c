/* maskless: a filter takes rt_sigprocmask away, with handlers of all five in place: what our handlers have kept out they
 * could not let in again. The argument: the filter kills. */
#include "signals.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

FUNCTION int work(int a) { KEEP(); return a + 1; }
static volatile int seen, works;
static void on_signal(int signo) { (void)signo; seen = seen + 1; works = works + 1; work(1); }

int main(int argc, char **argv)
{
	(void)argv;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, argc > 1 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { COUNT(code), code };
	for (int i = 0; i < COUNT(five); i++) {
		signal(five[i], on_signal);
		raise(five[i]);
	}
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	for (int i = 0; i < 50; i++) {
		/* raise() changes the mask. */
		MUST(syscall(SYS_tgkill, getpid(), gettid(), five[i % COUNT(five)]));
		works = works + 1;
		work(2);
	}
	printf("seen %d\n", seen);
	TELL("work", works);
	return 0;
}
