"""Other people's tools, where they are installed."""

import os
import re
import select
import shutil
import signal
import subprocess
import time

from candidate import Candidate, Missing
from worker import Worker

READY_SECONDS = 30
TRACEFS = "/sys/kernel/tracing"


def need(tool):
    found = shutil.which(tool)
    if not found:
        raise Missing(f"{tool} is not installed")
    return found


def wait_until(condition, what):
    end = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise Missing(what)
        time.sleep(0.05)


class Kernel(Candidate):
    """A uprobe is on a file: each candidate has a copy of the program to itself."""

    def copy(self, place):
        path = os.path.join(place.out, f"target-{self.name}")
        shutil.copy(place.target_nop5, path)
        return path

    def until_armed(self, original):
        def is_armed():
            if self.process is not None and self.process.poll() is not None:
                raise Missing(self.process.stderr.read().strip().splitlines()[-1])
            return self.worker.text() != original

        wait_until(is_armed, "was not armed in time")


class Bpftrace(Kernel):
    """PROGRAM has PATH where the probe's place is; its map @ is the count."""

    def __init__(self, name, label, program, **others):
        super().__init__(name, label, **others)
        self.program = program

    def start(self, place):
        tool = need("bpftrace")
        if os.geteuid() != 0:
            raise Missing("bpftrace needs root")
        path = self.copy(place)
        self.worker = Worker(path, self.function, self.shape, self.setup)
        original = self.worker.text()
        program = self.program.replace("PLACE", f"{path}:{self.function}")
        self.process = subprocess.Popen(
            [tool, "-e", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.until_armed(original)
        # Several probes of one program are attached one after the other.
        time.sleep(1)

    def counted(self, _calls, _in_program):
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=READY_SECONDS)
        found = re.search(r"^@: (\d+)$", output, re.MULTILINE)
        return int(found.group(1)) if found else 0


class Tracefs(Kernel):
    """An event of uprobe_events in the kernel's ring buffer."""

    def start(self, place):
        if not os.path.exists(f"{TRACEFS}/uprobe_events"):
            raise Missing(f"mount -t tracefs nodev {TRACEFS}")
        path = self.copy(place)
        symbols = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout
        offset = re.search(rf"^([0-9a-f]+) T {self.function}$", symbols, re.MULTILINE).group(1)
        self.event = f"bench_{os.getpid()}_{self.name.replace('-', '_')}"
        self.worker = Worker(path, self.function, self.shape, self.setup)
        original = self.worker.text()
        try:
            self.define(f"p:uprobes/{self.event} {path}:0x{offset} a=%di:s32 b=%si:s32\n")
            self.enable(1)
        except OSError as error:
            raise Missing(f"uprobe_events: {error}") from None
        self.until_armed(original)

    def enable(self, value):
        with open(f"{TRACEFS}/events/uprobes/{self.event}/enable", "w") as enable:
            enable.write(str(value))

    def counted(self, _calls, _in_program):
        with open(f"{TRACEFS}/uprobe_profile") as profile:
            count = [int(line.split()[2]) for line in profile if line.split()[1] == self.event][0]
        self.enable(0)
        self.define(f"-:uprobes/{self.event}\n")
        return count

    def define(self, line):
        # Not open(): "w" would truncate the list, and "a" seeks, which it can't.
        events = os.open(f"{TRACEFS}/uprobe_events", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(events, line.encode())
        finally:
            os.close(events)


class Frida(Candidate):
    """Interceptor with callbacks in C, in the process, loaded from outside."""

    def __init__(self, name, label, kind, **others):
        super().__init__(name, label, **others)
        self.kind = kind

    def start(self, place):
        python = os.environ.get("BENCH_FRIDA_PYTHON", "python3")
        host = os.path.join(os.path.dirname(__file__), "frida_host.py")
        self.worker = Worker(place.target, self.function, self.shape, self.setup)
        self.process = subprocess.Popen(
            [python, host, str(self.worker.pid), self.function, self.kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        ready = select.select([self.process.stdout], [], [], READY_SECONDS)[0]
        if not ready or self.process.stdout.readline().strip() != "ready":
            self.process.kill()
            said = self.process.communicate()[1].strip().splitlines()
            raise Missing(said[-1] if said else "frida did not answer")

    def stop(self):
        output, _ = self.process.communicate("count\n", timeout=READY_SECONDS)
        self.count_there = int(output.split()[-1])
        super().stop()

    def counted(self, _calls, _in_program):
        return self.count_there


class Uftrace(Candidate):
    """Records an entry and an exit with their times, for a report afterwards."""

    def __init__(self, name, label, pg=False, **others):
        super().__init__(name, label, **others)
        self.pg = pg

    def start(self, place):
        self.tool = need("uftrace")
        self.data = os.path.join(place.out, f"uftrace-{self.name}")
        shutil.rmtree(self.data, ignore_errors=True)
        options = [] if self.pg else ["-P", f"^{self.function}$"]
        before = [self.tool, "record", "--no-libcall", "--no-event", *options, "-d", self.data]
        target = place.target_pg if self.pg else place.target
        self.worker = Worker(target, self.function, self.shape, self.setup, before=before)
        self.worker.text()

    def counted(self, _calls, _in_program):
        command = [self.tool, "report", "--no-pager", "-f", "call", "-d", self.data]
        report = subprocess.run(command, capture_output=True, text=True).stdout
        found = re.search(rf"^\s*(\d+)\s+{self.function}$", report, re.MULTILINE)
        shutil.rmtree(self.data, ignore_errors=True)
        return int(found.group(1)) if found else 0


class Ltrace(Candidate):
    """ptrace: the tracer is another process."""

    def start(self, place):
        tool = need("ltrace")
        self.report = os.path.join(place.out, "ltrace.txt")
        before = [tool, "-c", "-x", f"{self.function}@MAIN", "-e", "none", "-o", self.report]
        self.worker = Worker(place.target, self.function, self.shape, self.setup, before=before)
        self.worker.text()

    def counted(self, _calls, _in_program):
        with open(self.report) as text:
            found = re.search(rf"(\d+) {self.function}$", text.read(), re.MULTILINE)
        return int(found.group(1)) if found else 0


class Crate(Candidate):
    """A Rust hook library, preloaded: bench/peers, which says how it is built."""

    def __init__(self, name, label, crate, **others):
        super().__init__(name, label, setup="peer", **others)
        self.crate = crate

    def start(self, place):
        if not os.path.exists(place.crates):
            raise Missing("bench/peers is not built")
        env = {"LD_PRELOAD": place.crates, "BENCH_PEER": self.crate, "BENCH_FUNCTION": self.function}
        self.worker = Worker(place.target, self.function, self.shape, self.setup, env)
        self.worker.text()


class Absent(Candidate):
    """One that nobody can install by a package: named, so that it is not silently left out."""

    def __init__(self, name, label, why):
        super().__init__(name, label)
        self.why = why

    def start(self, _place):
        raise Missing(self.why)
