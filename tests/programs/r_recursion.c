/* Recursion, tail calls, and a function that jumps to its own first instruction:
 *   r_recursion deep DEPTH | tails N | mutual N | again N */
#include "returns.h"
#include <pthread.h>
#include <string.h>

static long number;

FUNCTION long down(long n)
{
	long below = n == 1 ? 0 : down(n - 1);
	KEEP();
	return below + n;
}
FUNCTION long is_odd(long n);
FUNCTION long is_even(long n)
{
	long answer = n == 0 ? 1 : is_odd(n - 1);
	KEEP();
	return answer;
}
FUNCTION long is_odd(long n)
{
	long answer = n == 0 ? 0 : is_even(n - 1);
	KEEP();
	return answer;
}
static void *deep(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		EXPECT(down(number), number * (number + 1) / 2);
		EXPECT(is_even(number - 1), number % 2);
	}
	RETURNED("down", 2 * number);
	RETURNED("is_even", 2 * ((number + 1) / 2));
	RETURNED("is_odd", 2 * (number / 2));
	return NULL;
}

/* Compiled to jumps. */
FUNCTION long last(long a) { KEEP(); return a + 7; }
FUNCTION long middle(long a) { KEEP(); return last(a * 2); }
FUNCTION long first(long a) { KEEP(); return middle(a + 1); }
FUNCTION long around(long a) { long b = first(a); KEEP(); return b + 1; }
static void tails(void)
{
	for (long i = 0; i < number; i++) {
		EXPECT(first(i), (i + 1) * 2 + 7);
		EXPECT(middle(i), i * 2 + 7);
		EXPECT(around(i), (i + 1) * 2 + 8);
	}
	RETURNED("around", number);
	RETURNED("first", 2 * number);
	RETURNED("middle", 3 * number);
	RETURNED("last", 3 * number);
}

FUNCTION long tail_odd(long n, long sum);
FUNCTION long tail_even(long n, long sum) { KEEP(); return n == 0 ? sum : tail_odd(n - 1, sum + n); }
FUNCTION long tail_odd(long n, long sum) { KEEP(); return n == 0 ? -sum : tail_even(n - 1, sum + n); }

/* Its loop goes through its first instruction. */
extern long again(long n);
__asm__(".text\n .globl again\n .type again, @function\n"
	"again: sub $1, %rdi\n jg again\n mov $42, %eax\n ret\n .size again, . - again\n");

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "tails";
	number = argc > 2 ? atol(argv[2]) : 1000;
	if (strcmp(way, "deep") == 0) {
		pthread_attr_t attr;
		pthread_t thread;
		MUST(pthread_attr_init(&attr));
		MUST(pthread_attr_setstacksize(&attr, 64 << 20));
		MUST(pthread_create(&thread, &attr, deep, NULL));
		MUST(pthread_join(thread, NULL));
	} else if (strcmp(way, "tails") == 0) {
		tails();
	} else if (strcmp(way, "mutual") == 0) {
		EXPECT(tail_even(number, 0), number % 2 ? -(number * (number + 1) / 2) : number * (number + 1) / 2);
		EXPECT(last(1), 8);
		printf("executed tail_even %ld tail_odd %ld\n", number / 2 + 1, (number + 1) / 2);
		RETURNED("last", 1);
	} else if (strcmp(way, "again") == 0) {
		EXPECT(again(number), 42);
		EXPECT(last(1), 8);
		printf("executed again %ld\n", number);
		RETURNED("last", 1);
	} else {
		return 1;
	}
	return 0;
}
