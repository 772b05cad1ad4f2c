"""A case bare and probed: what differs, and whether it ever does so without us."""

import shutil
from dataclasses import dataclass, field

from . import process
from .case import Place
from .probes import Armed, Tally

# A verdict that differs counts only if it was not seen in any of so many bare runs.
BARE_RUNS = 3
# Where cases run now.
RUNNING = set()


@dataclass
class Result:
    name: str
    tests: int = 0
    differences: list = field(default_factory=list)  # (test, bare verdicts, probed verdict)
    once: list = field(default_factory=list)  # the same, but not when it was probed again
    flaky: list = field(default_factory=list)  # the same, but seen bare too
    bare_seconds: float = 0.0
    probed_seconds: float = 0.0
    armed: object = field(default_factory=Tally)


def compare(case, library, scratch):
    """Runs the case bare and probed; where a verdict differs, bare again."""
    result = Result(case.name)
    directory = scratch / case.name.replace("/", "_")

    def run(kind, probes):
        # The same name for each run: it is in what compilers and others write. Kept under its own.
        place = Place(directory / "run", dict(probes), case.timeout)
        place.clear()
        RUNNING.add(place.directory)
        try:
            verdicts = case.run(place)
        finally:
            # Daemons that left the session.
            process.kill_users_of(place.directory)
            RUNNING.discard(place.directory)
            shutil.rmtree(directory / kind, ignore_errors=True)
            place.directory.rename(directory / kind)
        return verdicts, place.seconds

    bare, result.bare_seconds = run("bare", {})
    if bare.get("status") == "timeout":
        raise OSError(f"it does not end in {case.timeout} s, bare")
    seen = {name: {verdict} for name, verdict in bare.items()}
    result.tests = len(bare)
    result.armed = Armed(library, directory / "summaries")
    try:
        probed, result.probed_seconds = run("probed", result.armed.environment)
    finally:
        result.armed.close()
    differing = _differing(seen, probed)
    for turn in range(2, BARE_RUNS + 1):
        if not differing:
            break
        again, _ = run(f"bare{turn}", {})
        for name in seen.keys() | again.keys():
            # A test that a run doesn't have is a verdict too.
            before = seen.setdefault(name, {None})
            before.add(again.get(name))
        differing = _differing(seen, probed)
    if differing:
        # A time limit on a busy machine, or a rare fault: named, and told from what always differs.
        again_armed = Armed(library, directory / "summaries2")
        try:
            again, _ = run("probed2", again_armed.environment)
        finally:
            again_armed.close()
        lasting = {difference[0] for difference in _differing(seen, again)}
        result.once = [difference for difference in differing if difference[0] not in lasting]
        differing = [difference for difference in differing if difference[0] in lasting]
    result.differences = differing
    result.flaky = [name for name, verdicts in seen.items() if len(verdicts) > 1]
    return result


def _differing(seen, probed):
    found = []
    for name in sorted(seen.keys() | probed.keys()):
        verdicts, verdict = seen.get(name, {None}), probed.get(name)
        if verdict not in verdicts:
            found.append((name, sorted(map(str, verdicts)), verdict))
    return found
