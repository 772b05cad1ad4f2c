/*
 * replace: calls of a function go to another one, which may call the first.
 *
 * You will see a function that remembers its results, though its source knows nothing of that: each of its
 * calls, those it makes itself too, goes to a replacement, which calls the real one only for
 * what is new. And a function of libc that tells another time, to all of the program.
 *
 *     gcc -I include -rdynamic c-examples/replace.c -o replace
 *     LD_PRELOAD=target/release/libuprobe.so ./replace
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uprobe.h>

static long additions;

__attribute__((noinline)) long fibonacci(int n)
{
	__asm__ volatile("" ::: "memory");
	if (n < 2)
		return n;
	additions++;
	return fibonacci(n - 1) + fibonacci(n - 2);
}

static long (*real_fibonacci)(int);

static long remembering_fibonacci(int n)
{
	static long known[64]; /* 0: not yet */
	if (n < 0 || n >= 64)
		return real_fibonacci(n);
	if (known[n] == 0)
		known[n] = real_fibonacci(n);
	return known[n];
}

static int leap_second_of_2016(clockid_t clock, struct timespec *time)
{
	(void)clock;
	time->tv_sec = 1483228800;
	time->tv_nsec = 0;
	return 0;
}

static void show(const char *how)
{
	additions = 0;
	long result = fibonacci(24);
	printf("%s: fibonacci(24) is %ld, %ld additions\n", how, result, additions);
}

int main(void)
{
	struct timespec now;
	char text[64];

	show("as it is");
	int error = uprobe_replace(NULL, "fibonacci", (void *)remembering_fibonacci, (void **)&real_fibonacci);
	if (error != 0) {
		fprintf(stderr, "uprobe_replace: %s\n", strerror(-error));
		return 1;
	}
	show("replaced");
	uprobe_replace(NULL, "fibonacci", NULL, NULL);
	show("given back");
	printf("past the probe: %ld\n", real_fibonacci(10));

	uprobe_replace("libc.so.6", "clock_gettime", (void *)leap_second_of_2016, NULL);
	clock_gettime(CLOCK_REALTIME, &now);
	uprobe_replace("libc.so.6", "clock_gettime", NULL, NULL);
	strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", gmtime(&now.tv_sec));
	printf("it was %s\n", text);
	return 0;
}
