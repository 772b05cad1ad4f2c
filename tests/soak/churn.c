/* Loaded and unloaded all the time. */

static volatile unsigned long sum;

unsigned long churn_work(unsigned long n);
unsigned long churn_always(unsigned long n);

__attribute__((noinline)) unsigned long churn_work(unsigned long n)
{
	sum += n;
	return sum;
}

__attribute__((noinline)) unsigned long churn_always(unsigned long n)
{
	sum ^= n;
	return sum + n;
}
