"""PostgreSQL: the scripts of its regression suite, through psql, on a server of its own."""

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

from harness import sources
from harness.case import Case

TITLE = "PostgreSQL (the regression suite's scripts, through psql)"
PACKAGES = ("postgresql",)
SOURCE = "postgresql-15"

# Without the extension module that the suite builds (its functions are missing, bare and probed alike).
SHORT = ("boolean", "char", "int8", "numeric", "strings", "date", "create_table", "insert", "select", "join", "triggers")
# They wait for others of the parallel schedule, or print plans and times that vary.
LEFT_OUT = {"stats", "tablespace", "vacuum_parallel", "sysviews", "misc_functions", "compression", "largeobject", "test_setup"}


def missing():
    lacking = [] if sources.unpacked(_source()) else ["PostgreSQL's sources"]
    return lacking + ([] if _programs() else ["PostgreSQL's server"])


def install():
    sources.fetch(_source())


def _source():
    programs = _programs()
    return f"postgresql-{programs.parent.name}" if programs else SOURCE


def _programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


def cases(short):
    return [Case("regress", lambda place: _regress(place, short), 1800)]


def _scripts(short):
    regress = sources.unpacked(_source()) / "src" / "test" / "regress"
    schedule = (regress / "parallel_schedule").read_text()
    ordered = [name for line in schedule.splitlines() if line.startswith("test:") for name in line[5:].split()]
    chosen = SHORT if short else [name for name in ordered if name not in LEFT_OUT]
    # Everything else needs the tables of this one.
    return regress, ["test_setup", *chosen]


def _regress(place, short):
    """Each script's output is a verdict."""
    regress, names = _scripts(short)
    programs = _programs()
    here = place.directory
    shutil.copytree(regress / "data", here / "data")
    shutil.copytree(regress / "sql", here / "sql")
    (here / "results").mkdir()
    user = _unprivileged(here)
    environment = place.environment(
        PGHOST=str(here), PGPORT="5432", PGUSER="postgres", PGDATABASE="regression", PGTZ="PST8PDT", PGDATESTYLE="Postgres, MDY",
        PG_ABS_SRCDIR=str(here), PG_LIBDIR=str(programs.parent / "lib"), PG_DLSUFFIX=".so", PG_ABS_BUILDDIR=str(here), LC_ALL="C",
        PSQLRC="/dev/null",
    )

    def run(*words, stdin=None, timeout=600):
        return subprocess.run([str(word) for word in words], env=environment, cwd=here, user=user, group=user, extra_groups=[],
                              input=stdin, capture_output=True, timeout=timeout, start_new_session=True)

    verdicts = {}
    begin = time.monotonic()
    made = run(programs / "initdb", "-D", here / "db", "-U", "postgres", "--no-locale", "-E", "UTF8", "-A", "trust", "--no-sync")
    verdicts["initdb"] = f"{made.returncode}: {made.stderr.decode()}"
    options = f"-k {here} -c listen_addresses= -c fsync=off -c max_connections=20"
    started = run(programs / "pg_ctl", "-D", here / "db", "-w", "-t", "300", "-l", here / "log", "-o", options, "start")
    verdicts["start"] = str(started.returncode)
    try:
        made = run(programs / "createdb", "-T", "template0", "regression")
        verdicts["createdb"] = f"{made.returncode}: {made.stderr.decode()}"
        for name in names:
            ran = run(programs / "psql", "-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on",
                      "-f", here / "sql" / f"{name}.sql", timeout=1200)
            text = _normal((ran.stdout + ran.stderr).decode(errors="replace"), here)
            (here / "results" / name).write_text(text)
            verdicts[name] = f"{ran.returncode}: {len(text)} {hashlib.sha256(text.encode()).hexdigest()}"
    finally:
        stopped = run(programs / "pg_ctl", "-D", here / "db", "-w", "-m", "fast", "stop")
    verdicts["stop"] = str(stopped.returncode)
    place.seconds += time.monotonic() - begin
    log = (here / "log").read_text(errors="replace")
    for word in ("PANIC", "terminated by signal", "uprobe:"):
        verdicts[word] = "\n".join(sorted(set(re.sub(r"\d+", "N", line) for line in log.splitlines() if word in line)))
    return verdicts


def _normal(text, here):
    """Without what is never the same twice: times, process ids, places."""
    text = text.replace(str(here), "HERE")
    text = re.sub(r"psql:\S+:\d+: ", "", text)
    return re.sub(r"PID \d+|pg_temp_\d+|pg_toast_\d+|(?:Time|time)[:=] ?[\d.]+(?: ms)?", "…", text)


def _unprivileged(here):
    """The server refuses to run as root."""
    if os.getuid() != 0:
        return None
    user = pwd.getpwnam("postgres")
    for entry in [here, *here.rglob("*")]:
        os.chown(entry, user.pw_uid, user.pw_gid)
    for parent in here.parents:
        if parent == Path("/") or parent.stat().st_mode & 0o001:
            continue
        raise PermissionError(f"{parent} is closed to the server's user: choose another --scratch")
    return "postgres"
