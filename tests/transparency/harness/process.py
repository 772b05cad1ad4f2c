"""Running a command: its output, its status, its time, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

# A test that fills the disk is stopped when so little is left: others use the machine too.
LEAST_FREE = 2 << 30


@dataclass
class Outcome:
    status: object  # exit status, minus the signal, "timeout" or "disk full"
    stdout: str
    stderr: str
    seconds: float


def run(command, *, env, cwd, timeout, stdin=""):
    """Runs `command` in a session of its own; what is left of that session afterwards is killed."""
    begin = time.monotonic()
    child = subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )
    guard = _DiskGuard(child.pid, cwd)
    try:
        out, err = child.communicate(stdin.encode(), timeout=timeout)
        status = "disk full" if guard.has_fired else child.returncode
    except subprocess.TimeoutExpired:
        status = "timeout"
        _kill_session(child.pid)
        out, err = child.communicate()
    finally:
        guard.stop()
    seconds = time.monotonic() - begin
    _kill_session(child.pid)
    return Outcome(status, out.decode(errors="replace"), err.decode(errors="replace"), seconds)


class _DiskGuard:
    """Kills a session before a file system is full, whoever fills it."""

    def __init__(self, leader, directory):
        self.has_fired = False
        self._leader, self._directory = leader, directory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.5):
            if shutil.disk_usage(self._directory).free < LEAST_FREE:
                self.has_fired = True
                _kill_session(self._leader)


def _kill_session(leader):
    """Kills the processes of the session that `leader` began (not those that left it)."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if os.getsid(int(entry)) == leader:
                os.kill(int(entry), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def kill_users_of(directory):
    """Kills what still runs with its temporary files in `directory` or below, in whatever session."""
    wanted = f"TMPDIR={directory}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as environ:
                variables = environ.read().split(b"\0")
            if any(variable == wanted or variable.startswith(wanted + b"/") for variable in variables):
                os.kill(int(entry), signal.SIGKILL)
        except (ProcessLookupError, PermissionError, FileNotFoundError):
            pass
