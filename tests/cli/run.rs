//! `uprobe run`: what it refuses before it starts anything, and how it ends.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use super::{Dir, command, signals, uprobe};

/// Good for any program.
const PROBE: &str = "p libc.so.6:openat";

/// Runs a shell script with a probe nobody reaches, its events and summary out of the way.
fn sh(script: &str) -> super::Ran {
    uprobe(&["run", "-e", PROBE, "--summary-format", "none", "--", "sh", "-c", script])
}

#[test]
fn the_status_is_the_program_s() {
    for status in [0, 1, 7, 78, 127, 255] {
        sh(&format!("exit {status}")).expect(status);
    }
}

#[test]
fn killed_by_a_signal_is_128_more() {
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("USR1", 10), ("PIPE", 13)] {
        sh(&format!("kill -{signal} $$")).expect(128 + number);
    }
    let ran = sh("ulimit -c 0; kill -SEGV $$").expect(139);
    assert!(ran.stderr.ends_with(": sh was killed by signal 11 (SIGSEGV)\n"), "{}", ran.stderr);
}

#[test]
fn output_and_input_are_the_program_s() {
    let ran = sh("echo out; echo err >&2").expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn programs_that_are_not_started() {
    let dir = Dir::new("run-unfit");
    let text = dir.file("text", "hello");
    for (program, status, message) in [
        (
            "no-such-program",
            127,
            "no-such-program: command not found. Give its path, or add its directory to PATH.".to_owned(),
        ),
        ("/no/such/program", 127, "/no/such/program: no such file".to_owned()),
        (&text, 126, format!("{text}: is not executable. chmod +x makes it so, if it is a program.")),
        ("/", 126, "/: is a directory".to_owned()),
    ] {
        let ran = uprobe(&["run", "-e", PROBE, "--", program]).expect(status);
        assert_eq!(ran.stderr, format!("uprobe: error: {message}\n"));
    }
    for (flags, why) in [
        (&["-static"][..], "is statically linked: it has no dynamic loader that could load libuprobe.so"),
        (&["-static-pie"], "is statically linked: it has no dynamic loader that could load libuprobe.so"),
        (&["-m32"], "is a 32-bit program; libuprobe is for x86-64"),
        (
            &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"],
            "is linked for the loader /lib/ld-musl-x86_64.so.1, not for glibc's",
        ),
    ] {
        let Some(program) = dir.compile("unfit", "int main(void) { return 0; }", flags) else {
            eprintln!("gcc can't do {flags:?} here: not tested");
            continue;
        };
        let ran = uprobe(&["run", "-e", PROBE, "--", &program]).expect(126);
        assert!(ran.stderr.starts_with(&format!("uprobe: error: {program}: {why}. ")), "{}", ran.stderr);
    }
}

/// What keeps probes from working here is said before anything is started: in `doctor`'s words, with 78.
#[test]
fn a_system_where_probes_would_not_work() {
    let dir = Dir::new("run-noexec");
    let library = std::env::current_exe().expect("a path").with_file_name("libuprobe.so");
    let script = format!(
        "mount -t tmpfs -o noexec none {dir} && cp {library} {dir}/libuprobe.so && \
         UPROBE_LIBRARY={dir}/libuprobe.so {uprobe} run -e '{PROBE}' -- touch {dir}/witness; status=$?; \
         test -e {dir}/witness && echo started; exit $status",
        dir = dir.0.display(),
        library = library.display(),
        uprobe = env!("CARGO_BIN_EXE_uprobe"),
    );
    let ran = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .output()
        .expect("util-linux");
    let said = String::from_utf8_lossy(&ran.stderr);
    if said.contains("unshare:") || said.contains("mount:") {
        eprintln!("\n******** SKIPPED: no file system can be mounted here: {said} ********\n");
        return;
    }
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(78), &b""[..]), "{said}");
    assert!(said.contains("is on a file system mounted noexec. Copy it elsewhere"), "{said}");
}

