"""SQLite: its speed test, and its shell on a script, both on the library of the distribution."""

import hashlib
import re

from harness import sources
from harness.case import Case

TITLE = "SQLite (speedtest1, shell)"
PACKAGES = ("sqlite3", "libsqlite3-dev", "gcc")

# What speedtest1 can do by itself in every version, and the size of it: 100 is its default.
TESTS = ("main", "cte", "orm", "fp", "rtree")
SIZE = 10
# It commits a thousand times.
NOT_SYNCED = {"rtree"}

SCRIPT = """
PRAGMA journal_mode = WAL;
CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c REAL, d BLOB);
CREATE INDEX t_b ON t (b);
WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000)
INSERT INTO t SELECT x, hex(x * 7919 % 10007), x / 3.0, zeroblob(x % 100) FROM n;
SELECT count(*), sum(length(d)), round(avg(c), 6), min(b), max(b) FROM t;
UPDATE t SET c = sin(a), b = printf('%08.3f %s', c, upper(b)) WHERE a % 3 = 0;
DELETE FROM t WHERE a % 7 = 0;
SELECT b, c FROM t WHERE b LIKE '%1%' ORDER BY c, a LIMIT 200;
SELECT substr(b, 1, 2) AS k, count(*), total(c) FROM t GROUP BY k HAVING count(*) > 5 ORDER BY k;
VACUUM;
PRAGMA integrity_check;
.dump
"""


def missing():
    return [] if sources.unpacked("sqlite3") else ["SQLite's sources"]


def install():
    sources.fetch("sqlite3")


def cases(short):
    names = TESTS[:1] if short else TESTS
    speed = [Case(f"speedtest1-{name}", lambda place, name=name: _speedtest(place, name)) for name in names]
    return [*speed, Case("shell", _shell)]


def _speedtest(place, name):
    program = place.directory / "speedtest1"
    source = sources.unpacked("sqlite3") / "test" / "speedtest1.c"
    built = place.run(["gcc", "-O2", "-DSQLITE_ENABLE_RTREE", source, "-o", program, "-lsqlite3", "-lpthread", "-ldl", "-lm"], bare=True)
    if built.status != 0:
        return {"status": "not built: " + built.stderr}
    outcome = place.run([program, "--testset", name, "--size", SIZE, "--stats", "--verify",
                         *(["--nosync"] if name in NOT_SYNCED else []), "test.db"])
    verdicts = {"status": str(outcome.status), "stderr": outcome.stderr}
    for line in outcome.stdout.splitlines():
        # " 100 - 500 INSERTs into table with no index......................    0.012s"
        if found := re.match(r" *(\d+ - .*?)\.* +[\d.]+s$", line):
            verdicts[found[1]] = "done"
        elif found := re.match(r"(?:-- )?(Verification Hash: .*)", line):
            verdicts["hash"] = found[1]
    if not place.probes and "hash" not in verdicts:
        raise OSError(f"speedtest1 has no {name}: {outcome.stdout[:200]}")
    return verdicts


def _shell(place):
    outcome = place.run(["sqlite3", "test.db"], stdin=SCRIPT)
    lines = outcome.stdout.splitlines()
    verdicts = {"status": str(outcome.status), "stderr": outcome.stderr, "lines": str(len(lines))}
    verdicts["output"] = hashlib.sha256(outcome.stdout.encode()).hexdigest()
    return verdicts
