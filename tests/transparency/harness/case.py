"""A case: something a workload runs as a whole, and the verdicts it brings."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from . import process


@dataclass
class Case:
    name: str
    # Runs it in the given Place, and returns its verdicts: {name: what came out}.
    run: Callable
    timeout: float = 600
    # Cases of one workload run two at a time, unless they want the machine alone.
    is_alone: bool = False


@dataclass
class Place:
    """Where a case runs once: an empty directory of its own, and the environment, bare or probed."""

    directory: Path
    probes: dict = field(default_factory=dict)  # the environment that arms; empty: bare
    timeout: float = 600
    seconds: float = 0.0  # of what was run with `run`
    last: object = None

    def environment(self, **more):
        base = {
            name: value for name, value in os.environ.items()
            if name in ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ")
        }
        # A python, gcc or git of the distribution, not one that somebody put in front of it.
        base["PATH"] = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**base, "LANG": "C.UTF-8", "TMPDIR": str(self.directory), **self.probes, **more}

    def run(self, command, *, stdin="", cwd=None, bare=False, timeout=None, **more):
        """Runs a command here, probed if the run is; `bare`: a helper that is not under test."""
        env = self.environment(**more)
        if bare:
            for name in self.probes:
                del env[name]
        outcome = process.run(
            [str(word) for word in command], env=env, cwd=cwd or self.directory, stdin=stdin,
            timeout=timeout or self.timeout * (4 if self.probes else 1),
        )
        if not bare:
            self.seconds += outcome.seconds
            self.last = outcome
        return outcome

    def clear(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o777)
