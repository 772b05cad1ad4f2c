"""compare.py LIBRARY OUT [ROUNDS]: all candidates in one run, round by round in turns.

OUT holds the target program in its three forms: target, target-nop5, target-pg."""

import math
import os
import statistics
import subprocess
import sys
from types import SimpleNamespace

from candidate import BARE, Candidate, Missing, Ours
from rows import ABOUT, BARS, candidates
from worker import NoAnswer

LEAST_ROUNDS = 15


def start_all(rows, place):
    for row in rows:
        try:
            row.start(place)
            row.round()
            row.rounds.clear()
        except (Missing, NoAnswer) as why:
            row.missing = str(why) or "the program ended or gave no answer"


def run_rounds(rows, rounds):
    """Each round begins with another row, so that nobody always follows the same neighbour."""
    for number in range(rounds):
        for at in range(len(rows)):
            row = rows[(at + number * 7) % len(rows)]
            if row.missing is None:
                try:
                    row.round()
                except NoAnswer:
                    row.missing = f"the program ended or gave no answer in round {number + 1}"


def stop_all(rows):
    for row in rows:
        try:
            if row.missing is None:
                row.stop()
        except (NoAnswer, OSError, ValueError, LookupError, subprocess.TimeoutExpired) as why:
            row.count = f"not known: {why or 'no answer'}"
        row.close()


def above_bare(row, by_name):
    """Nanoseconds a call above the bare call of the same round: median, least, greatest."""
    bare = by_name[row.bare].rounds if row.bare else [0.0] * len(row.rounds)
    extra = [one - other for one, other in zip(row.rounds, bare) if math.isfinite(one) and math.isfinite(other)]
    if not extra:
        row.missing = "its two threads never ran at the same time"
        return
    row.ns, row.least, row.greatest = statistics.median(extra), min(extra), max(extra)


def number(value):
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def table(rows, by_name):
    lines = ["| | ns per call | min | max | to its floor | count |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        if isinstance(row, str):
            lines.append(f"| **{row}** | | | | | |")
        elif row.missing is not None:
            lines.append(f"| {row.label} | missing | | | | {row.missing} |")
        else:
            floor = by_name.get(row.floor)
            ratio = ""
            if floor is not None and floor.missing is None and floor.ns > 0:
                ratio = f"{row.ns / floor.ns:.2f} × {floor.label}"
            method = getattr(row, "method", None)
            label = row.label + (f" ({method})" if method else "")
            count = row.count + ("; LOSES vector registers" if row.loses_vectors else "")
            lines.append(
                f"| {label} | {number(row.ns)} | {number(row.least)} | {number(row.greatest)} | {ratio} | {count} |"
            )
    return lines


def check(bars, by_name):
    """The lines of the table of bars, and whether one was missed."""
    lines, missed = ["| bar | measured | |", "|---|---:|---|"], False
    for bar in bars:
        verdict = bar.judge({name: row for name, row in by_name.items() if row.missing is None})
        missed |= verdict[1].startswith("missed")
        lines.append(f"| {bar.label} | {verdict[0]} | {verdict[1]} |")
    return lines, missed


def main():
    library, out = (os.path.abspath(path) for path in sys.argv[1:3])
    rounds = max(int(sys.argv[3]) if len(sys.argv) > 3 else 21, LEAST_ROUNDS)
    place = SimpleNamespace(
        library=library,
        out=out,
        target=os.path.join(out, "target"),
        target_nop5=os.path.join(out, "target-nop5"),
        target_pg=os.path.join(out, "target-pg"),
        crates=os.path.join(out, "peers", "release", "libbench_peers.so"),
    )
    lines = candidates()
    rows = [line for line in lines if isinstance(line, Candidate)]
    by_name = {row.name: row for row in rows}
    start_all(rows, place)
    run_rounds(rows, rounds)
    stop_all(rows)
    for row in rows:
        if row.missing is None:
            above_bare(row, by_name)
    print(ABOUT.format(rounds=rounds, bare=f"{statistics.median(by_name[BARE].rounds):.1f}"))
    print()
    print("\n".join(table(lines, by_name)))
    print()
    bars, missed = check(BARS, by_name)
    print("\n".join(bars))
    wrong = any(not row.is_sound() for row in rows if isinstance(row, Ours) and row.missing is None)
    return 1 if missed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
