// Calls functions of libstdc++ and libgcc_s, and leaves some by exceptions. Prints what is always the same.
#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <locale>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <typeinfo>
#include <vector>

struct Counted {
	static int alive;
	Counted() { alive++; }
	~Counted() { alive--; }
};
int Counted::alive;

struct Base {
	virtual ~Base() = default;
};
struct Derived : Base {
};

static int deep(int n)
{
	Counted here;

	if (n == 0)
		throw std::out_of_range("deep");
	return deep(n - 1) + 1;
}

template <class F> static void expect(const char *what, F f)
{
	try {
		f();
		std::cout << what << ": nothing\n";
	} catch (const std::exception &e) {
		std::cout << what << ": " << (e.what()[0] != 0) << ' ' << Counted::alive << '\n';
	}
}

int main()
{
	std::ios::sync_with_stdio(false);
	std::ostringstream text;
	text << std::setprecision(12) << 3.14159 << ' ' << std::hex << 255 << ' ' << std::boolalpha << true << ' ' << 1.5L;
	std::istringstream in(std::string("5 2.5 word"));
	int number;
	double real;
	std::string word;
	in >> number >> real >> word;
	std::cout << text.str() << '|' << number << real << word << std::endl;

	std::vector<std::string> words{"one", "two", "three", "four"};
	std::sort(words.begin(), words.end());
	std::map<std::string, int> lengths;
	for (const auto &w : words)
		lengths[w] = static_cast<int>(w.size());
	for (const auto &[key, value] : lengths)
		std::cout << key << value << ' ';
	std::cout << std::regex_replace("a1b22", std::regex("[0-9]+"), "#") << ' ' << std::stod("2.25") << '\n';

	expect("at", [] { (void)std::string("x").at(5); });
	expect("vector", [] { std::vector<int>().at(1) = 2; });
	expect("stoi", [] { (void)std::stoi("none"); });
	expect("length", [] { std::string().reserve(static_cast<std::size_t>(-1)); });
	expect("cast", [] { Base base; Base *b = &base; (void)dynamic_cast<Derived &>(*b); });
	expect("typeid", [] { Base *b = nullptr; (void)typeid(*b); });
	expect("function", [] { std::function<void()>()(); });
	expect("regex", [] { std::regex bad("("); });
	expect("locale", [] { std::locale bad("no such locale"); });
	expect("deep", [] { deep(200); });
	for (int i = 0; i < 200; i++)
		try {
			try {
				deep(i % 7);
			} catch (std::exception &) {
				Counted one;
				throw;
			}
		} catch (std::logic_error &) {
			number++;
		}
	std::cout << number << ' ' << Counted::alive << '\n';
	std::exception_ptr kept;
	try {
		deep(3);
	} catch (...) {
		kept = std::current_exception();
	}
	expect("again", [&] { std::rethrow_exception(kept); });

	std::mutex lock;
	int sum = 0;
	std::vector<std::thread> threads;
	for (int i = 0; i < 4; i++)
		threads.emplace_back([&, i] {
			for (int n = 0; n < 50; n++) {
				std::lock_guard<std::mutex> held(lock);
				sum += i;
			}
		});
	for (auto &thread : threads)
		thread.join();
	auto later = std::async(std::launch::async, [] { return deep(2); });
	expect("future", [&] { later.get(); });
	std::mt19937 random(5);
	auto shared = std::make_shared<Derived>();
	std::weak_ptr<Base> weak = shared;
	std::cout << sum << ' ' << random() % 1000 << ' ' << (weak.lock() != nullptr) << std::endl;
	return 0;
}
