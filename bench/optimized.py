"""How many of all functions of real programs and libraries have a jump: each armed whole, in a program that uses it
and must print what it prints without."""

import collections
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

LEAST = 99.0


def output_of(*command, **others):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **others).stdout


def by_unwind_tables(path):
    """Where functions begin, as offsets in the file, in stripped ones too: parts that compilers have put elsewhere are
    functions here."""
    loads = []
    for line in output_of("readelf", "-lW", path).splitlines():
        words = line.split()
        if words and words[0] == "LOAD" and "E" in words:
            loads.append((int(words[1], 16), int(words[2], 16), int(words[4], 16)))
    found = set()
    for start, end in re.findall(r" FDE .*pc=(\w+)\.\.(\w+)", output_of("readelf", "--debug-dump=frames", path)):
        start = int(start, 16)
        for offset, address, size in loads:
            if start != int(end, 16) and address <= start < address + size:
                found.add(start - address + offset)
    return sorted(found)


class Probed:
    """A config that counts at every function of one object."""

    def __init__(self, library, out, path):
        self.path, self.out = os.path.realpath(path), out
        self.summary = os.path.join(out, "optimized-%p.json")
        config = os.path.join(out, "optimized.toml")
        with open(config, "w") as text:
            text.write(f'follow = false\n[output]\npath = "/dev/null"\n[summary]\npath = "{self.summary}"\nformat = "json"\n')
            places = ["*", *(f"{offset:#x}" for offset in by_unwind_tables(self.path))]
            for place in places:
                text.write(f'[[probe]]\nat = "{self.path}:{place}"\naction = ["count"]\n')
        self.env = {**os.environ, "LD_PRELOAD": library, "UPROBES": config}
        for old in glob.glob(self.summary.replace("%p", "*")):
            os.unlink(old)

    def places(self):
        """The places of the process with the most hits: a program's launcher may be another."""
        best = {}
        for path in glob.glob(self.summary.replace("%p", "*")):
            with open(path) as text:
                probes = json.load(text)["probes"]
            # A function has many names.
            places = {probe["file_offset"]: probe for probe in probes if probe["file_offset"] is not None}
            if sum(p["hits"] for p in places.values()) >= sum(p["hits"] for p in best.values()):
                best = places
        return best.values()


def run(env, *command, **others):
    """What the program prints, and its status."""
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900, **others
    )
    return done.returncode, done.stdout