#[test]
fn a_wrong_config_or_probe_starts_nothing() {
    let dir = Dir::new("run-wrong");
    let config = dir.file("bad.toml", "[[probe]]\nat = 'libc.so.6:openat'\nlimt = 3\n");
    let witness = dir.0.join("witness");
    let script = format!("touch {}", witness.display());
    for (args, message) in [
        (&["-c", &config][..], format!("{config}:3:1: error: ")),
        (&["-c", "/no/such.toml"], "uprobe: error: /no/such.toml: No such file or directory".to_owned()),
        (&["-e", "p libc.so.6:opnat"], "-e:1:3: error: no-symbol: ".to_owned()),
        (&["-e", "p libc.so.6:openat a=$arg9x"], "-e:1:".to_owned()),
        (&["-e", "p libc.so.6:openat+1"], "-e:1:3: error: not-a-boundary: ".to_owned()),
        (
            &["-e", "p libc.so.6:openat", "-e", "r libc.so.6:openat $retval $latency"],
            "-e:2:28: error: $latency needs both sides of the call to be timed\n".to_owned(),
        ),
        (&["-e", "p:x libc.so.6:openat", "-e", "p:x libc.so.6:tzset"], "-e:2:".to_owned()),
    ] {
        let mut line = vec!["run"];
        line.extend(args);
        line.extend(["--", "sh", "-c", &script]);
        let ran = uprobe(&line).expect(78);
        assert!(ran.stderr.starts_with(&message), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
        assert!(!witness.exists(), "{args:?}");
    }
}

#[test]
fn a_name_in_the_config_and_again_in_an_option() {
    let dir = Dir::new("run-twice");
    let config = dir.file("one.toml", "[[probe]]\nat = 'libc.so.6:openat'\nname = 'x'\n");
    let ran = uprobe(&["run", "-c", &config, "-e", "p:x libc.so.6:tzset", "--", "true"]).expect(78);
    assert!(ran.stderr.contains("another probe is called 'x'"), "{}", ran.stderr);
}

#[test]
fn no_strict_starts_the_program_all_the_same() {
    let ran = uprobe(&[
        "run",
        "--no-strict",
        "--summary-format",
        "none",
        "-e",
        "p libc.so.6:opnat",
        "--",
        "sh",
        "-c",
        "echo $UPROBE_STRICT; exit 3",
    ])
    .expect(3);
    assert_eq!(ran.stdout, "0\n");
    assert!(ran.stderr.starts_with("-e:1:3: error: no-symbol: "), "{}", ran.stderr);
}

#[test]
fn the_environment_of_the_program() {
    let script = "echo \"$UPROBES|$UPROBE_STRICT|$LD_PRELOAD\"";
    let with = |args: &[&str]| {
        let mut line = vec!["run"];
        line.extend(args);
        line.extend(["--", "sh", "-c", script]);
        command(&line)
    };
    let library = std::env::current_exe().expect("a path").with_file_name("libuprobe.so");
    let library = library.canonicalize().expect("cargo built it").display().to_string();

    // A config alone is passed as its absolute path.
    let ran = super::Ran::of(with(&["-c", "docs/openat.toml"]).output().expect("uprobe runs")).expect(0);
    let path = format!("{}/docs/openat.toml", env!("CARGO_MANIFEST_DIR"));
    // Strict in this program alone: what it executes inherits the variable.
    let shell = std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))
        .map(|folder| folder.join("sh"))
        .find(|path| path.is_file())
        .expect("a shell");
    let shell = shell.display();
    assert_eq!(ran.stdout, format!("{path}|{shell}|{library}\n"));

    // With an option it is passed as text; an LD_PRELOAD of the user's stays behind ours.
    let other = "libdl.so.2";
    let mut line = with(&["-c", "docs/openat.toml", "-e", "p:t libc.so.6:tzset", "--summary-format", "none"]);
    let ran = super::Ran::of(line.env("LD_PRELOAD", other).output().expect("uprobe runs")).expect(0);
    let (config, rest) = ran.stdout.split_once('|').expect("three parts");
    let expected = "toml:[output]\n[summary]\nformat = \"none\"\n[[probe]]\n\
        \"args\" = [\"dir=$arg1:s32\", \"path=$arg2:string\", \"flags=$arg3:x32\"]\n\
        \"at\" = \"libc.so.6:openat\"\n\"name\" = \"openat\"\n\
        [[probe]]\n\"def\" = \"p:t libc.so.6:tzset\"\n";
    assert_eq!(config, expected);
    assert_eq!(rest, format!("{shell}|{library}:{other}\n"));
}

