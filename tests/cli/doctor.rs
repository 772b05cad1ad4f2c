//! `uprobe doctor`: what it says of this system, of programs that can be probed, and of those that can't.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::{Dir, Ran, command, uprobe};

const EMPTY: &str = "int main(void) { return 0; }";

/// Each check of `--json`, and whether it works.
fn checks(ran: &Ran) -> (Vec<(String, String, String, String)>, bool) {
    let all: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|why| panic!("{why}\n{}", ran.stdout));
    let text = |check: &Value, key: &str| check[key].as_str().expect("a text").to_owned();
    let checks = all["checks"].as_array().expect("an array").iter();
    let checks =
        checks.map(|c| (text(c, "check"), text(c, "level"), text(c, "text"), text(c, "advice"))).collect();
    (checks, all["works"].as_bool().expect("works"))
}

/// The only thing that fails of a program is this, and what to do is said.
#[track_caller]
fn assert_unfit(program: &str, why: &str) {
    let ran = uprobe(&["doctor", "--json", "--", program]).expect(1);
    let (checks, works) = checks(&ran);
    assert!(!works);
    let fails: Vec<_> = checks.iter().filter(|check| check.1 == "fails").collect();
    let [(check, _, text, advice)] = fails[..] else { panic!("{checks:#?}") };
    assert_eq!(check, "program");
    assert_eq!(text, &format!("{program}: {why}"));
    assert!(!advice.is_empty(), "what to do about: {text}");
    // `run` says the same.
    let ran = uprobe(&["run", "-e", "p libc.so.6:openat", "--", program]).expect(126);
    assert_eq!(ran.stderr, format!("uprobe: error: {text}. {advice}\n"));
}

