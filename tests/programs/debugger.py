# What the tests tell gdb to do. Each line of its own begins with a bar; what it says is to be the same
# whether the program is probed or not.
import gdb

for setting in ("confirm off", "startup-with-shell off", "backtrace past-main on", "debuginfod enabled off"):
    try:
        gdb.execute("set " + setting)
    except gdb.error:
        pass  # an older gdb

stopped = None
status = None


def on_stop(event):
    global stopped
    stopped = event


def on_exit(event):
    global stopped, status
    stopped = None
    status = event.exit_code if hasattr(event, "exit_code") else "a signal"


gdb.events.stop.connect(on_stop)
gdb.events.exited.connect(on_exit)


def is_probe():
    """Stopped behind an int3 that is not gdb's."""
    if stopped is None or isinstance(stopped, gdb.BreakpointEvent):
        return False
    byte = gdb.selected_inferior().read_memory(gdb.selected_frame().pc() - 1, 1)
    return bytes(byte) == b"\xcc"


def go(command):
    """Executes a command that resumes the program; SIGTRAPs of probes are passed to it."""
    gdb.execute(command)
    while is_probe():
        gdb.execute("signal SIGTRAP", to_string=True)
    if stopped is None:
        print("| exited with", status)


def is_ours(frame):
    return "libuprobe.so" in (gdb.solib_name(frame.pc()) or "")


def finish():
    """Back to the caller, which is not a frame of the library's."""
    go("finish")
    while stopped is not None and is_ours(gdb.newest_frame()):
        go("finish")


def stack():
    """The frames, without those of the library."""
    text = gdb.execute("backtrace", to_string=True)
    if "Backtrace stopped" in text:
        print("|", text.splitlines()[-1])
    frame = gdb.newest_frame()
    while frame is not None:
        if not is_ours(frame):
            sal = frame.find_sal()
            place = "%s:%d" % (sal.symtab.filename.split("/")[-1], sal.line) if sal.symtab else ""
            print("| frame", frame.name(), place)
        frame = frame.older()


def step_out(limit):
    """Single-steps until the function of the newest frame is left, the library's frames included. At
    each instruction the frames of the program must be all there; says so once for each way they are."""
    seen = []
    left = names()
    for _ in range(limit):
        gdb.execute("stepi", to_string=True)
        if stopped is None:
            break
        now = names()
        if not seen or seen[-1] != now:
            seen.append(now)
        if now == left[1:] and not is_ours(gdb.newest_frame()):
            break
    for one in seen:
        print("| steps", " ".join(one))


def names():
    """The names of the frames, without those of the library."""
    found = []
    frame = gdb.newest_frame()
    while frame is not None:
        if not is_ours(frame):
            found.append(str(frame.name()))
        frame = frame.older()
    return found
