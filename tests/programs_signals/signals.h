/* What the programs about signals share: the five signals that are the engine's in the kernel's eyes, and
 * ways to print what a program sees of masks and signals. */
#ifndef SIGNALS_H
#define SIGNALS_H

#include "../programs/check.h"
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* The engine's five, and some that are not. */
static const int five[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
static const int others[] = { SIGUSR1, SIGTERM, SIGCHLD, SIGPIPE };

static inline const char *name_of(int signo)
{
	static char number[8][16];
	static int next;
	switch (signo) {
	case SIGTRAP: return "TRAP";
	case SIGSEGV: return "SEGV";
	case SIGBUS: return "BUS";
	case SIGFPE: return "FPE";
	case SIGILL: return "ILL";
	case SIGUSR1: return "USR1";
	case SIGUSR2: return "USR2";
	case SIGTERM: return "TERM";
	case SIGCHLD: return "CHLD";
	case SIGPIPE: return "PIPE";
	case SIGALRM: return "ALRM";
	case SIGABRT: return "ABRT";
	}
	next = (next + 1) % 8;
	snprintf(number[next], sizeof number[next], "%d", signo);
	return number[next];
}

/* A full set is not spelled out; libc's own two are left out by sigfillset, not by the kernel. */
static inline void print_set(const char *what, const sigset_t *set)
{
	int in = 0;
	printf("%s:", what);
	for (int i = 1; i <= 64; i++)
		in += sigismember(set, i) == 1;
	if (in > 50) {
		printf(" all but");
		for (int i = 1; i <= 64; i++)
			if (sigismember(set, i) != 1 && i != 32 && i != 33)
				printf(" %s", name_of(i));
	} else {
		for (int i = 1; i <= 64; i++)
			if (sigismember(set, i) == 1)
				printf(" %s", name_of(i));
	}
	printf("\n");
}

static inline void print_mask(const char *what)
{
	sigset_t now;
	sigemptyset(&now);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	print_set(what, &now);
}

static inline void print_pending(const char *what)
{
	sigset_t now;
	sigemptyset(&now);
	sigpending(&now);
	print_set(what, &now);
}

static inline sigset_t set_of(int a, int b, int c)
{
	sigset_t set;
	sigemptyset(&set);
	if (a) sigaddset(&set, a);
	if (b) sigaddset(&set, b);
	if (c) sigaddset(&set, c);
	return set;
}

static inline sigset_t full(void)
{
	sigset_t set;
	sigfillset(&set);
	return set;
}

static inline void block_only(sigset_t set) { MUST(sigprocmask(SIG_SETMASK, &set, NULL)); }
static inline sigset_t none(void) { return set_of(0, 0, 0); }

typedef void handler_t(int, siginfo_t *, void *);
static inline void handle(int signo, handler_t *handler, int flags, sigset_t mask)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | flags;
	action.sa_mask = mask;
	MUST(sigaction(signo, &action, NULL));
}

/* main: prints the names of the checks, or runs the one named. */
struct check { const char *name; void (*run)(void); };
static inline int run_checks(const struct check *checks, int count, int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 1 << 16);
	for (int i = 0; i < count; i++) {
		if (argc < 2)
			puts(checks[i].name);
		else if (strcmp(argv[1], checks[i].name) == 0) {
			checks[i].run();
			puts("end");
			return 0;
		}
	}
	return argc < 2 ? 0 : 2;
}
#define CHECK(name) { #name, check_##name }

#endif
