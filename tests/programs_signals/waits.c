/* waits CHECK: system calls that wait with a mask of their own, and those that take signals. */
#include "signals.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int seen;
static void on_signal(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	sigset_t before;
	sigemptyset(&before);
	memcpy(&before, &uc->uc_sigmask, 8);
	seen++;
	printf("  in %s code %d\n", name_of(signo), info->si_code);
	print_set("    uc_sigmask", &before);
	print_mask("    mask");
}

static int pipe_ends[2], epoll;

/* Each waits up to `ms` with the mask. */
static int by_sigsuspend(const sigset_t *mask, int ms) { return ms ? sigsuspend(mask) : 0; }
static int by_ppoll(const sigset_t *mask, int ms)
{
	struct pollfd fd = { .fd = pipe_ends[0], .events = POLLIN };
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	return ppoll(&fd, 1, &time, mask);
}
static int by_pselect(const sigset_t *mask, int ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	fd_set set;
	FD_ZERO(&set);
	FD_SET(pipe_ends[0], &set);
	return pselect(pipe_ends[0] + 1, &set, NULL, NULL, &time, mask);
}
static int by_epoll(const sigset_t *mask, int ms)
{
	struct epoll_event event;
	return epoll_pwait(epoll, &event, 1, ms, mask);
}
static int by_epoll2(const sigset_t *mask, int ms)
{
	struct epoll_event event;
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	return epoll_pwait2(epoll, &event, 1, &time, mask);
}
static int by_number(const sigset_t *mask, int ms)
{
	struct pollfd fd = { .fd = pipe_ends[0], .events = POLLIN };
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	return (int)syscall(SYS_ppoll, &fd, 1, &time, mask, 8);
}
static const struct wait { const char *name; int (*call)(const sigset_t *, int); } waits[] = {
	{ "sigsuspend", by_sigsuspend }, { "ppoll", by_ppoll }, { "pselect", by_pselect },
	{ "epoll_pwait", by_epoll }, { "epoll_pwait2", by_epoll2 }, { "syscall", by_number },
};

static void prepare(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	MUST(pipe(pipe_ends));
	epoll = epoll_create1(0);
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_ends[0], &event));
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_signal, 0, set_of(SIGUSR2, SIGFPE, 0));
	handle(SIGUSR1, on_signal, 0, set_of(SIGTERM, SIGBUS, 0));
}

static void say(const char *what, int result)
{
	printf("%s: %d %s\n", what, result, result < 0 ? strerror(errno) : "");
	print_mask("  mask after");
	print_pending("  pending after");
}

static pthread_t waiter;
static int sent;
static void *send_later(void *how)
{
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	usleep(30000);
	if (how)
		pthread_kill(waiter, sent);
	else
		kill(getpid(), sent);
	return NULL;
}

/* What was sent before, what comes while the call waits, what it does not let through. */
static void check_let_through(void)
{
	prepare();
	int all[COUNT(five) + 1];
	memcpy(all, five, sizeof five);
	all[COUNT(five)] = SIGUSR1;
	for (int w = 0; w < COUNT(waits); w++)
		for (int i = 0; i < COUNT(all); i++) {
			sigset_t open = none(), closed = full();
			block_only(set_of(all[i], SIGILL, SIGALRM));
			printf("== %s %s\n", waits[w].name, name_of(all[i]));
			kill(getpid(), all[i]);
			say("sent before", waits[w].call(&open, 5000));
			for (int to_thread = 0; to_thread < 2; to_thread++) {
				pthread_t sender;
				sent = all[i];
				waiter = pthread_self();
				MUST(pthread_create(&sender, NULL, send_later, to_thread ? "" : NULL));
				errno = 0;
				say("sent meanwhile", waits[w].call(&open, 5000));
				MUST(pthread_join(sender, NULL));
			}
			raise(all[i]);
			say("closed", waits[w].call(&closed, 0));
			sigset_t only = full();
			sigdelset(&only, all[i]);
			say("only it", waits[w].call(&only, 5000));
			block_only(none());
		}
}

/* The mask of a wait is in force while a handler runs that it let through. */
static void check_masks_of_others(void)
{
	prepare();
	for (int w = 0; w < COUNT(waits); w++) {
		sigset_t mask = set_of(SIGTRAP, SIGSEGV, SIGALRM);
		block_only(set_of(SIGUSR1, SIGFPE, SIGPIPE));
		printf("== %s\n", waits[w].name);
		raise(SIGUSR1);
		say("USR1", waits[w].call(&mask, 5000));
		raise(SIGFPE);
		raise(SIGUSR1);
		say("both", waits[w].call(&mask, 5000));
		block_only(none());
	}
}

