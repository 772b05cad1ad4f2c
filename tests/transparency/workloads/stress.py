"""stress-ng: the stressors of signals, contexts, memory, scheduling and processes."""

import re

from harness.case import Case

TITLE = "stress-ng (signals, contexts, vm, scheduling, processes)"
PACKAGES = ("stress-ng",)

# Each stressor, and how many of its operations. Not forkheavy and resources, which fill the disk.
SIGNALS = {
    "sigabrt": 200, "sigchld": 500, "sigfd": 2000, "sigfpe": 500, "sigio": 500, "signal": 5000, "signest": 500, "sigpending": 2000,
    "sigpipe": 500, "sigq": 2000, "sigrt": 500, "sigsegv": 1000, "sigsuspend": 500, "sigtrap": 2000, "kill": 1000, "itimer": 500,
    "timer": 1000, "timerfd": 500, "fault": 1000, "alarm": 50, "pidfd": 200, "aio": 500, "clock": 500, "nanosleep": 200,
    "bad-altstack": 200, "stack": 200, "stackmmap": 100, "opcode": 50, "vm-segv": 100, "sysbadaddr": 500, "ptrace": 200,
}
CONTEXTS = {"context": 2000, "mcontend": 100, "tree": 10, "bsearch": 50, "longjmp": 50000, "funccall": 200, "funcret": 200}
MEMORY = {
    "brk": 2000, "madvise": 50, "malloc": 5000, "mmap": 50, "mmapaddr": 500, "mmapfixed": 500, "mmapfork": 10, "mmapmany": 500,
    "mprotect": 2000, "mremap": 50, "msync": 100, "munmap": 50, "pagemove": 20, "remap": 20, "shm": 20, "shm-sysv": 20, "vm": 500,
    "vm-addr": 50, "vm-rw": 50, "vm-splice": 500, "bigheap": 500, "env": 50, "userfaultfd": 50, "memfd": 20,
    "mincore": 500, "mlock": 200, "zlib": 10, "memcpy": 50, "str": 50, "wcs": 50, "strtod": 50, "hsearch": 20, "tsearch": 20,
    "lsearch": 10, "qsort": 5, "heapsort": 5, "radixsort": 10, "crypt": 20, "dekker": 5000, "peterson": 5000, "x86syscall": 500,
    "vdso": 5000, "rlimit": 50, "seccomp": 50, "enosys": 5, "prctl": 100, "set": 100, "get": 50,
}
SCHEDULING = {
    "affinity": 500, "eventfd": 2000, "fifo": 2000, "futex": 5000, "hrtimers": 500, "inotify": 20, "mq": 2000, "msg": 5000,
    "mutex": 5000, "nice": 10, "poll": 500, "epoll": 500, "pthread": 500, "resched": 10, "schedpolicy": 500, "sem": 5000,
    "sem-sysv": 2000, "sleep": 50, "switch": 5000, "tee": 200, "yield": 5000, "dnotify": 20, "pipe": 20000, "pipeherd": 1000,
    "splice": 500, "sockpair": 200, "sock": 50, "udp": 200, "loadavg": 50, "membarrier": 100, "rseq": 20, "sctp": 20,
}
PROCESSES = {
    "clone": 200, "daemon": 50, "exec": 100, "exit-group": 100, "fork": 500, "session": 50, "spawn": 100,
    "vfork": 500, "vforkmany": 50, "wait": 100, "zombie": 100, "dup": 1000, "dynlib": 100, "personality": 50, "pty": 10, "procfs": 5,
    "unshare": 20, "nanosleep": 50, "race-sched": 20, "close": 200, "fcntl": 200, "chroot": 50, "getdent": 50, "key": 20,
}
SHORT = (
    "signal", "sigsegv", "sigtrap", "sigsuspend", "sigfpe", "sigabrt", "timer", "bad-altstack", "context", "longjmp",
    "mprotect", "pthread", "futex", "fork", "vfork", "clone", "exec", "spawn", "exit-group", "aio",
)
# Ends where the operations don't.
SECONDS = 60


def cases(short):
    operations = {**SIGNALS, **CONTEXTS, **MEMORY, **SCHEDULING, **PROCESSES}
    names = SHORT if short else sorted(operations)
    return [Case(name, lambda place, name=name: _stressor(place, name, operations[name]), 3 * SECONDS) for name in names]


def _stressor(place, name, operations):
    outcome = place.run(
        ["stress-ng", f"--{name}", "2", f"--{name}-ops", operations, "--timeout", f"{SECONDS}s", "--verify", "--metrics-brief",
         "--no-rand-seed", "--vm-bytes", "64M", "--temp-path", place.directory, *(["--mmap-bytes", "16M"] if "mmap" in name else [])],
    )
    text = outcome.stdout + outcome.stderr
    (place.directory / "output").write_text(text)
    verdicts = {"status": str(outcome.status)}
    for line in text.splitlines():
        if found := re.match(r"stress-ng: (fail|error|warn|info): +\[\d+\] (.*)", line):
            if found[1] in ("fail", "error") or "skip" in found[2] or "terminated" in found[2]:
                verdicts[re.sub(r"\d+", "N", found[2])] = found[1]
        elif not line.startswith("stress-ng:"):
            verdicts[re.sub(r"0x[0-9a-f]+|\d+", "N", line)] = "printed"
    return verdicts
