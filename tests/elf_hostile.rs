//! Cut off, damaged and made-up files: an answer or a refusal, never a panic, never long.

mod elf_support;
#[path = "elf_support/exercise.rs"]
mod exercise;
#[path = "elf_support/mutate.rs"]
mod mutate;

use std::path::Path;
use std::sync::Arc;
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
    // On a busy machine longer.
    while Instant::now() < end || tried < 200 {
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

/// A file of one executable segment with just these symbols: (name, address, size).
fn made_up(strings: &[u8], symbols: &[(u32, u64, u64)]) -> Vec<u8> {
    const TEXT: usize = 1 << 20;
    let mut file = vec![0u8; 64 + 56];
    let strings_at = file.len();
    file.extend_from_slice(strings);
    let symbols_at = file.len();
    file.extend_from_slice(&[0; 24]);
    for &(name, link, size) in symbols {
        file.extend_from_slice(&name.to_le_bytes());
        // STB_GLOBAL STT_FUNC, default visibility, section 3.
        file.extend_from_slice(&[0x12, 0, 3, 0]);
        file.extend_from_slice(&link.to_le_bytes());
        file.extend_from_slice(&size.to_le_bytes());
    }
    let symbols_end = file.len();
    let sections_at = file.len();
    let section = |kind: u32, flags: u64, link: usize, at: usize, size: usize, linked: u32| {
        let mut header = Vec::new();
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&kind.to_le_bytes());
        header.extend_from_slice(&flags.to_le_bytes());
        for word in [link, at, size] {
            header.extend_from_slice(&(word as u64).to_le_bytes());
        }
        header.extend_from_slice(&linked.to_le_bytes());
        header.resize(64, 0);
        header
    };
    let text_at = sections_at + 4 * 64;
    file.extend(section(0, 0, 0, 0, 0, 0));
    file.extend(section(3, 0, 0, strings_at, strings.len(), 0));
    file.extend(section(2, 0, 0, symbols_at, symbols_end - symbols_at, 1));
    file.extend(section(1, 6, text_at, text_at, TEXT, 0));
    file.resize(text_at + TEXT, 0x90);
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[3, 0, 62, 0, 1]);
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 40, &(sections_at as u64).to_le_bytes());
    put(&mut file, 52, &[64, 0, 56, 0, 1, 0, 64, 0, 4, 0, 1, 0]);
    let len = file.len() as u64;
    put(&mut file, 64, &[1, 0, 0, 0, 5, 0, 0, 0]);
    for (at, word) in [(72, 0), (80, 0), (88, 0), (96, len), (104, len), (112, 4096)] {
        put(&mut file, at, &word.to_le_bytes());
    }
    file
}

/// Files made to be slow: the cost must not grow with the square of their size.
#[test]
fn made_to_be_slow() {
    const MANY: u32 = 50_000;
    let text = |strings: &[u8]| (64 + 56 + strings.len() + (MANY as usize + 1) * 24 + 4 * 64) as u64;
    let one_name = b"\0twice\0".to_vec();
    let mut long = vec![b'a'; 60_000];
    long[0] = 0;
    long.push(0);
    // Identifiers of fifty letters, each name a suffix of the one before.
    let mut mangled = b"\0".to_vec();
    for _ in 0..600 {
        mangled.extend_from_slice(b"_ZN4shop4CartIS0_IS1_IS2_IS3_EEEE3addIS4_EEvT_S5_S6_PFvS7_S8_E");
    }
    mangled.push(0);
    let deep = b"\0_Z1fIPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPiEvT_S0_S1_S2_S3_S4_S5_S6_\0".to_vec();
    type Symbols = Vec<(u32, u64, u64)>;
    let each = |make: &dyn Fn(u32) -> (u32, u64, u64)| -> Symbols { (0..MANY).map(make).collect() };
    let table: Vec<(&str, Vec<u8>, Symbols)> = vec![
        ("one name, one address", one_name.clone(), each(&|_| (1, text(&one_name), 1))),
        ("one name, many addresses", one_name.clone(), each(&|i| (1, text(&one_name) + u64::from(i), 1))),
        ("long names, one address", long.clone(), each(&|i| (1 + i, text(&long), 1))),
        ("long names, many addresses", long.clone(), each(&|i| (1 + i, text(&long) + u64::from(i), 0))),
        (
            "one around all",
            one_name.clone(),
            each(&|i| (1, text(&one_name) + u64::from(i), if i == 0 { u64::MAX } else { 0 })),
        ),
        (
            "pieces of mangled names",
            mangled.clone(),
            each(&|i| (1 + i % 36_000, text(&mangled) + u64::from(i), 1)),
        ),
        // Demangling costs the same for each: linear, but high.
        (
            "deep names",
            deep.clone(),
            (0..MANY / 10)
                .map(|i| (1, text(&deep) - u64::from(MANY - MANY / 10) * 24 + u64::from(i), 1))
                .collect(),
        ),
    ];
    for (name, strings, symbols) in table {
        let bytes = made_up(&strings, &symbols);
        let begun = Instant::now();
        assert!(exercise(bytes, Arc::default()), "{name}");
        let took = begun.elapsed();
        println!("{name}: {took:?}");
        assert!(took < 2 * LONG, "{name}: {took:?}");
    }
}
