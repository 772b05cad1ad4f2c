"""The probes of a run, and what the summaries of all its processes say."""

import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

LD = "ld-linux-x86-64.so.2"
# libpthread and libdl are empty since glibc 2.34, and separate before.
OBJECTS = ("libc.so.6", LD, "libm.so.6", "libpthread.so.0", "libdl.so.2")

# How often finished summaries are read and removed: one is some 2 MB, and a test suite has
# thousands of processes.
COLLECT_SECONDS = 0.25


def _config(directory, entries):
    """Every function's calls, and the entries of those whose return is not followed."""
    lines = ["[summary]", f'path = "{directory}/%p.json"', 'format = "json"']
    for at in OBJECTS:
        lines += ["[[probe]]", f'at = "{at}:*"', 'kind = "call"', 'action = ["count"]']
    for at in entries:
        lines += ["[[probe]]", f'at = "{at}"', 'action = ["count"]']
    return "\n".join(lines) + "\n"


class Library:
    """The library under test, and what it refuses."""

    def __init__(self, path, scratch):
        self.path = Path(path).resolve()
        self.refused = []  # (object, function, reason)
        self.functions = {}  # object: how many there are
        self.entries = []  # OBJECT:FUNCTION of those of which only the return is refused
        self._learn(Path(scratch) / "learn")

    def _learn(self, directory):
        """Arms everything in a program that does nothing, and in one that has libm too."""
        for program in (["/bin/true"], ["/usr/bin/awk", "BEGIN { print sin(1) }"]):
            shutil.rmtree(directory, ignore_errors=True)
            armed = Armed(self, directory)
            subprocess.run(program, env={**os.environ, **armed.environment}, check=True, capture_output=True)
            for file in directory.glob("*.json"):
                probes = json.loads(file.read_text())["probes"]
                for soname in OBJECTS:
                    count = sum(probe["at"] == f"{soname}:*" and probe["state"] != "pending" for probe in probes)
                    self.functions[soname] = max(count, self.functions.get(soname, 0))
                for probe in probes:
                    self._note(probe)
            armed.close()

    def _note(self, probe):
        if probe["state"] != "refused":
            return
        soname = probe["at"].split(":")[0]
        found = (soname, probe["symbol"] or probe["name"], probe["reason"])
        if found in self.refused:
            return
        self.refused.append(found)
        if probe["reason"].startswith("return-denied"):
            self.entries.append(f"{soname}:{probe['symbol']}")


@dataclass
class Tally:
    """What the processes of a run reported, together."""

    processes: int = 0
    armed: int = 0  # probes, the most in one process
    armed_in_all: int = 0  # probes, in all processes together
    hits: int = 0
    nmissed: int = 0
    in_flight: int = 0
    unwound: int = 0
    unbalanced: list = field(default_factory=list)  # a probe of which hits != returns + unwound + in flight
    missed: dict = field(default_factory=dict)  # name: count
    broken: list = field(default_factory=list)  # summaries that are no JSON


class Armed(Tally):
    """One probed run: the environment that arms its processes, and what they report.

    A thread reads the summaries as they come; `close` reads the last ones and stops it.
    """

    def __init__(self, library, directory):
        super().__init__()
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        # Processes that changed their user write here too.
        self.directory.chmod(0o777)
        config = self.directory / "probes.toml"
        config.write_text(_config(self.directory, library.entries))
        self.environment = {"UPROBES": str(config), "LD_PRELOAD": str(library.path), "UPROBE_LOG": "error"}
        self._sizes = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def close(self):
        self._stop.set()
        self._thread.join()
        self._sweep(is_last=True)

    def _collect(self):
        while not self._stop.wait(COLLECT_SECONDS):
            self._sweep(is_last=False)

    def _sweep(self, is_last):
        for file in list(self.directory.glob("*.json*")):
            try:
                size = file.stat().st_size
                # Only what has not grown since the last look is worth reading.
                if not is_last and self._sizes.get(file.name) != size:
                    self._sizes[file.name] = size
                    continue
                summary = json.loads(file.read_text())
            except FileNotFoundError:
                continue
            except ValueError:
                if is_last:
                    self.broken.append(file.name)
                    file.rename(file.with_suffix(".broken"))
                continue
            self._sizes.pop(file.name, None)
            self._add(summary)
            file.unlink(missing_ok=True)

    def _add(self, summary):
        self.processes += 1
        armed = sum(probe["state"] == "armed" for probe in summary["probes"])
        self.armed = max(self.armed, armed)
        self.armed_in_all += armed
        for probe in summary["probes"]:
            hits = probe["hits"]
            if probe["nmissed"]:
                self.nmissed += probe["nmissed"]
                self.missed[probe["name"]] = self.missed.get(probe["name"], 0) + probe["nmissed"]
            if not hits and not probe["returns"]:
                continue
            self.hits += hits
            if probe["kind"] == "entry":
                continue
            self.in_flight += probe["in_flight"]
            self.unwound += probe["unwound"]
            if hits != probe["returns"] + probe["unwound"] + probe["in_flight"]:
                self.unbalanced.append(
                    f"{summary['exe']} ({summary['pid']}) {probe['name']}: {hits} hits, {probe['returns']} returns, "
                    f"{probe['unwound']} unwound, {probe['in_flight']} in flight"
                )