/* sigwait and its relatives, with the sender in time and late. */
static void print_info(const char *what, int got, const siginfo_t *info)
{
	printf("%s: %s", what, got < 0 ? strerror(errno) : name_of(got));
	if (got > 0)
		printf(" code %d value %d own %d", info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
		       info->si_pid == getpid());
	printf("\n");
}
static void check_taken(void)
{
	prepare();
	for (int i = 0; i < COUNT(five); i++) {
		sigset_t set = set_of(five[i], SIGUSR1, 0), all = full();
		pthread_t sender;
		siginfo_t info;
		int got = 0;
		block_only(set);
		waiter = pthread_self();
		sent = five[i];
		for (int to_thread = 0; to_thread < 2; to_thread++) {
			MUST(pthread_create(&sender, NULL, send_later, to_thread ? "" : NULL));
			printf("sigwait %d", sigwait(&set, &got));
			printf(" %s\n", name_of(got));
			MUST(pthread_join(sender, NULL));
			MUST(pthread_create(&sender, NULL, send_later, to_thread ? "" : NULL));
			got = sigwaitinfo(&set, &info);
			print_info("sigwaitinfo", got, &info);
			MUST(pthread_join(sender, NULL));
		}
		struct timespec short_time = { 0, 20000000 }, none_ = { 0, 0 };
		got = sigtimedwait(&set, &info, &short_time);
		print_info("nothing", got, &info);
		union sigval value = { .sival_int = 77 };
		sigqueue(getpid(), five[i], value);
		got = sigtimedwait(&all, &info, &none_);
		print_info("queued", got, &info);
		raise(SIGUSR1);
		raise(five[i]);
		got = sigwaitinfo(&set, &info);
		print_info("both, first", got, &info);
		got = sigwaitinfo(&set, &info);
		print_info("both, second", got, &info);
		print_pending("pending");
		/* Ignored while it is pending: it is not pending any more. */
		raise(five[i]);
		kill(getpid(), five[i]);
		signal(five[i], SIG_IGN);
		print_pending("ignored");
		handle(five[i], on_signal, 0, none());
		print_pending("handled");
		block_only(none());
	}
	printf("seen %d\n", seen);
}

/* What is sent from outside of the process. */
static void check_from_outside(void)
{
	prepare();
	for (int w = 0; w < COUNT(waits); w++)
		for (int i = 0; i < COUNT(five); i++) {
			sigset_t open = none();
			block_only(set_of(five[i], 0, 0));
			pid_t child = fork();
			if (child == 0) {
				usleep(20000);
				kill(getppid(), five[i]);
				_exit(0);
			}
			printf("== %s %s\n", waits[w].name, name_of(five[i]));
			say("from a child", waits[w].call(&open, 5000));
			MUST(waitpid(child, NULL, 0) != child);
			block_only(none());
		}
}

/* A wait that a flood of signals falls upon: each is seen, none in the wrong mask. */
static volatile int flood_seen, flood_wrong;
static void on_flood(int signo)
{
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	flood_seen++;
	flood_wrong += sigismember(&now, SIGTRAP) != 1 || sigismember(&now, signo) != 1;
}
static volatile int flooding = 1;
static void *flood(void *unused)
{
	(void)unused;
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (flooding)
		pthread_kill(waiter, SIGUSR1);
	return NULL;
}
static void check_flood(void)
{
	pthread_t sender;
	prepare();
	struct sigaction action = { .sa_handler = on_flood };
	sigaddset(&action.sa_mask, SIGTRAP);
	MUST(sigaction(SIGUSR1, &action, NULL));
	block_only(set_of(SIGUSR1, SIGSEGV, 0));
	waiter = pthread_self();
	MUST(pthread_create(&sender, NULL, flood, NULL));
	int interrupted = 0, wrong = 0;
	for (int i = 0; i < 2000; i++) {
		sigset_t open = none(), now;
		int before = flood_seen;
		interrupted += waits[i % COUNT(waits)].call(&open, 1000) == -1 && errno == EINTR;
		wrong += flood_seen == before;
		pthread_sigmask(SIG_SETMASK, NULL, &now);
		wrong += sigismember(&now, SIGSEGV) != 1 || sigismember(&now, SIGTRAP) != 0 || sigismember(&now, SIGUSR1) != 1;
	}
	flooding = 0;
	MUST(pthread_join(sender, NULL));
	printf("interrupted %d wrong %d in the handler %d\n", interrupted, wrong, flood_wrong);
}