def git(env, out):
    git = shutil.which("git")
    repository = os.path.join(out, "repository")
    quiet = {**env, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_PAGER": "cat"}
    if not os.path.exists(repository):
        plain = {**os.environ, "GIT_AUTHOR_DATE": "2001-02-03T04:05:06Z", "GIT_COMMITTER_DATE": "2001-02-03T04:05:06Z"}
        run(plain, git, "init", "-q", "-b", "main", repository)
        for n in range(20):
            with open(os.path.join(repository, f"file-{n % 5}"), "w") as text:
                text.writelines(f"{line * (n + 1)}\n" for line in range(100))
            run(plain, git, "-C", repository, "add", ".")
            run(plain, git, "-C", repository, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", f"round {n}")
    shutil.rmtree(os.path.join(out, "clone"), ignore_errors=True)
    commands = (("log", "-p", "--stat"), ("grep", "-n", "81"), ("clone", "-q", ".", os.path.join(out, "clone")), ("fsck", "--full"))
    return [run(quiet, git, *command, cwd=repository) for command in commands]


def redis(env, out):
    socket = os.path.join(out, "redis.sock")
    server = subprocess.Popen(
        [shutil.which("redis-server"), "--port", "0", "--unixsocket", socket, "--save", "", "--daemonize", "no"],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    client = ("redis-cli", "-s", socket)
    for _ in range(600):
        if output_of(*client, "ping").strip() == "PONG":
            break
        time.sleep(0.1)
    said = [output_of(*client, *command.split()) for command in (
        "ping", "set a 1", "incr a", "rpush l 3 1 2", "sort l", "zadd z 1 x 2 y", "zrange z 0 -1", "eval return{1,2,3} 0",
        "debug digest", "hset h f v", "hgetall h", "object encoding l",
    )]
    benchmark = subprocess.run(
        ["redis-benchmark", "-s", socket, "-n", "5000", "-q", "-t", "set,lpush,sadd,zadd,lrange_100"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    output_of(*client, "shutdown", "nosave")
    return [said, benchmark.returncode, server.wait(60)]


def node(env, _out):
    script = """const c = require('crypto'), z = require('zlib');
        const words = Array.from({length: 20000}, (_, i) => (i * 7919 % 10007).toString(36));
        words.sort(); const text = JSON.stringify(words), back = JSON.parse(text);
        console.log(c.createHash('sha256').update(text).digest('hex'), z.gzipSync(text).length > 0, back.length);
        function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2) } console.log(fib(27));
        setTimeout(() => Promise.resolve(text.match(/a\\w/g).length).then(console.log), 5);"""
    return run(env, shutil.which("node"), "-e", script)


def python(env, _out):
    return run({**env, "PYTHONHASHSEED": "0"}, "/usr/bin/python3", "-S", "-E", "tests/programs/real.py")


def openssl(env, out):
    plain = os.path.join(out, "plain")
    with open(plain, "w") as text:
        text.writelines(f"{n * n}\n" for n in range(50000))
    commands = [("dgst", f"-{name}", plain) for name in ("sha256", "sha3-512", "blake2b512", "md5")]
    commands.append(("enc", "-aes-256-cbc", "-pbkdf2", "-S", "0102030405060708", "-k", "word", "-base64", "-in", plain))
    commands.append(("prime", "170141183460469231731687303715884105727"))
    return [run(env, shutil.which("openssl"), *command) for command in commands]


def stl(env, out):
    program = os.path.join(out, "stl")
    if not os.path.exists(program):
        subprocess.run(["g++", "-O2", "-Itests/programs", "tests/programs/stl.cpp", "-o", program], check=True)
    return run(env, program)


def clang(env, _out):
    # As it is called, in one process.
    return run(env, "/usr/bin/clang", "-O2", "-g", "-S", "-o", "-", "-Itests/programs", "-fintegrated-cc1", "tests/programs/values.c")


def java(env, out):
    source = os.path.join(out, "Sort.java")
    with open(source, "w") as text:
        text.write("""import java.util.*; import java.util.stream.*;
            public class Sort { public static void main(String[] a) { var m = new TreeMap<Integer, String>();
            for (int i = 0; i < 20000; i++) m.put(i * 7919 % 10007, Integer.toString(i, 36)); System.gc();
            System.out.println(m.values().stream().sorted().limit(99).collect(Collectors.joining(","))); } }\n""")
    return [run(env, shutil.which("java"), *args) for args in (("--version",), (source,))]


def linked(program, name):
    """The library that a program is linked with."""
    found = re.search(rf"{re.escape(name)}\S* => (\S+)", output_of("ldd", program) if program else "")
    return found and found[1]


def objects():
    """Name, file, and the program that uses it."""
    which = shutil.which
    yield "redis-server", which("redis-server"), redis
    yield "git", which("git"), git
    yield "python3", os.path.exists("/usr/bin/python3") and "/usr/bin/python3", python
    yield "node", which("node"), node
    yield "libcrypto", linked(which("openssl"), "libcrypto.so"), openssl
    yield "libstdc++", linked(which("clang"), "libstdc++.so"), stl
    yield "libLLVM", linked(which("clang"), "libLLVM"), clang
    jvm = which("java") and os.path.join(os.path.dirname(os.path.realpath(which("java"))), "../lib/server/libjvm.so")
    yield "libjvm", jvm and os.path.exists(jvm) and jvm, java


def census(library, out, path, program):
    """A row of the table, and whether it is right."""
    native = program(dict(os.environ), out)
    probed = Probed(library, out, path)
    before = time.time()
    same = program(probed.env, out) == native
    seconds = time.time() - before
    ways, others = collections.Counter(), collections.Counter()
    refused = collections.Counter()
    hits = 0
    for place in probed.places():
        hits += place["hits"]
        code = (place["reason"] or "").split(":")[0]
        if place["state"] != "armed":
            refused[code] += 1
            continue
        ways[place["method"] == "jump"] += 1
        if place["method"] != "jump":
            others[code] += 1
    functions, jumps = sum(ways.values()), ways[True]
    percent = 100 * jumps / max(functions, 1)
    codes = lambda counter: ", ".join(f"{count} {code}" for code, count in counter.most_common())
    what = "as without" if same else "DIFFERS"
    row = (f"{functions:,}", f"{jumps:,}", f"{percent:.2f} %", codes(others), codes(refused), f"{hits:,}", what, f"{seconds:.0f} s")
    return row, same and percent >= LEAST and hits > 0


def main():
    library, out = sys.argv[1:3]
    wanted = sys.argv[3:]
    print("Every function of each, by its symbols and its unwind tables, counted at once, in a program that uses it")
    print(f"and prints what it prints without. At least {LEAST:.0f} % must have a jump; the others have an int3.")
    print()
    print("| | functions | jump | | int3, because | refused | hits | output | |")
    print("|---|---:|---:|---:|---|---|---:|---|---:|")
    status = 0
    for name, path, program in objects():
        if wanted and name not in wanted:
            continue
        if not path:
            print(f"| {name} | not here | | | | | | | |")
            continue
        row, is_right = census(library, out, path, program)
        print(f"| {name} | {' | '.join(row)} |", flush=True)
        status |= not is_right
    sys.exit(status)


main()
