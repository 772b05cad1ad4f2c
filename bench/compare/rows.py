"""The rows of the comparison, and the bars."""

from candidate import BARE, Candidate, Ours
from peers import Absent, Bpftrace, Crate, Frida, Ltrace, Tracefs, Uftrace

ABOUT = """Nanoseconds per call above the bare call ({bare} ns), of one target program in one run: {rounds} rounds, in turns
between all rows. A round is the least of 25 batches of about 60 us; the table has the median of the rounds, the
least and the greatest. A ratio is one of medians. Peers with their own cost in another process are measured in
the program as the rest. The count is the candidate's own: exact, where it has seen every call made."""


def floors():
    yield "Floors, written by hand"
    yield Candidate(BARE, "the bare call (itself)", bare=None)
    yield Candidate("bare-chain", "the bare call under eight callers (itself)", shape="chain", bare=None)
    yield Candidate("bare-threads", "the bare call in two threads (itself)", shape="threads", bare=None)
    yield Candidate("bare-nop5", "the bare call, with a 5-byte nop (itself)", program="target_nop5", function="work_nop5", bare=None)
    yield Candidate("bare-push", "the bare call, with a frame (itself)", function="work_push", bare=None)
    for name, label in (
        ("floor_jump", "jump and back"),
        ("floor_count", "jump, inc fs:cell"),
        ("floor_count_indirect", "jump, push, inc through a thread's pointer, pop"),
        ("floor_save", "jump, 15 registers and flags saved, C function"),
        ("floor_save_xmm", "the same and xmm0-15"),
        ("floor_save_ymm", "the same and ymm0-15"),
        ("floor_save_zmm", "the same and zmm0-31, k0-7"),
        ("floor_save_xsavec", "the same by xsavec and xrstor"),
        ("floor_stub", "paired return stub"),
        ("floor_stub_ticks", "paired return stub, two rdtsc"),
        ("floor_stub_histogram", "paired return stub, two rdtsc, histogram"),
    ):
        yield Candidate(name, label, function=name)
    yield Candidate("floor_int3", "int3, SIGTRAP, return", function="floor_int3", setup="sigtrap")
    yield Candidate(
        "floor_int3_stub", "int3, SIGTRAP, return by a stub", function="floor_int3_stub", setup="sigtrap-stub"
    )
    yield Candidate(
        "floor_stub_chain", "paired return stub under eight callers",
        function="floor_stub", shape="chain", bare="bare-chain",
    )
    yield Candidate(
        "floor_count_threads", "jump, inc fs:cell, two threads",
        function="floor_count", shape="threads", bare="bare-threads",
    )


COUNT = 'action = ["count"]'
TWO = 'args = ["a=$arg1:s32", "b=$arg2:s32"]\naction = ["log"]'
FALSE = 'args = ["b=$arg2:s32"]\nfilter = "b == -1"\naction = ["count"]'
CHAINED = 'args = ["a=$arg1:s32", "b=$arg2:s32"]\nfilter = "a == 4711 || b >= 0 && !(b & 0x40000000)"\n'
HIST = 'args = ["b=$arg2:s32"]\naction = ["hist(b)"]'
CALL = 'kind = "call"\n' + COUNT
RETURN = 'kind = "return"\n' + COUNT
PLUGIN = 'action = ["call(OUT/nothing.so:nothing)"]'
INT3 = '\nmethod = "int3"'
TRACE = 'path = "OUT/trace-%p"\nformat = "trace"'
CHAIN = {"shape": "chain", "bare": "bare-chain"}
THREADS = {"shape": "threads", "bare": "bare-threads"}