#[test]
fn this_system_works_and_was_tried() {
    let ran = uprobe(&["doctor"]).expect(0);
    assert!(ran.stdout.ends_with("Probes work here.\n"), "{}", ran.stdout);
    for line in ["breakpoint: tried: 1000 calls, 1000 hits", "jump: tried: 1000 calls, 1000 hits"] {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
    assert_eq!(ran.stderr, "");
    let (checks, works) = checks(&uprobe(&["doctor", "--json"]).expect(0));
    assert!(works);
    for name in
        ["kernel", "libc", "proc", "library", "text", "membarrier", "code", "seccomp", "limits", "ptrace"]
    {
        assert!(checks.iter().any(|check| check.0 == name), "{name}: {checks:#?}");
    }
}

#[test]
fn a_program_that_can_be_probed() {
    let dir = Dir::new("doctor-fit");
    let program = dir.compile("fit", EMPTY, &[]).expect("gcc");
    let ran = uprobe(&["doctor", "--", &program]).expect(0);
    assert!(ran.stdout.contains(&format!("program: {program} is a dynamically linked x86-64 program\n")));
    assert!(ran.stdout.contains("loads the library into it\n"), "{}", ran.stdout);
    let script = dir.script("script", "#!/bin/sh\nexit 0\n");
    let ran = uprobe(&["doctor", "--", &script]).expect(0);
    assert!(ran.stdout.contains(&format!("program: {script} runs /bin/sh, a dynamically")), "{}", ran.stdout);
}

#[test]
fn programs_the_library_can_t_be_loaded_into() {
    let dir = Dir::new("doctor-unfit");
    let is_static = "is statically linked: it has no dynamic loader that could load libuprobe.so";
    for (flags, why) in [
        (&["-static"][..], is_static),
        (&["-static-pie"], is_static),
        (&["-m32"], "is a 32-bit program; libuprobe is for x86-64"),
        (
            &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"],
            "is linked for the loader /lib/ld-musl-x86_64.so.1, not for glibc's",
        ),
    ] {
        match dir.compile("unfit", EMPTY, flags) {
            Some(program) => assert_unfit(&program, why),
            None => eprintln!(
                "\n******** gcc can't do {flags:?} here: not compiled, see the headers below ********\n"
            ),
        }
    }
    let script = dir.script(
        "script",
        &format!("#!{}\n", dir.compile("static", EMPTY, &["-static"]).expect("a static libc")),
    );
    let interpreter = dir.0.join("static");
    let ran = uprobe(&["doctor", "--", &script]).expect(1);
    assert!(ran.stdout.contains(&format!("{}: {is_static}", interpreter.display())), "{}", ran.stdout);
    assert_unfit(&dir.file("text", "hello"), "is not executable");
}

/// The head of a program of another kind: class, machine, type.
fn header(class: u8, machine: u16, kind: u16) -> Vec<u8> {
    let mut head = b"\x7fELF".to_vec();
    head.extend([class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.extend(kind.to_le_bytes());
    head.extend(machine.to_le_bytes());
    head.resize(4096, 0);
    head
}

#[test]
fn programs_of_other_machines() {
    let dir = Dir::new("doctor-machines");
    for (name, class, machine, why) in [
        ("i386", 1, 3, "is a 32-bit program; libuprobe is for x86-64".to_owned()),
        ("x32", 1, 62, "is a 32-bit program; libuprobe is for x86-64".to_owned()),
        ("aarch64", 2, 183, "is for another architecture (ELF machine 183), not x86-64".to_owned()),
        ("riscv64", 2, 243, "is for another architecture (ELF machine 243), not x86-64".to_owned()),
    ] {
        let program = dir.script(name, "");
        std::fs::write(&program, header(class, machine, 3)).expect("our file");
        assert_unfit(&program, &why);
    }
    let program = dir.script("cut", "\x7fELF\x02");
    assert_unfit(&program, "is a damaged ELF file");
}

#[test]
fn programs_that_run_as_somebody_else() {
    let dir = Dir::new("doctor-setuid");
    let program = dir.compile("setuid", EMPTY, &[]).expect("gcc");
    let chown =
        std::process::Command::new("chown").args(["65534:65534", &program]).output().expect("coreutils");
    if !chown.status.success() {
        eprintln!("\n******** SKIPPED: only root can make a file another user's ********\n");
        return;
    }
    for (mode, what) in [(0o4755, "set-user-id"), (0o2755, "set-group-id")] {
        std::fs::set_permissions(&program, PermissionsExt::from_mode(mode)).expect("our file");
        assert_unfit(&program, &format!("is {what}: the loader ignores LD_PRELOAD for it"));
    }
}

#[test]
fn programs_that_are_not_there() {
    for (program, why) in [
        ("no-such-program", "no-such-program: command not found"),
        ("/no/such/program", "/no/such/program: no such file"),
    ] {
        let ran = uprobe(&["doctor", "--", program]).expect(1);
        assert!(ran.stdout.contains(&format!("fails    program: {why}\n")), "{}", ran.stdout);
        assert!(ran.stdout.ends_with("Probes would not work here.\n"), "{}", ran.stdout);
    }
}

#[test]
fn a_library_that_is_not_there_or_a_wrong_one() {
    let dir = Dir::new("doctor-library");
    let absent = dir.0.join("absent.so");
    let ran = Ran::of(command(&["doctor"]).env("UPROBE_LIBRARY", &absent).output().expect("built")).expect(1);
    assert!(ran.stdout.contains("fails    library: UPROBE_LIBRARY: no such file: "), "{}", ran.stdout);
    let wrong = dir.file("wrong.so", "this is no library");
    let ran = Ran::of(command(&["doctor"]).env("UPROBE_LIBRARY", &wrong).output().expect("built")).expect(1);
    assert!(ran.stdout.contains("fails    breakpoint: tried: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("cannot be preloaded"), "{}", ran.stdout);
    let ran =
        Ran::of(command(&["doctor", "--", "true"]).env("UPROBE_LIBRARY", &wrong).output().expect("built"));
    assert!(ran.expect(1).stdout.contains("fails    loader: "));
}

#[test]
fn the_config_of_the_environment() {
    let ran =
        Ran::of(command(&["doctor"]).env("UPROBES", "/no/such.toml").output().expect("built")).expect(1);
    assert!(ran.stdout.contains("fails    config: UPROBES is /no/such.toml: "), "{}", ran.stdout);
}

/// Limits and filters that the shell sets, and the trial runs under.
#[test]
fn under_limits() {
    let limited = |limit: &str| {
        let mut shell = std::process::Command::new("sh");
        let line = format!("{limit} && exec \"$UPROBE\" doctor");
        let library = std::env::current_exe().expect("a path").with_file_name("libuprobe.so");
        let shell = shell.args(["-c", &line]).env("UPROBE", env!("CARGO_BIN_EXE_uprobe"));
        Ran::of(shell.env("UPROBE_LIBRARY", library).output().expect("a shell"))
    };
    let ran = limited("ulimit -v 400000").expect(0);
    assert!(
        ran.stdout.contains("warning  limits: only 390 MiB of address space are allowed"),
        "{}",
        ran.stdout
    );
    let ran = limited("ulimit -n 8").expect(0);
    assert!(ran.stdout.contains("warning  limits: only 8 files may be open"), "{}", ran.stdout);
}
