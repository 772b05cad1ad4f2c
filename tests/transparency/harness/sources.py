"""Source packages of the distribution, for the test suites that no binary package has."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FOLDER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "transparency-sources"

# The machine's own list of sources has deb-src lines or not: these are asked in a place of their own.
LIST = """\
deb-src http://deb.debian.org/debian bookworm main
deb-src http://deb.debian.org/debian bookworm-updates main
deb-src http://deb.debian.org/debian-security bookworm-security main
"""


def unpacked(package):
    """The directory of the package's upstream sources, or None."""
    found = sorted(FOLDER.glob(f"{package}/*/"))
    return found[0] if found else None


def fetch(package):
    """Downloads and unpacks the sources of a package, in the version that is installed where it can be had."""
    if unpacked(package):
        return
    where = FOLDER / package
    (FOLDER / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (FOLDER / "parts").mkdir(exist_ok=True)
    where.mkdir(exist_ok=True)
    sources = FOLDER / "sources.list"
    codename = _codename()
    sources.write_text(LIST.replace("bookworm", codename))
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::SourceList={sources}", "-o", f"Dir::Etc::SourceParts={FOLDER / 'parts'}",
           "-o", f"Dir::State::Lists={FOLDER / 'lists'}"]
    if not any((FOLDER / "lists").glob("*Sources*")):
        subprocess.run([*apt, "update"], cwd=where)
    shown = subprocess.run(["dpkg-query", "-W", "-f=${source:Version}", package], capture_output=True, text=True).stdout
    for wanted in ([f"{package}={shown}"] if shown else []) + [package]:
        if subprocess.run([*apt, "source", "--download-only", wanted], cwd=where).returncode == 0:
            break
    for archive in where.glob("*.orig.tar.*"):
        subprocess.run(["tar", "xf", archive], cwd=where, check=True)
        archive.unlink()
    for rest in where.glob("*.*"):
        if rest.is_file():
            rest.unlink()
    if not unpacked(package):
        shutil.rmtree(where)


def _codename():
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return "bookworm"