def ours():
    yield "libuprobe"
    yield Ours("count", "count", COUNT, floor="floor_count")
    yield Ours("handler", "entry, C handler", setup="handler", floor="floor_save_xsavec")
    yield Ours("handler-novec", "entry, C handler without vectors", setup="handler-novec", floor="floor_save")
    yield Ours("handler-own", "entry, C handler, counted by each thread", setup="handler-own", floor="floor_save_xsavec")
    yield Ours("handler-novec-own", "entry, C handler without vectors, counted by each thread", setup="handler-novec-own", floor="floor_save")
    yield Ours("return", "return, C handler", setup="return", floor="floor_stub")
    yield Ours("return-both", "entry and return, C handlers", setup="return-both", floor="floor_stub")
    yield Ours("return-count", "kind = return, count", RETURN, floor="floor_stub")
    yield Ours("call", "kind = call, latency histogram", CALL, floor="floor_stub_ticks")
    yield Ours("filter", "a filter that says no", FALSE, count="filtered", floor="floor_save")
    yield Ours("filter-chain", "a filter of three comparisons that says yes, count", CHAINED + COUNT, floor="floor_count")
    yield Ours("hist", "hist of an argument", HIST, floor="floor_count")
    yield Ours("filter-call", "a filter of three comparisons that says yes, latency histogram", 'kind = "call"\n' + CHAINED + COUNT, floor="floor_stub_ticks")
    yield Ours("log-text", "log two integers, text, to /dev/null", TWO, floor="floor_save")
    yield Ours("log-trace", "log two integers, trace", TWO, output=TRACE, floor="floor_save")
    yield Ours("filter-log", "the same behind a filter of three comparisons", CHAINED + 'action = ["log"]', output=TRACE, floor="floor_save")
    yield Ours("plugin", "a C handler named in a config", PLUGIN, floor="floor_save_xsavec")
    yield Ours("post", "C pre_handler and post_handler", setup="post", floor="floor_int3")
    yield Ours("int3-count", "int3: count", COUNT + INT3, floor="floor_int3")
    yield Ours("int3-plugin", "int3: a C handler named in a config", PLUGIN + INT3, floor="floor_int3")
    yield Ours("int3-return", "int3: entry and return, count", RETURN + INT3, floor="floor_int3_stub")
    yield Ours("int3-call", "int3: kind = call, latency histogram", CALL + INT3, floor="floor_int3_stub")
    yield "libuprobe, under eight callers"
    yield Ours("chain-count", "count", COUNT, **CHAIN)
    yield Ours("chain-handler", "entry, C handler", setup="handler", **CHAIN)
    yield Ours("chain-return", "return, C handler", setup="return", floor="floor_stub_chain", **CHAIN)
    yield Ours("chain-return-count", "kind = return, count", RETURN, floor="floor_stub_chain", **CHAIN)
    yield Ours("chain-call", "kind = call, latency histogram", CALL, **CHAIN)
    yield "libuprobe, two threads on one probe (per thread)"
    yield Ours("threads-count", "count", COUNT, floor="floor_count_threads", **THREADS)
    yield Ours("threads-handler", "entry, C handler", setup="handler", **THREADS)
    yield Ours("threads-handler-novec", "entry, C handler without vectors", setup="handler-novec", **THREADS)
    yield Ours("threads-handler-own", "entry, C handler, counted by each thread", setup="handler-own", **THREADS)
    yield Ours("threads-handler-novec-own", "entry, C handler without vectors, counted by each thread", setup="handler-novec-own", **THREADS)
    yield Ours("threads-return-count", "kind = return, count", RETURN, **THREADS)
    yield Ours("threads-call", "kind = call, latency histogram", CALL, **THREADS)


BPF_COUNT = "uprobe:PLACE { @ = count(); }"
BPF_BOTH = "uprobe:PLACE { @e = count(); } uretprobe:PLACE { @ = count(); }"
BPF_HISTOGRAM = (
    "uprobe:PLACE { @start[tid] = nsecs; } uretprobe:PLACE /@start[tid]/ "
    "{ @ = count(); @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }"
)
NOP5 = {"function": "work_nop5", "bare": "bare-nop5"}
PUSH = {"function": "work_push", "bare": "bare-push"}


def peers():
    yield "The kernel"
    yield Bpftrace("bpf-count-nop5", "uprobe, count, bpftrace, at a 5-byte nop", BPF_COUNT, **NOP5)
    yield Bpftrace("bpf-count-push", "the same at a push, emulated", BPF_COUNT, **PUSH)
    yield Bpftrace("bpf-count", "the same at endbr64, stepped", BPF_COUNT)
    yield Bpftrace("bpf-both-nop5", "uprobe and uretprobe, counts, at a 5-byte nop", BPF_BOTH, **NOP5)
    yield Bpftrace("bpf-hist-nop5", "latency histogram, at a 5-byte nop", BPF_HISTOGRAM, **NOP5)
    yield Bpftrace("bpf-hist-push", "latency histogram, at a push", BPF_HISTOGRAM, **PUSH)
    yield Bpftrace("bpf-hist", "latency histogram, at endbr64", BPF_HISTOGRAM)
    yield Tracefs("tracefs-nop5", "tracefs: log two integers, at a 5-byte nop", **NOP5)
    yield Tracefs("tracefs", "tracefs: log two integers, at endbr64")
    yield "Others"
    yield Frida("frida-probe", "Frida, C, probe", "probe")
    yield Frida("frida-enter", "Frida, C, enter", "enter")
    yield Frida("frida-both", "Frida, C, enter and leave", "both")
    yield Uftrace("uftrace", "uftrace -P, entry and return recorded")
    yield Uftrace("uftrace-pg", "uftrace, compiled with -pg", pg=True, function="work_pg")
    yield Ltrace("ltrace", "ltrace -c")
    yield Crate("ilhook", "ilhook, registers to a function", "ilhook")
    yield Crate("retour", "retour, replacement", "retour")
    yield Crate("sighook", "sighook, int3", "sighook")
    yield Absent("funchook", "funchook, replacement", "no package: cmake and a library of its own")


