//! Cut off, damaged and made-up files: an answer or a refusal, never a panic, never long.

mod elf_support;
#[path = "elf_support/exercise.rs"]
mod exercise;
#[path = "elf_support/mutate.rs"]
mod mutate;

use std::path::Path;
use std::time::{Duration, Instant};

use elf_support::LIBC;
use exercise::exercise;
use mutate::{Random, mutate, real, seeds};
use uprobe::elf::{ElfError, ElfFile, FileBytes, FileId, StdFiles};

/// What one file may cost at most; it is a hundred times what the worst one does.
const LONG: Duration = Duration::from_secs(5);

fn parse(bytes: &[u8]) -> Result<ElfFile, ElfError> {
    ElfFile::parse(Path::new("/x"), FileBytes::new(bytes.to_vec(), FileId::default()))
}

#[test]
fn what_is_no_object_says_why() {
    let good = std::fs::read(LIBC).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        parse(&changed).map(|_| ()).unwrap_err()
    };
    let table = [
        (parse(b"").unwrap_err(), "this is no ELF file"),
        (parse(b"#!/bin/sh\nexec true\n").unwrap_err(), "this is no ELF file"),
        (with(0, b"\x7fELG"), "this is no ELF file"),
        (with(4, &[1]), "this is a 32-bit ELF file"),
        (with(4, &[7]), "the ELF class 7 is unknown"),
        (with(5, &[2]), "this is not a little-endian ELF file (its encoding is 2)"),
        (with(18, &[183, 0]), "this is an ELF file for another processor (machine 183)"),
        (with(16, &[1, 0]), "this is an object file that is not linked yet"),
        (with(16, &[4, 0]), "this is a core file"),
        (with(16, &[9, 9]), "this is neither a program nor a shared object (ELF type 2313)"),
        (with(56, &[0, 0]), "the file has no segment to load"),
        (with(54, &[0, 0]), "the file has no segment to load"),
        (with(56, &[0xff, 0xff]), "the file has 65535 program headers, too many to load"),
        (parse(&good[..40]).unwrap_err(), "the file is cut off: its file header at 0x0 lie beyond the end"),
        (
            parse(&good[..100]).unwrap_err(),
            "the file is cut off: its program headers at 0x40 lie beyond the end",
        ),
    ];
    for (error, expected) in table {
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.refusal(Path::new("/x")).to_string(), format!("bad-object: '/x': {expected}"));
    }
    assert_eq!(ElfFile::open(Path::new("/nonexistent"), &StdFiles).unwrap_err(), ElfError::Unreadable);
    assert_eq!(ElfFile::open(Path::new("/dev/zero"), &StdFiles).unwrap_err(), ElfError::Unreadable);
}

#[test]
fn cut_off_at_every_64th_byte() {
    let mut files = seeds("hostile-cut");
    files.push(real("/bin/true"));
    for (name, bytes, debug) in files {
        let mut parsed = 0;
        for len in (0..bytes.len()).step_by(64) {
            let begun = Instant::now();
            parsed += usize::from(exercise(bytes[..len].to_vec(), debug.clone()));
            assert!(begun.elapsed() < LONG, "{name} cut at {len}");
        }
        assert!(parsed > 0, "{name}");
        assert!(exercise(bytes, debug), "{name} whole");
    }
}

#[test]
fn damaged() {
    let mut files = seeds("hostile-damaged");
    files.push(real("/bin/true"));
    let mut random = Random(0x5eed);
    let end = Instant::now() + Duration::from_secs(8);
    let (mut tried, mut parsed) = (0, 0);
    while Instant::now() < end {
        let (name, bytes, debug) = &files[tried % files.len()];
        let mut bytes = bytes.clone();
        let state = random.0;
        mutate(&mut bytes, &mut random);
        let begun = Instant::now();
        parsed += usize::from(exercise(bytes, debug.clone()));
        assert!(begun.elapsed() < LONG, "{name} from the state {state:#x}");
        tried += 1;
    }
    println!("{tried} files, {parsed} accepted");
    assert!(tried > 100 && parsed > tried / 4, "{tried} files, {parsed} accepted");
}