/* The kernel wakes the waiter for a signal of the process, and what runs probes meanwhile, where it is blocked, finds
 * it first: the wait ended without the handler, and the signal was pending after it. Or a wait began when its signal
 * had just been put aside for all, and went on. */
static volatile int turn, is_over;
__attribute__((noinline)) static void probed(int n) { while (n--) __asm__ volatile(""); }
static void *keep_trapping(void *unused)
{
	(void)unused;
	sigset_t all = full();
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	for (int last = 0, spins = 0; !is_over; probed(10))
		if (turn != last) {
			last = turn;
			for (spins = (spins * 7 + 3) % 61; spins % 61 && spins > 0; spins--)
				probed(spins);
			spins = last;
			kill(getpid(), five[last % COUNT(five)]);
		}
	return NULL;
}
static void on_one(int signo) { (void)signo; flood_seen++; }
static void check_trapping_beside(void)
{
	pthread_t other;
	prepare();
	for (int i = 0; i < COUNT(five); i++)
		signal(five[i], on_one);
	block_only(full());
	MUST(pthread_create(&other, NULL, keep_trapping, NULL));
	for (int w = 0; w < COUNT(waits); w++) {
		int wrong = 0;
		for (int i = 0; i < 400; i++) {
			sigset_t open = none();
			flood_seen = 0;
			turn++;
			int result = waits[w].call(&open, 5000);
			wrong += result != -1 || errno != EINTR || flood_seen != 1;
		}
		printf("%s wrong %d\n", waits[w].name, wrong);
		print_pending("pending");
	}
	is_over = 1;
	MUST(pthread_join(other, NULL));
}

/* A call that need not wait lets nothing in, whatever is pending and open in its mask: where a descriptor is ready, or
 * where epoll has no time. ppoll and pselect without time end by the signal. */
static int one_call(int which, int in, int epoll, int ms)
{
	sigset_t open = none();
	struct timespec time = { ms / 1000, 0 }, *at = ms < 0 ? NULL : &time;
	struct pollfd polled[] = { { .fd = in, .events = POLLIN, .revents = 77 }, { .fd = -1, .revents = 77 } };
	struct pollfd *volatile nowhere = (void *)8;
	struct epoll_event events[2] = { { .data.fd = -1 } };
	fd_set set;
	int result = -1;
	FD_ZERO(&set);
	FD_SET(in, &set);
	FD_SET(0, &set);
	errno = 0;
	switch (which) {
	case 0: result = ppoll(polled, 2, at, &open); break;
	case 1: result = pselect(in + 1, &set, NULL, NULL, at, &open); break;
	case 2: result = epoll_pwait(epoll, events, 2, ms, &open); break;
	case 3: result = epoll_pwait2(epoll, events, 2, at, &open); break;
	case 4: result = ppoll(nowhere, 1, at, &open); break;
	case 5: result = epoll_pwait(in, events, 2, ms, &open); break;
	}
	printf("call %d of %d: %d %d\n", which, ms, result, result < 0 ? errno : 0);
	printf("polled %d %d set %d %d event %d\n", polled[0].revents, polled[1].revents, FD_ISSET(in, &set) != 0,
	       FD_ISSET(0, &set) != 0, events[0].data.fd);
	return result;
}
static void check_at_once(void)
{
	int ends[2], epoll = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN };
	MUST(pipe(ends));
	MUST(dup2(ends[0], 0));
	MUST(dup2(ends[0], 40) != 40);
	event.data.fd = 40;
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, 40, &event));
	for (int i = 0; i < COUNT(five); i++)
		handle(five[i], on_signal, 0, none());
	for (int is_ready = 0; is_ready < 2; is_ready++) {
		for (int which = 0; which < 6; which++) {
			for (int ms = is_ready ? -1 : 0; ms <= 5000; ms += 5000) {
				block_only(full());
				raise(five[which % COUNT(five)]);
				one_call(which, 40, epoll, ms);
				print_pending("pending");
				print_mask("after");
				block_only(none());
			}
		}
		MUST(write(ends[1], "x", 1) != 1);
	}
}

int main(int argc, char **argv)
{
	static const struct check checks[] = {
		CHECK(let_through), CHECK(masks_of_others), CHECK(taken), CHECK(from_outside), CHECK(flood),
		CHECK(trapping_beside), CHECK(at_once),
	};
	return run_checks(checks, COUNT(checks), argc, argv);
}
