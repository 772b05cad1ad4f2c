// The C++ library at work: streams, containers, locales, regular expressions, threads, futures,
// exceptions, shared pointers, chrono, filesystem. Prints the same in every run.
#include <algorithm>
#include <filesystem>
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
#include <unordered_map>
#include <vector>

static int run(int seed)
{
	std::mt19937 random(static_cast<unsigned>(seed));
	std::map<std::string, std::vector<int>> map;
	for (int i = 0; i < 200; i++) {
		std::ostringstream name;
		name << std::hex << std::setw(4) << std::setfill('0') << (random() & 0xff);
		map[name.str()].push_back(i);
	}
	int sum = 0;
	for (auto &[key, list] : map) {
		std::istringstream in(key);
		int value = 0;
		in >> std::hex >> value;
		sum += value * static_cast<int>(list.size());
	}
	try {
		std::vector<int>().at(5);
	} catch (const std::out_of_range &) {
		sum++;
	}
	try {
		(void)std::stoi("not a number");
	} catch (const std::invalid_argument &) {
		sum++;
	}
	return sum;
}

int main()
{
	std::vector<std::future<int>> futures;
	for (int i = 0; i < 8; i++)
		futures.push_back(std::async(std::launch::async, run, i));
	for (auto &future : futures)
		std::cout << future.get() << ' ';
	std::cout << std::endl;
	std::regex word("([a-z]+)-([0-9]+)");
	std::string text = "alpha-1 beta-22 gamma-333";
	for (std::sregex_iterator it(text.begin(), text.end(), word), end; it != end; ++it)
		std::cout << (*it)[2] << ':' << (*it)[1] << '\n';
	std::cout << std::fixed << std::setprecision(3) << 3.14159 << std::scientific << ' ' << 12345.678 << '\n';
	auto shared = std::make_shared<std::string>(std::size_t(50), 'x');
	std::weak_ptr<std::string> weak = shared;
	shared.reset();
	std::cout << std::boolalpha << weak.expired() << ' ' << std::filesystem::exists("/etc/passwd") << '\n';
	std::unordered_map<int, std::string> table;
	for (int i = 0; i < 1000; i++)
		table.emplace(i, std::to_string(i));
	std::vector<std::string> values;
	for (auto &entry : table)
		values.push_back(entry.second);
	std::sort(values.begin(), values.end());
	std::cout << values.front() << ' ' << values.back() << ' ' << values.size() << '\n';
	std::promise<int> promise;
	std::thread([&] {
		try {
			throw std::runtime_error("carried over");
		} catch (...) {
			promise.set_exception(std::current_exception());
		}
	}).join();
	try {
		promise.get_future().get();
	} catch (const std::exception &e) {
		std::cout << e.what() << std::endl;
	}
	return 0;
}
