# What a Python program uses: containers, strings, floats, exceptions, generators, threads,
# processes, files, regular expressions, hashes, compression. Prints the same in every run.
import hashlib, json, math, os, re, subprocess, sys, tempfile, threading, zlib

results = []

def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

def work(k):
    table = {i: str(i * k) for i in range(500)}
    try:
        raise ValueError(k)
    except ValueError as error:
        text = json.dumps({"table": table, "error": error.args}, sort_keys=True)
    results.append((k, hashlib.sha256(text.encode()).hexdigest()))

threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
for k, digest in sorted(results):
    print(k, digest)
print(fibonacci(12), sum(math.sin(i) for i in range(1000)))
print(re.sub(r"(\w)(\d+)", r"\2\1", "a1 b22 c333 " * 3))
data = bytes(range(256)) * 100
assert zlib.decompress(zlib.compress(data)) == data
with tempfile.NamedTemporaryFile("w+") as file:
    for i in range(1000):
        print(i, file=file)
    file.seek(0)
    print(sum(int(line) for line in file))
print(subprocess.run(["/bin/echo", "from a child"], capture_output=True, text=True).stdout, end="")
print(subprocess.run([sys.executable, "-S", "-c", "print(6 * 7); raise SystemExit(3)"]).returncode)
pid = os.fork()
if pid == 0:
    os._exit(17)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
sys.stdout.flush()
sys.exit(5)
