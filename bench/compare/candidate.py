"""What is measured: a floor, a way of ours, or a peer."""

import json
import os

from worker import NoAnswer, Worker

BARE = "bare"


class Missing(Exception):
    """Why a candidate can't be measured here."""


class Candidate:
    """A row. `bare` and `floor` are the names of other rows."""

    def __init__(self, name, label, function="work", shape="single", setup="none", bare=BARE, floor=None,
                 program="target"):
        self.name, self.label = name, label
        self.function, self.shape, self.setup = function, shape, setup
        self.bare, self.floor, self.program = bare, floor, program
        self.rounds = []
        self.missing = None
        self.count = ""
        self.loses_vectors = False
        self.worker = self.process = None

    def start(self, place):
        self.worker = Worker(getattr(place, self.program), self.function, self.shape, self.setup)

    def round(self):
        self.rounds.append(self.worker.round())

    def counted(self, _calls, in_program):
        """What it has counted itself; None: it counts nothing. After `end`."""
        return in_program if in_program >= 0 else None

    def stop(self):
        calls, in_program, kept = self.worker.finish()
        self.worker.end()
        counted = self.counted(calls, in_program)
        if counted is None:
            self.count = "not counted"
        elif counted == calls:
            self.count = "exact"
        else:
            self.count = f"WRONG: {counted} of {calls}"
        self.loses_vectors = kept == 0

    def close(self):
        """Ends what is still running of it."""
        if self.worker is not None:
            self.worker.end()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def is_sound(self):
        """Measured, no call missed, and the program's registers are what they were."""
        return self.missing is None and not self.loses_vectors and self.count in ("exact", "not counted")


class Ours(Candidate):
    """Under the library: by the C API (`setup`), or by a config of one [[probe]]."""

    def __init__(self, name, label, probe=None, output=None, count="hits", **others):
        super().__init__(name, label, **others)
        self.probe, self.output, self.kind = probe, output, count

    def start(self, place):
        env = {"LD_PRELOAD": place.library, "UPROBE_STRICT": "1"}
        if self.probe is not None:
            self.summary = os.path.join(place.out, f"summary-{self.name}.json")
            if os.path.exists(self.summary):
                os.unlink(self.summary)
            output = self.output or 'path = "/dev/null"'
            env["UPROBES"] = (
                f'toml:[[probe]]\nat = "exe:{self.function}"\n{self.probe}\n[output]\n{output}\n'
                f'[summary]\nformat = "json"\npath = "{self.summary}"\n'
            ).replace("OUT", place.out)
        log = os.path.join(place.out, f"stderr-{self.name}")
        with open(log, "w") as stderr:
            self.worker = Worker(place.target, self.function, self.shape, self.setup, env, stderr=stderr)
        try:
            self.worker.text()
        except NoAnswer:
            self.worker.end()
            with open(log) as text:
                raise Missing("not in this build: " + text.readline().strip()) from None

    def counted(self, calls, in_program):
        if self.probe is None:
            return in_program
        with open(self.summary) as text:
            probe = json.load(text)["probes"][0]
        self.method = probe["method"]
        return probe[self.kind]