#[test]
fn strictness_is_for_the_program_and_not_for_what_it_executes() {
    let dir = Dir::new("run-strict");
    let source = "#include <unistd.h>\nint work(int a) { return a + 1; }\n\
        int main(int c, char **v) { execl(\"/bin/echo\", \"echo\", \"done\", (char *)0); return work(c) + (v == 0); }\n";
    let program = dir.compile("execs", source, &[]).expect("compiles");
    let ran = uprobe(&["run", "--summary-format", "none", "-e", "p exe:work", "--", &program]).expect(0);
    assert_eq!(ran.stdout, "done\n");
    // That echo has no such function is nothing to complain of.
    assert_eq!(ran.stderr, "");
}

#[test]
fn scripts_run_with_probes_in_their_interpreter() {
    let dir = Dir::new("run-script");
    let direct = dir.script("direct", "#!/bin/sh\necho \"$0 $1\"; exit 5\n");
    let through_env = dir.script("env", "#!/usr/bin/env sh\necho \"$0 $1\"; exit 6\n");
    let plain = dir.script("plain", "echo \"$0 $1\"; exit 7\n");
    for (script, status) in [(direct, 5), (through_env, 6), (plain, 7)] {
        let line = ["run", "-e", PROBE, "--summary-format", "none", "--", &script, "one"];
        assert_eq!(uprobe(&line).expect(status).stdout, format!("{script} one\n"));
    }
}

/// `ld.so [OPTION]... PROGRAM`: the kernel's link to what runs leads to the linker. `exe` is the program all the same.
#[test]
fn the_linker_runs_a_program() {
    let dir = Dir::new("run-linker");
    let source =
        "int work(int a) { return a + 1; }\nint main(int c, char **v) { return work(c) + (v == 0); }\n";
    let program = dir.compile("linked", source, &[]).expect("compiles");
    let probe = ["run", "--summary-format", "json", "-e", "p exe:work", "--"];
    let linker = "/lib64/ld-linux-x86-64.so.2";
    for words in
        [&[linker, &program, "one"][..], &[linker, "--argv0", "x", "--inhibit-cache", &program, "one"]]
    {
        let ran = uprobe(&[&probe, words].concat()).expect(3);
        assert!(ran.stderr.contains("\"hits\":1,"), "{}", ran.stderr);
        let exe = std::fs::canonicalize(&program).expect("it was compiled");
        assert!(ran.stderr.contains(&format!("\"exe\":\"{}\"", exe.display())), "{}", ran.stderr);
    }
    uprobe(&[&probe[..4], &["-e", "p exe:nothing", "--", linker, &program]].concat()).expect(78);
}

#[test]
fn the_library_must_be_there() {
    let ran = command(&["run", "-e", PROBE, "--", "true"])
        .env("UPROBE_LIBRARY", "/no/such/libuprobe.so")
        .output()
        .expect("uprobe runs");
    let ran = super::Ran::of(ran).expect(1);
    assert_eq!(ran.stderr, "uprobe: error: UPROBE_LIBRARY: no such file: /no/such/libuprobe.so\n");
}

/// Starts a shell under `uprobe run`, waits for its first line, sends `signal` to uprobe alone.
fn signalled(script: &str, signal: &str) -> (Option<i32>, String) {
    let mut child = command(&["run", "-e", PROBE, "--summary-format", "none", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("uprobe runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut text = String::new();
    out.read_line(&mut text).expect("the program says when it is ready");
    let kill = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    out.read_to_string(&mut text).expect("UTF-8");
    (child.wait().expect("it ends").code(), text)
}

#[test]
fn signals_to_uprobe_reach_the_program() {
    let script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    assert_eq!(signalled(script, "-TERM"), (Some(9), "ready\ngot\n".to_owned()));
    // Not caught: the program dies of it, and so the status says.
    let script = "echo ready; while :; do sleep 0.05; done";
    assert_eq!(signalled(script, "-HUP"), (Some(128 + 1), "ready\n".to_owned()));
    // What the terminal sends to all is for the program to decide; uprobe itself waits.
    let script = "echo ready; sleep 0.3; exit 4";
    assert_eq!(signalled(script, "-INT"), (Some(4), "ready\n".to_owned()));
}

#[test]
fn dispositions_and_mask_of_the_program_are_untouched() {
    let script = "grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status";
    let mut bare = std::process::Command::new("sh");
    signals::by_default(&mut bare);
    let bare = bare.args(["-c", script]).output().expect("sh");
    let bare = String::from_utf8(bare.stdout).expect("UTF-8");
    let probed = sh(script).expect(0).stdout;
    let ignored =
        |text: &str| text.lines().filter(|l| !l.starts_with("SigCgt")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ignored(&probed), ignored(&bare));
}
