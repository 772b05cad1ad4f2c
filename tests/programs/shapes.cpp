// C++: overloads, members, templates, virtual calls, constructors, exceptions through probed
// frames. The probes name them demangled.
#include "check.h"
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace geometry {
struct Shape {
	FUNCTION virtual int area(int scale) const { KEEP(); return scale; }
	virtual ~Shape() = default;
};
struct Square : Shape {
	int side;
	FUNCTION explicit Square(int s) : side(s) { KEEP(); }
	FUNCTION int area(int scale) const override { KEEP(); return side * side * scale; }
};
FUNCTION int measure(int a) { KEEP(); return a; }
FUNCTION int measure(const std::string &s) { KEEP(); return int(s.size()); }
template <typename T> FUNCTION T twice(T a) { KEEP(); return a + a; }
FUNCTION int thrower(int a)
{
	KEEP();
	if (a % 2)
		throw std::runtime_error("odd");
	return a;
}
FUNCTION int middle(int a) { std::string keep = "destroyed on the way"; return thrower(a) + int(keep.size()); }
}

static long run(int rounds)
{
	long sum = 0;
	for (int i = 0; i < rounds; i++) {
		geometry::Square square(i);
		const geometry::Shape *shape = &square;
		sum += shape->area(2);
		sum += geometry::measure(i) + geometry::measure(std::string("four"));
		sum += geometry::twice<int>(i) + long(geometry::twice<double>(1.5));
		try {
			sum += geometry::middle(i);
		} catch (const std::runtime_error &) {
			sum += 1000000;
		}
	}
	return sum;
}

int main()
{
	const int rounds = 500, threads = 4;
	std::vector<std::thread> all;
	std::vector<long> sums(threads);
	for (int t = 0; t < threads; t++)
		all.emplace_back([&sums, t] { sums[t] = run(rounds); });
	for (auto &t : all)
		t.join();
	long total = 0;
	for (long s : sums)
		total += s;
	printf("total %ld\n", total);
	return 0;
}
