/* Threads with the smallest stack there is, and a libc that is probed: they end as without us. */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline, noclone)) size_t work(const char *text, int n)
{
	volatile char frame[1024];
	memset((void *)frame, n, sizeof frame);
	return strlen(text) + (size_t)(frame[7] == (char)n);
}
static void *run(void *arg)
{
	size_t sum = 0;
	for (int i = 0; i < 10; i++)
		sum += work("a text that is neither long nor short", i);
	struct timespec moment = { 0, 1000 };
	nanosleep(&moment, NULL);
	*(size_t *)arg = sum;
	return NULL;
}
int main(void)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
	size_t all = 0;
	for (int round = 0; round < 50; round++) {
		pthread_t threads[8];
		size_t sums[8];
		for (int i = 0; i < 8; i++)
			if (pthread_create(&threads[i], &attr, run, &sums[i]))
				return 1;
		for (int i = 0; i < 8; i++) {
			pthread_join(threads[i], NULL);
			all += sums[i];
		}
	}
	printf("sum %zu\nhits work 4000\n", all);
	return 0;
}
