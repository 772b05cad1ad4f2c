"""redis's own test suite, the unit part: the server, its clients and the tests' own interpreter."""

import re
import shutil
import threading
from pathlib import Path

from harness import sources
from harness.case import Case

TITLE = "redis's test suite (unit)"
PACKAGES = ("redis-server", "redis-tools", "tcl")

# They need modules that are built with the server, or a server built with TLS.
LEFT_OUT = {"unit/printver", "unit/tls", "unit/violations"}
SHORT = ("unit/type/string", "unit/multi", "unit/protocol", "unit/acl-v2", "unit/bitfield")
FIRST_PORT = 22000

_ports = iter(range(FIRST_PORT, 60000, 40))
_lock = threading.Lock()


def missing():
    return [] if sources.unpacked("redis") else ["redis's sources"]


def install():
    sources.fetch("redis")


def cases(short):
    return [Case(unit, lambda place, unit=unit: _unit(place, unit), 300) for unit in (SHORT if short else _units())]


def _units():
    tests = sources.unpacked("redis") / "tests"
    found = sorted([*tests.glob("unit/*.tcl"), *tests.glob("unit/type/*.tcl")])
    names = [str(file.relative_to(tests).with_suffix("")) for file in found]
    return [name for name in names if name not in LEFT_OUT]


def _unit(place, unit):
    source = sources.unpacked("redis")
    shutil.copytree(source / "tests", place.directory / "tests")
    shutil.copy(source / "redis.conf", place.directory)
    shutil.copy(source / "sentinel.conf", place.directory)
    (place.directory / "src").mkdir()
    for program in ("redis-server", "redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb", "redis-sentinel"):
        (place.directory / "src" / program).symlink_to(Path("/usr/bin") / program)
    with _lock:
        port = next(_ports)
    outcome = place.run(
        ["tclsh", "tests/test_helper.tcl", "--single", unit, "--clients", "1", "--baseport", str(port), "--portcount", "40",
         "--timeout", "1200", "--durable"],
    )
    (place.directory / "output").write_text(outcome.stdout + outcome.stderr)
    verdicts = {"status": str(outcome.status)}
    for line in outcome.stdout.splitlines():
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if found := re.match(r"\[(ok|err|exception|skip|ignore)\]: (.*?)( \(\d+ ms\))?$", line):
            name = re.sub(r"0x[0-9a-f]+|\b\d{4,}\b", "N", found[2]).split(" in tests/")[0]
            verdicts[name] = found[1]
    return verdicts
