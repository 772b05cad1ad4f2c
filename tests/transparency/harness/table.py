"""What is printed: a line a case, a table row a workload, and the refused functions."""

from dataclasses import dataclass, field

BEGIN = "<!-- tests/transparency/run: begin -->"
END = "<!-- tests/transparency/run: end -->"
RETURN = "return-denied: "
# So many differences of one case are named; the others are counted.
NAMED = 40


@dataclass
class Row:
    title: str
    not_run: str = ""
    cases: int = 0
    armed: int = 0
    armed_in_all: int = 0
    processes: int = 0
    hits: int = 0
    tests: int = 0
    nmissed: int = 0
    bare: float = 0.0
    probed: float = 0.0
    differences: list = field(default_factory=list)
    once: list = field(default_factory=list)
    flaky: int = 0
    unbalanced: list = field(default_factory=list)

    def add(self, result):
        armed = result.armed
        self.cases += 1
        self.armed = max(self.armed, armed.armed)
        self.armed_in_all += armed.armed_in_all
        self.processes += armed.processes
        self.hits += armed.hits
        self.nmissed += armed.nmissed
        self.tests += result.tests
        self.bare += result.bare_seconds
        self.probed += result.probed_seconds
        self.differences += [(result.name, *difference) for difference in result.differences]
        self.once += [(result.name, *difference) for difference in result.once]
        self.flaky += len(result.flaky)
        self.unbalanced += armed.unbalanced

    @property
    def is_good(self):
        return not (self.not_run or self.differences or self.unbalanced) and self.hits > 0


def line(workload, result):
    """A case: one line, and one more for each thing that is wrong."""
    armed = result.armed
    slower = result.probed_seconds / max(result.bare_seconds, 0.001)
    lines = [
        f"{workload}/{result.name}: {result.tests} tests, {len(result.differences)} differences, {armed.armed} probes, "
        f"{armed.processes} processes, {armed.hits} hits, {armed.nmissed} missed, {len(armed.unbalanced)} unbalanced, "
        f"{result.bare_seconds:.1f} s, {slower:.1f} times as long"
    ]
    for name, bare, probed in result.differences[:NAMED]:
        lines.append(f"    DIFFERS {name}: bare {' or '.join(bare)}; probed {probed}")
    if len(result.differences) > NAMED:
        lines.append(f"    and {len(result.differences) - NAMED} more")
    lines += [f"    ONCE, of two probed runs: {name}: {probed}" for name, _, probed in result.once[:NAMED]]
    lines += [f"    unlike itself, bare: {name}" for name in result.flaky[:NAMED]]
    lines += [f"    UNBALANCED {text}" for text in armed.unbalanced[:NAMED]]
    lines += [f"    cut short, its process was killed meanwhile: {text}" for text in armed.broken]
    lines += [f"    missed {name}: {count}" for name, count in list(armed.missed.items())[:NAMED]]
    return "\n".join(lines)


def workloads(rows):
    """The table of the README, in markdown."""
    lines = [
        "| workload | cases | tests | differences | processes | probes in each | armed in all | hits | missed | slowdown |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row.not_run:
            lines.append(f"| {row.title} | not run: {row.not_run} | | | | | | | | |")
            continue
        lines.append(_cells(row.title, [row], "{}"))
    run = [row for row in rows if not row.not_run]
    if len(run) > 1:
        lines.append(_cells("all", run, "**{}**"))
    named = [f"- {case}: {test}: bare {' or '.join(bare)}; probed {probed}"
             for row in rows for case, test, bare, probed in row.differences]
    if named:
        lines += ["", "Differences:", "", *named]
    once = [f"- {case}: {test}: {probed}" for row in rows for case, test, _, probed in row.once]
    if once:
        lines += ["", "Not as bare in one of two probed runs (a time limit, mostly):", "", *once]
    return "\n".join(lines) + "\n"


def _cells(title, rows, form):
    """A line of the table: the sums of `rows`."""
    def total(value):
        return sum(value(row) for row in rows)

    cells = [
        title, f"{total(lambda row: row.cases):,}", f"{total(lambda row: row.tests):,}",
        str(total(lambda row: len(row.differences))), f"{total(lambda row: row.processes):,}",
        f"{max(row.armed for row in rows):,}", f"{total(lambda row: row.armed_in_all):,}",
        f"{total(lambda row: row.hits):,}", f"{total(lambda row: row.nmissed):,}",
        f"× {total(lambda row: row.probed) / max(total(lambda row: row.bare), 0.001):.1f}",
    ]
    return f"| {' | '.join(form.format(cell) for cell in cells)} |"


def refused(library):
    """The functions that are not followed, or not even counted, by reason."""
    lines = []
    for soname, functions in library.functions.items():
        found = [(name, reason) for of, name, reason in library.refused if of == soname]
        if not functions or not found:
            continue
        returns = [reason for _, reason in found if reason.startswith(RETURN)]
        lines.append(
            f"`{soname}`: {functions:,} functions. At the entry {len(found) - len(returns)} refused; "
            f"at the return {len(returns)}."
        )
    reasons = {}
    for soname, function, reason in library.refused:
        reasons.setdefault((soname, reason), []).append(function)
    lines += ["", "| object | side | functions | why |", "| --- | --- | --- | --- |"]
    for (soname, reason), functions in sorted(reasons.items(), key=lambda item: (item[0][0], -len(item[1]))):
        side = "return" if reason.startswith(RETURN) else "both"
        names = " ".join(f"`{name}`" for name in functions)
        lines.append(f"| {soname} | {side} | {names} | {reason.removeprefix(RETURN)} |")
    return "\n".join(lines) + "\n"


def into_readme(readme, text):
    """Puts `text` between the markers, where the file has them."""
    whole = readme.read_text()
    if BEGIN not in whole or END not in whole:
        print(f"README.md has no lines '{BEGIN}' and '{END}': not changed")
        return
    before, _, rest = whole.partition(BEGIN)
    _, _, behind = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{text}{END}{behind}")
