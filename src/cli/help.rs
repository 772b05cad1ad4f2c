//! What `--help` says. Each command's text ends with examples that work as they stand.

/// `uprobe --help`.
pub const MAIN: &str = "\
uprobe - see what an unmodified program does, from inside its own process

Usage: uprobe COMMAND [OPTIONS]

Commands:
  run      run a program with probes in it
  list     list the places of a program or library that can be probed
  check    check a config, and each probe of it against a program; nothing is run
  report   print a binary trace, as text, JSON, a flame graph and more
  top      the counts of a running program, live      (not in this version yet)
  doctor   say why probes would not work here, or in a program

Options:
  -h, --help       this text; after a command, that command's
  -V, --version    the version

Examples:
  uprobe run -e 'p libc.so.6:openat path=$arg2:string' -- du -s /usr/include
  uprobe list libc.so.6 'open*'
  uprobe check probes.toml -- ./app
  uprobe report app.4242.trace
  uprobe doctor -- ./app

Exit status: 0 done, 1 failed, 2 wrong usage, 78 wrong config. `uprobe run` exits with
the program's own status.
";

/// `uprobe run --help`.
pub const RUN: &str = "\
uprobe run - run a program with probes in it

Usage: uprobe run [OPTIONS] [--] PROGRAM [ARGUMENTS]...

The config and the probes are checked first: where one is wrong, nothing is started.
Events go to standard error, and a summary when the program ends, unless the config or
an option says otherwise.

Options:
  -c, --config FILE        the config (TOML)
  -e, --probe PROBE        a probe, as ftrace's uprobe_events takes it; may be repeated:
                             p[:[GROUP/]EVENT] OBJECT:PLACE [FETCHARGS]
      --output PATH        write events to this file
      --format FORMAT      events as: text, json or trace
      --summary PATH       write the summary to this file
      --summary-format F   the summary as: table, json, openmetrics or none
      --no-strict          start the program even where the config is wrong or a probe
                           can't be armed; what is good of it is armed
  -h, --help               this text
  -V, --version            the version

In PATHs, %p is the process id, %e the program's name, %t the start time (seconds since
1970) and %% a percent sign. Children are traced too: give each its own file with %p.

Examples:
  # The directories du opens, and how:
  uprobe run -e 'p:open libc.so.6:openat path=$arg2:string flags=$arg3:x32' -- du -s /usr/include
  # Two probes, counts as JSON into a file, events nowhere:
  uprobe run -e 'p libc.so.6:malloc' -e 'p libc.so.6:free' \\
      --output /dev/null --summary counts.json --summary-format json -- git status
  # The probes of a config:
  uprobe run -c probes.toml -- ./app --its-option

Exit status: the program's own; 128+N where signal N killed it. 2 wrong usage, 78 the
config is wrong, a probe can't be armed, or no probe would work on this system, 126 the
program can't be run with probes (static, set-user-id, for another architecture), 127 it
was not found, 1 anything else. 'uprobe doctor' says what to do.

Environment: UPROBE_LIBRARY names libuprobe.so where it does not lie beside this command
or in ../lib. UPROBE_LOG=warn, info or debug makes the library say more.
";

/// `uprobe list --help`.
pub const LIST: &str = "\
uprobe list - list the places of a program or library that can be probed

Usage: uprobe list [OPTIONS] OBJECT [PATTERN]

OBJECT is a path, or the name of a library as the dynamic loader finds it. PATTERN is a
function's name, mangled or demangled, a glob (*, ?, [a-z]) or a /regex/.

For each function: its offset in the file, its size, how a probe at its entry would be
made, or why it can't be:
  jump             a jump to a copy of its first instructions
  int3 (emulate)   a breakpoint, and why no jump; the first instruction's effect is
                   computed on the saved registers
  int3 (boost)     a breakpoint; the instruction is run elsewhere, in a copy that jumps back
Whether there is memory where a jump can lead only shows in the process: where there is
none, the breakpoint stays.

Options:
      --json       one JSON object
      --usdt       static markers         (not in this version yet)
      --lines      source lines           (not in this version yet)
  -h, --help       this text
  -V, --version    the version

Examples:
  uprobe list libc.so.6 'open*'
  uprobe list /usr/bin/python3 '/^PyList_.*Item$/'
  uprobe list --json ./app | jq -r '.places[] | select(.method == null) | .reason'
  uprobe list --json ./app | jq -r '.places[].method' | sort | uniq -c

Exit status: 0 at least one place was found, 1 none was, or OBJECT can't be read, 2 wrong
usage.
";

/// `uprobe check --help`.
pub const CHECK: &str = "\
uprobe check - check a config, and each probe of it against a program

Usage: uprobe check [OPTIONS] CONFIG [-- PROGRAM [ARGUMENTS]...]

Prints each probe's place, its offset in the file and how it would be probed, or why it
can't be. With PROGRAM, the probes are looked up in it and in the libraries it is linked
against; without, in the objects that can be found by their names. Nothing is run.
A probe in an object the program is not linked against is only noted: it may be loaded
later.

Options:
  -h, --help       this text
  -V, --version    the version

Examples:
  uprobe check probes.toml
  uprobe check probes.toml -- ls /etc

Exit status: 0 all is well, 78 something is wrong, 2 wrong usage, 126 or 127 PROGRAM
can't be probed or was not found.
";

/// `uprobe report --help`.
pub const REPORT: &str = "\
uprobe report - print a binary trace

Usage: uprobe report [OPTIONS] TRACE...

TRACE is a file that [output] format = \"trace\" has written; the program may have been
killed, or run still. Of several, the events are merged by time.

Options:
      --text             a line per event, as format \"text\" writes them (this is the default)
      --json             a JSON object per event, as format \"json\" writes them
      --summary          a table: each probe's events, and the times of its calls
      --chrome           trace events for ui.perfetto.dev and chrome://tracing
      --folded           a line per stack of calls with its own nanoseconds, for other tools
      --flamegraph FILE  the same as a picture (SVG)
  -h, --help             this text
  -V, --version          the version

Calls are the events of probes of kind \"call\"; one is inside another where its time is.

Examples:
  uprobe run -e 'p libc.so.6:openat path=$arg2:string' --format trace --output x.trace -- du -s .
  uprobe report x.trace
  uprobe report --chrome x.trace > x.json
  uprobe report --flamegraph x.svg app.*.trace

Exit status: 0 done, 1 a TRACE can't be read, or not all of it (what can be is printed),
2 wrong usage.
";

/// `uprobe doctor --help`.
pub const DOCTOR: &str = "\
uprobe doctor - say why probes would not work here, or in a program

Usage: uprobe doctor [OPTIONS] [-- PROGRAM [ARGUMENTS]...]

Looks at the system (kernel, /proc, seccomp, SELinux, shadow stacks, limits, the library),
then tries it: a small process is probed by a breakpoint and by a jump, and the counts are
compared. With PROGRAM, looks at its file, too: static or for another libc, set-user-id,
for another architecture, a script (then its interpreter); the program is not run.

Each line is 'ok', 'warning' (probes work, with less than all) or 'fails', with what to do
below. What 'uprobe run' refuses to start, it refuses in the same words.

Options:
      --json       one JSON object: works, and an array checks of check, level, text, advice
  -h, --help       this text
  -V, --version    the version

Examples:
  uprobe doctor
  uprobe doctor -- ./app
  uprobe doctor --json -- ./app | jq -r '.checks[] | select(.level != \"ok\") | .text'

Exit status: 0 probes work, 1 they would not, 2 wrong usage.
";
