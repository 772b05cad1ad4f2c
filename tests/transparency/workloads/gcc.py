"""gcc, the assembler and the linker, on something large: SQLite in one file, and a C++ program."""

import hashlib

from harness import sources
from harness.case import Case

TITLE = "gcc (SQLite's sources, a C++ program)"
PACKAGES = ("gcc", "g++", "tcl")

CPLUSPLUS = """
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>
int main() {
    std::map<std::string, std::vector<int>> m;
    for (int i = 0; i < 1000; ++i) m[std::to_string(i % 37)].push_back(i);
    for (auto &[k, v] : m) std::sort(v.begin(), v.end(), std::greater<>());
    std::regex r("([0-9])+");
    for (auto &[k, v] : m) std::cout << std::regex_replace(k, r, "<$1>") << v.front() << '\\n';
    try { m.at("none"); } catch (const std::exception &e) { std::cout << e.what() << '\\n'; }
}
"""


def missing():
    return [] if sources.unpacked("sqlite3") else ["SQLite's sources"]


def install():
    sources.fetch("sqlite3")


def cases(short):
    found = [Case("c++", _cplusplus), Case("errors", _errors)]
    return found if short else [*found, Case("sqlite-O2", lambda place: _sqlite(place, "-O2"), 1200),
                                Case("sqlite-O0-g", lambda place: _sqlite(place, "-g"), 1200)]


def _hash(file):
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "none"


def _sqlite(place, flag):
    """Each file of the sources that compiles by itself, a dozen at a time; then a library of them."""
    source = sources.unpacked("sqlite3")
    verdicts = {}
    files = sorted([*(source / "ext" / "misc").glob("*.c"), *(source / "tool").glob("*.c")])
    for first in range(0, len(files), 12):
        names = files[first:first + 12]
        outcome = place.run(["gcc", flag, "-c", "-fPIC", "-I", source / "src", *names], LC_ALL="C")
        verdicts[f"status of {first}"] = f"{outcome.status}: {hashlib.sha256(outcome.stderr.encode()).hexdigest()}"
    objects = sorted(place.directory.glob("*.o"))
    for file in objects:
        verdicts[file.name] = _hash(file)
    return verdicts


def _cplusplus(place):
    (place.directory / "program.cpp").write_text(CPLUSPLUS)
    outcome = place.run(["g++", "-O2", "-g", "-Wall", "-flto", "-frandom-seed=1", "program.cpp", "-o", "program"])
    ran = place.run([place.directory / "program"])
    return {"status": str(outcome.status), "stderr": outcome.stderr, "program": _hash(place.directory / "program"),
            "ran": str(ran.status), "output": ran.stdout}


def _errors(place):
    (place.directory / "wrong.c").write_text("int f(void) { return x; }\nint g(int a) { if (a = 1) return 2; }\n#error no\n")
    outcome = place.run(["gcc", "-Wall", "-O2", "wrong.c"])
    return {"status": str(outcome.status), "stderr": outcome.stderr}
