"""Results of finished cases, on disk: a run of hours that was interrupted goes on where it was."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

from .compare import Result
from .probes import Tally


def copied(library, scratch):
    """A copy of the library that no build replaces under a run; its name tells one from another."""
    library = Path(library)
    digest = hashlib.sha256(library.read_bytes()).hexdigest()[:16]
    place = Path(scratch) / "library" / digest
    copy = place / "libuprobe.so"
    if not copy.exists():
        place.mkdir(parents=True, exist_ok=True)
        unfinished = place / "unfinished"
        shutil.copyfile(library, unfinished)
        # Processes that gave up root load it too.
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    return copy, digest


class Kept:
    """What came out of each case with one library, in one form (short or long)."""

    def __init__(self, scratch, digest, is_short):
        self._folder = Path(scratch) / "results" / (f"{digest}-short" if is_short else digest)

    def _file(self, workload, case):
        return self._folder / workload / f"{case.replace('/', '_')}.json"

    def get(self, workload, case):
        """The result of a case that has finished before, or None."""
        try:
            read = json.loads(self._file(workload, case).read_text())
        except FileNotFoundError:
            return None
        read["armed"] = Tally(**read["armed"])
        return Result(**read)

    def put(self, workload, result):
        file = self._file(workload, result.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(dataclasses.asdict(result), indent=1))
        unfinished.rename(file)
