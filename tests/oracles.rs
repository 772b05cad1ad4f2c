//! The fuzzers' checks over good inputs that are changed a little, and over all that ever failed.
//! `fuzz/run` runs the same, guided by coverage, for as long as you like.

#[path = "oracles/mod.rs"]
mod checks;
mod insn_native;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use insn_native::{CODE_AT, Fault, Native, Random, State};

/// Inputs tried of each.
const ROUNDS: u32 = 6000;

/// What was ever found wrong.
fn findings(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/findings").join(target);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(6) {
            0 => bytes.insert(at, random.byte()),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            3 if at < bytes.len() => bytes[at] = random.byte(),
            4 => bytes.truncate(at.max(bytes.len() / 2)),
            _ if !other.is_empty() => {
                let from = random.below(other.len() as u64) as usize;
                let len = (random.below(24) as usize).min(other.len() - from);
                bytes.splice(at..at, other[from..from + len].iter().copied());
            }
            _ => {}
        }
    }
    bytes
}

/// Runs `check` over the findings, the seeds, and changed seeds.
fn run(target: &str, seeds: Vec<Vec<u8>>, check: fn(&[u8])) {
    let keeping = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("failed-{target}"));
            std::fs::write(&path, input).unwrap();
            eprintln!("the input is in {}", path.display());
            std::panic::resume_unwind(panic);
        }
    };
    assert!(seeds.len() > 3, "{} seeds of {target}", seeds.len());
    findings(target).iter().chain(&seeds).for_each(|input| keeping(input));
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let one = &seeds[random.below(seeds.len() as u64) as usize];
        let other = &seeds[random.below(seeds.len() as u64) as usize];
        keeping(&mutate(one, other, &mut random));
    }
}

#[test]
fn configs() {
    run("config", checks::seeds::config(), checks::config::check);
}

#[test]
fn fetch_arguments_and_filters() {
    run("fetch", checks::seeds::fetch(), checks::fetched::check);
}

#[test]
fn windows() {
    run("window", checks::seeds::window(), checks::window::check);
}

#[test]
fn relocation() {
    run("relocation", checks::seeds::relocation(), checks::relocated::check);
}

/// Whatever other threads do meanwhile. (The timer was the process's: it counted their time too, and its signal went to any
/// of them, which went on at the end of a run that was not its own.)
#[test]
fn code_without_an_end_is_ended() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let mut native = Native::take();
        // 1: jmp 1b
        native.write(CODE_AT, &[0xeb, 0xfe]);
        let state = State::random(&mut Random::new(1));
        for _ in 0..3 {
            let (_, fault) = native.run_caught(CODE_AT, &state);
            assert_eq!(fault, Some(Fault { signal: Fault::ENDLESS, rip: CODE_AT }));
        }
        over.store(true, Relaxed);
    });
}