def candidates():
    """Rows, and headings as plain strings."""
    return [*floors(), *ours(), *peers()]


class Bar:
    """`row` at most `most` times what the rows `to` have (the least of those there are), or `ns` absolutely.
    With `least`: `to` at least so many times `row`."""

    def __init__(self, label, row, to=(), most=None, least=None, ns=None):
        self.label, self.row, self.to = label, row, to
        self.most, self.least, self.ns = most, least, ns

    def judge(self, rows):
        row = rows.get(self.row)
        others = [rows[name] for name in self.to if name in rows and rows[name].is_sound()]
        if row is None:
            return "", "not measured"
        if self.to and not others:
            return "", "not measured: nothing to compare with"
        value = f"{row.ns:.1f} ns"
        is_met = self.ns is not None and row.ns <= self.ns
        if others:
            other = min(one.ns for one in others)
            ratio = other / row.ns if self.least else row.ns / other
            value += f"; {ratio:.2f} × ({other:.1f} ns)"
            is_met |= ratio >= self.least if self.least else ratio <= self.most
        if not row.is_sound():
            return value, "missed: it is not right"
        return value, "met" if is_met else "missed"


BPF_HISTOGRAMS = ("bpf-hist-nop5", "bpf-hist-push", "bpf-hist")
BARS = (
    Bar("count: at most 2 × inc fs:cell, or 1.5 ns", "count", ("floor_count",), most=2, ns=1.5),
    Bar("C handler without vectors: at most 1.3 × registers and flags by hand", "handler-novec", ("floor_save",), most=1.3),
    Bar("C handler without vectors: at most ilhook's", "handler-novec", ("ilhook",), most=1),
    Bar("C handler, vectors kept: at most 1.2 × xsavec by hand", "handler", ("floor_save_xsavec",), most=1.2),
    Bar("call: at most 1.3 × paired stub and two rdtsc", "call", ("floor_stub_ticks",), most=1.3),
    Bar("call: 4 × faster than uftrace, program as it is", "call", ("uftrace",), least=4),
    Bar("call: 7 × faster than Frida's enter and leave", "call", ("frida-both",), least=7),
    Bar("call: 40 × faster than the kernel's best histogram", "call", BPF_HISTOGRAMS, least=40),
    Bar("log of two integers, trace: at most 40 ns", "log-trace", ns=40),
    Bar("two threads, count: per thread as one (+10 % or 1 ns)", "threads-count", ("count",), most=1.1, ns=1),
    Bar("two threads, C handler, counted by each thread: per thread as one (+10 %)", "threads-handler-own", ("handler-own",), most=1.1),
    Bar("the same without vectors (+10 % or 1 ns)", "threads-handler-novec-own", ("handler-novec-own",), most=1.1),
    Bar("two threads, C handler, one count for all: per thread as one (+10 %)", "threads-handler", ("handler",), most=1.1),
    Bar("two threads, return: per thread as one (+10 %)", "threads-return-count", ("return-count",), most=1.1),
    Bar("two threads, call: per thread as one (+10 %)", "threads-call", ("call",), most=1.1),
    Bar("int3 entry: at most 1.1 × the floor", "int3-count", ("floor_int3",), most=1.1),
    Bar("int3 entry and return: at most 1.1 × the floor", "int3-return", ("floor_int3_stub",), most=1.1),
    Bar("return under eight callers: as a single one (+10 %)", "chain-return-count", ("return-count",), most=1.1),
    Bar("call under eight callers: as a single one (+10 %)", "chain-call", ("call",), most=1.1),
)
