//! The differential test: hundreds of instructions, each run probed and unprobed from the same
//! pseudo-random states, by the real engine in a real process. Everything they leave must be equal.

mod common;
#[path = "instructions/table.rs"]
mod table;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::*;

const ROUNDS: u64 = 12;

/// Builds the program of all cells; without position independence, so that addresses are equal
/// from run to run.
///
/// Once per test binary: its tests are threads of one process.
fn program(cells: &[table::Cell]) -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build(cells, 0))
}

fn build(cells: &[table::Cell], before: usize) -> PathBuf {
    let avx512 = fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains("avx512f");
    let text = table::assembly(cells, avx512, before);
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&dir).expect("the target directory is ours");
    let path = dir.join(format!("cells-{:016x}.s", hash.finish()));
    if !path.exists() {
        // Threads of one process build several at once.
        let thread = std::thread::current().id();
        let fresh = dir.join(format!("new.{}.{thread:?}.s", std::process::id()));
        fs::write(&fresh, text).expect("our directory");
        fs::rename(&fresh, &path).expect("same directory");
    }
    Program::new("cells.c")
        // A weak function of another object needs the GOT: -fno-pie would make it a constant 0.
        .flag("-fPIE")
        .flag("-no-pie")
        .flag("-fcf-protection=none")
        .lib(path.display())
        .build()
}

/// The cells whose line differs, and what differs in the first of them.
fn differences(launch: impl Fn(&[&str]) -> Launch, native: &Outcome, probed: &Outcome) -> Option<String> {
    let differing: Vec<&str> = native
        .stdout
        .lines()
        .zip(probed.stdout.lines())
        .filter(|(n, p)| n != p)
        .map(|(n, _)| n.rsplit_once(':').map_or(n, |(name, _)| name))
        .collect();
    let first = differing.first()?;
    let dump = |launch: Launch| launch.run().stdout.clone();
    let n = dump(launch(&["dump", first]).native());
    let p = dump(launch(&["dump", first]));
    let mut round = "";
    let mut detail = String::new();
    for (n, p) in n.lines().zip(p.lines()) {
        if n.contains("round") {
            round = n;
        }
        if n != p && detail.lines().count() < 20 {
            detail += &format!("  {round}: native {} probed {}\n", n.trim(), p.trim());
        }
    }
    Some(format!("{} instructions differ: {differing:#?}\nthe first:\n{detail}", differing.len()))
}

#[test]
fn the_program_says_the_same_each_time() {
    let program = program(&table::cells());
    let one = Launch::new(program).native().run();
    let other = Launch::new(program).native().run();
    assert_same_output(&one, &other);
    assert_eq!(one.end, End::Exit(0), "{one}");
    assert!(one.stdout.lines().count() > 600, "{one}");
}

#[test]
fn each_probed_instruction_does_what_it_does_unprobed() {
    let cells = table::cells();
    let program = program(&cells);
    let launch = |args: &[&str]| {
        let places = (0..cells.len()).map(|i| format!("exe:insn_{i}"));
        Launch::new(program).args(args).count_all(places)
    };
    let native = launch(&[]).native().run();
    let probed = launch(&[]).run();
    assert_eq!(probed.end, native.end, "{probed}");
    if let Some(message) = differences(launch, &native, &probed) {
        panic!("{message}");
    }
    assert_same_output(&probed, &native);
    assert_jumps(&cells, &probed);

    let skipped = |i: usize| native.stdout.lines().nth(i).is_some_and(|line| line.contains(": no "));
    let mut wrong = Vec::new();
    for (i, probe) in probed.probes().iter().enumerate() {
        let expected = if skipped(i) { 0 } else { ROUNDS };
        if (probe.state.as_str(), probe.hits, probe.nmissed) != ("armed", expected, 0) {
            wrong.push(format!("'{}': {} hits, {:?}", cells[i].text, probe.hits, probe.reason));
        }
    }
    assert!(wrong.is_empty(), "each is probed and hit {ROUNDS} times, but:\n{}", wrong.join("\n"));
}

/// What a jump displaces is more than one instruction, and each may be any of them.
#[test]
fn each_instruction_behind_others_does_what_it_does_unprobed() {
    let cells = table::cells();
    for before in 1..=4 {
        let program = build(&cells, before);
        let places = (0..cells.len()).map(|i| format!("exe:insn_{i}"));
        let launch = |args: &[&str]| Launch::new(&program).args(args).count_all(places.clone());
        let native = launch(&[]).native().run();
        let probed = launch(&[]).run();
        assert_eq!(probed.end, native.end, "behind {before}: {probed}");
        if let Some(message) = differences(launch, &native, &probed) {
            panic!("behind {before}: {message}");
        }
        assert_same_output(&probed, &native);
        assert_jumps(&cells, &probed);
    }
}

/// Nearly all of them have a jump; the others say why not.
fn assert_jumps(cells: &[table::Cell], probed: &Outcome) {
    let probes = probed.probes();
    let others: Vec<String> = probes
        .iter()
        .zip(cells)
        .filter(|(probe, _)| probe.method.as_deref() != Some("jump"))
        .map(|(probe, cell)| format!("'{}': {:?}, {:?}", cell.text, probe.method, probe.reason))
        .collect();
    if only_int3() {
        assert_eq!(others.len(), cells.len(), "{probed}");
    } else {
        assert!(
            others.len() * 100 < cells.len(),
            "{} of {}\n{}",
            others.len(),
            cells.len(),
            others.join("\n")
        );
    }
}

/// With a post_handler each instruction is stepped, or emulated with the handler after it.
#[test]
fn each_instruction_with_a_post_handler_does_the_same() {
    let program = program(&table::cells());
    let launch = |args: &[&str]| Launch::new(program).args(args).arg("post");
    let native = launch(&[]).native().run();
    let probed = launch(&[]).run();
    assert_eq!(probed.end, native.end, "{probed}");
    if let Some(message) = differences(launch, &native, &probed) {
        panic!("{message}\n{}", probed.stderr);
    }
    let count = table::cells().len();
    assert_eq!(
        probed.stderr,
        format!("registered {count} of {count}\n"),
        "all are armed, hit and followed\n{probed}"
    );
}

/// The same in a program that is linked where addresses are high and random: only that it works
/// to its end, since addresses differ from run to run.
#[test]
fn position_independent_code_is_in_reach_of_its_slots() {
    let program = &Program::new("walk.c").flag("-fPIE").flag("-pie").build();
    let native = Launch::new(program).arg(100).native().run();
    let places: Vec<String> = told(&native).into_iter().map(|(p, _)| format!("exe:{p}")).collect();
    for _ in 0..5 {
        let probed = Launch::new(program).arg(100).count_all(&places).run();
        assert_same_output(&probed, &native);
        assert_hits_as_told(&probed);
    }
}

/// gas, gcc and the kernel agree that this machine can run the base set: a table that silently
/// assembles to nothing would show nothing.
#[test]
fn the_table_is_what_it_seems() {
    let cells = table::cells();
    let program = program(&cells);
    let symbols = Command::new("nm").arg(program).output().expect("binutils");
    let symbols = String::from_utf8_lossy(&symbols.stdout).into_owned();
    let count = symbols.lines().filter(|line| line.contains(" insn_")).count();
    assert_eq!(count, cells.len());
    assert!(count > 600, "{count}");
}
