"""stress-ng: the stressors of signals, contexts, memory, scheduling and processes."""

import os
import re

from harness.case import Case

TITLE = "stress-ng (signals, contexts, vm, scheduling, processes)"
PACKAGES = ("stress-ng",)

# Each stressor, and how many of its operations: some seconds bare, where it can be. Not forkheavy and resources,
# which fill the disk.
SIGNALS = {
    "sigabrt": 400, "sigchld": 500, "sigfd": 20000, "sigfpe": 5000, "sigio": 5000, "signal": 50000, "signest": 5000,
    "sigpending": 20000, "sigpipe": 5000, "sigq": 20000, "sigrt": 5000, "sigsegv": 10000, "sigsuspend": 5000,
    "sigtrap": 20000, "kill": 10000, "itimer": 500, "timer": 10000, "timerfd": 5000, "fault": 1000, "alarm": 500,
    "pidfd": 2000, "aio": 5000, "clock": 5000, "nanosleep": 2000, "bad-altstack": 2000, "stack": 20, "stackmmap": 100,
    "opcode": 500, "vm-segv": 100, "sysbadaddr": 500, "ptrace": 200, "usersyscall": 2000, "aiol": 100, "landlock": 30,
}
CONTEXTS = {
    "context": 2000, "mcontend": 10, "tree": 2, "bsearch": 500, "longjmp": 50000, "funccall": 2000, "funcret": 2000,
}
MEMORY = {
    "brk": 20000, "madvise": 50, "malloc": 50000, "mmap": 50, "mmapaddr": 5000, "mmapfixed": 100, "mmapfork": 10,
    "mmapmany": 5000, "mprotect": 20000, "mremap": 20, "msync": 100, "munmap": 500, "pagemove": 200, "remap": 20,
    "shm": 20, "shm-sysv": 200, "vm": 5000, "vm-addr": 50, "vm-rw": 500, "vm-splice": 5000, "bigheap": 5000,
    "env": 500, "userfaultfd": 500, "memfd": 200, "mincore": 5000, "mlock": 2000, "zlib": 100, "memcpy": 500,
    "str": 500, "wcs": 500, "hsearch": 200, "tsearch": 20, "lsearch": 10, "qsort": 5, "heapsort": 5, "radixsort": 10,
    "crypt": 200, "dekker": 50000, "peterson": 50000, "x86syscall": 5000, "vdso": 50000, "rlimit": 500, "seccomp": 50,
    "enosys": 5, "syscall": 100, "msyncmany": 50, "tlb-shootdown": 100, "prctl": 1000, "set": 1000, "get": 500,
}
SCHEDULING = {
    "affinity": 5000, "eventfd": 20000, "fifo": 20000, "futex": 50000, "hrtimers": 5000, "inotify": 20, "mq": 20000,
    "msg": 50000, "mutex": 5000, "nice": 10, "poll": 5000, "epoll": 500, "pthread": 5000, "resched": 10,
    "schedpolicy": 100, "sem": 200, "sem-sysv": 20000, "sleep": 500, "switch": 50000, "tee": 2000, "yield": 50000,
    "dnotify": 200, "pipe": 200000, "pipeherd": 100, "splice": 5000, "sockpair": 2000, "sock": 500, "udp": 2000,
    "loadavg": 50, "membarrier": 100, "ring-pipe": 10000, "sockfd": 5000, "netlink-task": 1000,
}
PROCESSES = {
    "clone": 200, "daemon": 50, "exec": 100, "exit-group": 100, "fork": 500, "session": 50, "spawn": 100,
    "vfork": 5000, "vforkmany": 5, "wait": 100, "zombie": 100, "dup": 1000, "dynlib": 100, "personality": 500,
    "pty": 10, "procfs": 5, "unshare": 20, "nanosleep": 500, "race-sched": 20, "close": 2000, "fcntl": 2000,
    "chroot": 50, "getdent": 500, "key": 200,
}
SHORT = (
    "signal", "sigsegv", "sigtrap", "sigsuspend", "sigfpe", "sigabrt", "timer", "bad-altstack", "context", "longjmp",
    "mprotect", "pthread", "futex", "fork", "vfork", "clone", "exec", "spawn", "exit-group", "aio",
)
# They run nothing as root.
UNPRIVILEGED = {"exec", "spawn"}
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
# The short form has so many times fewer operations.
SHORTER = 10
# They start a hundred processes each.
ALONE = {"pipeherd"}
# Ends where the operations don't.
SECONDS = 30


def cases(short):
    operations = {**SIGNALS, **CONTEXTS, **MEMORY, **SCHEDULING, **PROCESSES}
    names = SHORT if short else sorted(operations)

    def count(name):
        return max(operations[name] // SHORTER, 1) if short else operations[name]

    return [Case(name, lambda place, name=name: _stressor(place, name, count(name)), 3 * SECONDS) for name in names]


def _stressor(place, name, operations):
    workers = 1 if name in ALONE else 2
    outcome = place.run(
        [*(NOBODY if name in UNPRIVILEGED else []), "stress-ng", f"--{name}", workers, f"--{name}-ops", operations,
         "--timeout", f"{SECONDS}s", "--verify", "--metrics-brief", "--no-rand-seed",
         "--vm-bytes", "64M", "--temp-path", place.directory, *(["--mmap-bytes", "16M"] if "mmap" in name else [])],
    )
    text = outcome.stdout + outcome.stderr
    (place.directory / "output").write_text(text)
    verdicts = {"status": str(outcome.status)}
    for line in text.splitlines():
        if found := re.match(r"stress-ng: (fail|error|warn|info): +\[\d+\] (.*)", line):
            if found[1] in ("fail", "error") or "skip" in found[2] or "terminated" in found[2]:
                verdicts[re.sub(r"\d+", "N", found[2])] = found[1]
        elif line.startswith("uprobe: the report can't be written"):
            # Where it lowered what it may write for good, and has ended: said by us, not by the program.
            continue
        elif not line.startswith("stress-ng:"):
            verdicts[re.sub(r"0x[0-9a-f]+|\d+", "N", line)] = "printed"
    return verdicts
