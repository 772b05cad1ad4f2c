/* Functions of every kind, called a known number of times from 1 or more threads:
 *   calls THREADS ROUNDS
 * It tells how often each was executed; the probes' counts must be the same. */
#include "check.h"
#include <pthread.h>

static long rounds;

FUNCTION long leaf(long a) { KEEP(); return a * 3 + 1; }
FUNCTION static long hidden(long a) { KEEP(); return a ^ 0x55; }
FUNCTION long many(long a, long b, long c, long d, long e, long f, long g, double h)
{
	KEEP();
	return a + b + c + d + e + f + g + (long)h;
}
FUNCTION long recursive(long n)
{
	long rest = n == 0 ? 0 : recursive(n - 1);
	KEEP(); /* or it would become a loop */
	return n + rest;
}
FUNCTION long tail_end(long a) { KEEP(); return a + 7; }
FUNCTION long tail(long a) { KEEP(); return tail_end(a + 1); }
/* Two names, one place. */
FUNCTION long first_name(long a) { KEEP(); return a - 1; }
extern long second_name(long a) __attribute__((alias("first_name")));
/* Its loop jumps back to bytes near its entry. */
FUNCTION long loop_at_entry(long n)
{
	do {
		KEEP();
		n--;
	} while (n > 0);
	return n;
}
FUNCTION void empty(void) { KEEP(); }
/* A big frame and a call in the middle. */
FUNCTION long frame(long a)
{
	volatile char buffer[4096];
	buffer[a & 4095] = (char)a;
	return leaf(buffer[a & 4095]) + 1;
}
typedef long (*function)(long);
static volatile function pointer = leaf;

static void *run(void *arg)
{
	(void)arg;
	long sum = 0;
	for (long i = 0; i < rounds; i++) {
		sum += leaf(i);
		sum += hidden(i);
		sum += many(i, 2, 3, 4, 5, 6, 7, 8.5);
		sum += recursive(5);
		sum += tail(i);
		sum += first_name(i);
		sum += second_name(i);
		sum += loop_at_entry(3);
		sum += frame(i);
		sum += pointer(i);
		empty();
	}
	return (void *)sum;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	rounds = argc > 2 ? atol(argv[2]) : 100;
	pthread_t thread[64];
	long total = 0;
	for (int i = 1; i < threads; i++)
		MUST(pthread_create(&thread[i], NULL, run, NULL));
	total += (long)run(NULL);
	for (int i = 1; i < threads; i++) {
		void *sum;
		MUST(pthread_join(thread[i], &sum));
		total += (long)sum;
	}
	long n = threads * rounds;
	printf("total %ld\n", total);
	TELL("leaf", 3 * n);
	TELL("hidden", n);
	TELL("many", n);
	TELL("recursive", 6 * n);
	TELL("tail", n);
	TELL("tail_end", n);
	TELL("first_name", 2 * n);
	TELL("second_name", 2 * n);
	TELL("loop_at_entry", n);
	TELL("frame", n);
	TELL("empty", n);
	return 0;
}
