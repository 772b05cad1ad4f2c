//! Making hostile files from good ones.

use std::path::Path;
use std::sync::Arc;

use crate::elf_support::{directory, run, write};

/// xorshift64*: the same sequence everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn word(bytes: &[u8], at: usize, size: usize) -> usize {
    let mut value = [0u8; 8];
    if let Some(found) = bytes.get(at..at.saturating_add(size)) {
        value[..size].copy_from_slice(found);
    }
    u64::from_le_bytes(value) as usize
}

/// Where the structures are: the headers, and the content of all small sections.
fn regions(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut regions = vec![(0, 64)];
    let (phoff, phnum) = (word(bytes, 32, 8), word(bytes, 56, 2));
    regions.push((phoff, phnum * 56));
    let (shoff, shnum) = (word(bytes, 40, 8), word(bytes, 60, 2));
    regions.push((shoff, shnum * 64));
    for section in 0..shnum {
        let at = shoff.saturating_add(section * 64);
        let kind = word(bytes, at.saturating_add(4), 4);
        if kind != 8 {
            regions.push((word(bytes, at.saturating_add(24), 8), word(bytes, at.saturating_add(32), 8)));
        }
    }
    for segment in 0..phnum {
        let at = phoff.saturating_add(segment * 56);
        if word(bytes, at, 4) != 1 {
            regions.push((word(bytes, at.saturating_add(8), 8), word(bytes, at.saturating_add(32), 8)));
        }
    }
    regions.retain(|&(at, size)| size > 0 && at.checked_add(size).is_some_and(|end| end <= bytes.len()));
    regions
}

/// Changes a few fields of `bytes`, most of them in its structures.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let regions = regions(bytes);
    for _ in 0..=random.below(6) {
        if bytes.len() < 16 {
            return;
        }
        let (at, size) = match random.below(8) {
            0 => (0, bytes.len()),
            _ if regions.is_empty() => (0, bytes.len()),
            _ => regions[random.below(regions.len())],
        };
        let at = (at + random.below(size)).min(bytes.len() - 1);
        let width = [1, 1, 2, 4, 8][random.below(5)];
        let at = if random.below(2) == 0 { at & !(width - 1) } else { at };
        let width = width.min(bytes.len() - at);
        let old = word(bytes, at, width) as u64;
        let len = bytes.len() as u64;
        let new = match random.below(10) {
            0 => 0,
            1 => u64::MAX,
            2 => len,
            3 => len - 1,
            4 => 1 << random.below(64),
            5 => old ^ (1 << random.below(width * 8)),
            6 => old.wrapping_add(1),
            7 => old.wrapping_sub(1),
            8 => random.next() % (2 * len),
            _ => random.next(),
        };
        bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
        match random.below(60) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
                let size = random.below(256).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + size, to);
            }
            _ => {}
        }
    }
}

/// Good files, small, that have everything between them, with their debug files.
pub fn seeds(test: &str) -> Vec<(String, Vec<u8>, Arc<Vec<u8>>)> {
    let dir = directory(test);
    write(
        &dir,
        "c.c",
        "static int twice(int x) { return x * 2; } int answer(int x) { return twice(x); }
        static int (*choose(void))(int) { return twice; }
        int chosen(int) __attribute__((ifunc(\"choose\")));
        __thread int counter; int main(int c, char **v) { counter = c; return answer(c); }",
    );
    write(
        &dir,
        "x.cc",
        "namespace shop { struct Price { long c; }; struct Cart { void add(int); void add(int, const Price &); };
        void Cart::add(int) {} void Cart::add(int, const Price &) {}
        template <typename T> struct Box { T t; template <typename U> U get(Box<U> *, T (*)(U)) { return U(); } };
        template int Box<Price>::get<int>(Box<int> *, Price (*)(int)); }
        int main() { return 0; }",
    );
    write(
        &dir,
        "v.c",
        "int a(void) { return 1; } int b(void) { return 2; } __asm__(\".symver a, answer@V_1\"); __asm__(\".symver b, answer@@V_2\");",
    );
    write(&dir, "v.map", "V_1 { local: a; b; }; V_2 { } V_1;");
    let plain = ["-O1", "-Wl,-z,noseparate-code", "-nostartfiles"];
    run(&dir, "gcc", &[&plain[..], &["-g", "-o", "c", "c.c", "-Wl,--hash-style=gnu", "-rdynamic"]].concat());
    run(&dir, "g++", &[&plain[..], &["-o", "x", "x.cc", "-no-pie", "-Wl,--hash-style=both"]].concat());
    run(
        &dir,
        "gcc",
        &[&plain[..], &["-shared", "-fPIC", "-o", "v", "v.c", "-Wl,--version-script=v.map"]].concat(),
    );
    run(&dir, "objcopy", &["--only-keep-debug", "c", "c.debug"]);
    run(&dir, "strip", &["-o", "s", "c"]);
    run(&dir, "objcopy", &["--add-gnu-debuglink=c.debug", "s"]);
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let debug = Arc::new(read("c.debug"));
    let mut seeds: Vec<_> =
        ["c", "x", "v", "s", "c.debug"].map(|n| (n.to_owned(), read(n), debug.clone())).into();
    let mut bare = read("s");
    bare[40..48].fill(0);
    bare[58..64].fill(0);
    seeds.push(("bare".into(), bare, debug));
    seeds
}

/// A file of this machine as it is.
pub fn real(path: &str) -> (String, Vec<u8>, Arc<Vec<u8>>) {
    (path.to_owned(), std::fs::read(Path::new(path)).unwrap(), Arc::default())
}
