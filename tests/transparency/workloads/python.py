"""CPython's own test suite, module by module."""

import re
import xml.etree.ElementTree as ElementTree

from harness.case import Case

TITLE = "CPython's test suite"
PACKAGES = ("python3", "{python}-minimal", "lib{python}-testsuite")

INTERPRETER = "/usr/bin/python3"
# They need a display, the network, minutes of memory or hours; or test the tests.
LEFT_OUT = {
    "test_gdb", "test_idle", "test_tk", "test_ttk_guionly", "test_ttk_textonly", "test_tcl", "test_turtle", "test_tix",
    "test_regrtest", "test_tools", "test_zipfile64", "test_curses", "test_ossaudiodev", "test_lib2to3", "test_peg_generator",
    "test_distutils", "test_venv", "test_ensurepip", "test_crashers",
}
# Without a vsock loopback, on a virtual machine, they wait for their own connection for ever.
IGNORED = ("*VSOCK*",)
SHORT = (
    "test_signal", "test_faulthandler", "test_posix", "test_json", "test_ctypes", "test_fork1", "test_thread",
)
TIMEOUT = 900


def cases(short):
    names = SHORT if short else [name for name in _all() if name not in LEFT_OUT]
    return [Case(name, lambda place, name=name: _module(place, name), TIMEOUT) for name in names]


def _all():
    from harness import process

    listed = process.run([INTERPRETER, "-m", "test", "--list-tests"], env={"PATH": "/usr/bin:/bin"}, cwd="/", timeout=60)
    return [line for line in listed.stdout.split() if line.startswith("test_")]


def _module(place, name):
    report = place.directory / "report.xml"
    outcome = place.run(
        [INTERPRETER, "-m", "test", "--junit-xml", report, "-u", "all,-network,-urlfetch,-gui,-largefile,-cpu",
         *(word for pattern in IGNORED for word in ("--ignore", pattern)), name]
    )
    (place.directory / "output").write_text(outcome.stdout + outcome.stderr)
    verdicts = {"status": str(outcome.status)}
    if not report.exists():
        return verdicts
    for test in ElementTree.parse(report).iter("testcase"):
        label = re.sub(r"0x[0-9a-f]+", "0x…", test.get("name"))
        kinds = [child.tag for child in test if child.tag in ("failure", "error", "skipped")]
        verdicts[label] = kinds[0] if kinds else test.get("result", "") + " " + test.get("status", "")
    return verdicts
