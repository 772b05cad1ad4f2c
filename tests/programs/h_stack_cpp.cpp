// uprobe_stack in C++: virtual calls, templates, destructors that an exception runs, catch blocks.
#include "h_stack.h"
#include <functional>
#include <stdexcept>
#include <vector>

#define SHAPE extern "C" __attribute__((noinline, noclone, used))

static volatile long sink;
SHAPE long innermost(long a) { sink = a; return a + 1; }
SHAPE void cleans_up() { sink = innermost(2); }
struct Guard { ~Guard() { cleans_up(); } };
struct Base { virtual long work(long) = 0; virtual ~Base() = default; };
struct Derived : Base {
	long work(long a) override { std::vector<long> v(a, 1); return innermost((long)v.size()) + 1; }
};
SHAPE long throws(long a)
{
	Guard guard;
	if (innermost(a) > 0)
		throw std::runtime_error("thrown");
	return 0;
}
SHAPE long catches(long a)
{
	try {
		return throws(a);
	} catch (const std::exception &) {
		return innermost(7);
	}
}
SHAPE long through(const std::function<long(long)> &f) { return f(3) + 1; }

int main()
{
	if (!UPROBE_AVAILABLE()) {
		puts("no library");
		return 0;
	}
	warm_up();
	int armed = 0;
	for (void *f : { (void *)innermost, (void *)cleans_up, (void *)throws, (void *)catches, (void *)through })
		armed += probe_each(f);
	Derived derived;
	Base *base = &derived;
	sink = through([&](long a) { return base->work(a); });
	for (int i = 0; i < 3; i++)
		sink = catches(i);
	printf("armed %d, compared %d, different %lu\n", armed > 20, compared > 60, different);
	return 0;
}
