//! Over all functions of real libraries and of this program: how many can take a five-byte jump at
//! their first instruction, were all memory within 2 GiB free, and why the others can't.

mod elf_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use elf_support::{LIBC, parse};
use uprobe::elf::{ElfFile, StdFiles};
use uprobe::insn::{Code, WINDOW_TEXT, Window, WindowRefusal, WindowText, relocate};

/// Where the kernel loads a shared object; where a program is linked that can't be moved, below which
/// there is nothing.
const BASES: [u64; 2] = [0x7f12_3456_7000, 0x40_0000];

#[derive(Default)]
struct Census {
    functions: usize,
    feasible: usize,
    single: usize,
    aligned: usize,
    /// By reason, with the first few places.
    refused: BTreeMap<String, (usize, Vec<String>)>,
}

fn census(file: &ElfFile, base: u64) -> Census {
    let functions = file.functions(&StdFiles);
    let mut census = Census::default();
    for (index, function) in functions.iter().enumerate() {
        let link = function.link;
        if !file.is_executable(link) {
            continue;
        }
        let Some(bounds) = file.bounds_at(link) else { continue };
        let next = functions.get(index + 1).map_or(u64::MAX, |next| next.link.0);
        let code_len = bounds.end.0.min(next) - link.0;
        let text = WindowText {
            bytes: file.bytes_at(link, WINDOW_TEXT),
            at: base + link.0,
            code_len: code_len as usize,
            room: next.saturating_sub(link.0) as usize,
            targets: &[],
        };
        census.functions += 1;
        match Window::plan(&text) {
            Ok(window) if window.candidates().next().is_some() => {
                census.feasible += 1;
                relocates_at_candidates(&window, text.bytes);
                census.single += usize::from(window.is_single_insn());
                census.aligned += usize::from(window.fits_aligned_8());
            }
            Ok(_) => census.refuse("no candidate".to_owned(), file, link.0),
            Err(refusal) => census.refuse(reason(&refusal), file, link.0),
        }
    }
    census
}

/// The copies reach all they refer to from wherever a candidate says.
fn relocates_at_candidates(window: &Window, bytes: &[u8]) {
    let (low, high) = window.reach();
    for range in window.candidates().take(3) {
        for from in [low, window.at(), high - 0x100_0000] {
            let Some(target) = range.first_from(from).filter(|target| *target <= high) else { continue };
            assert!(range.jump_to(target).is_some_and(|jump| jump[0] == 0xe9));
            let mut code = Code::new(target);
            let relocated = relocate(bytes, window.at(), window.insn_count(), &mut code);
            let relocated = relocated.unwrap_or_else(|e| panic!("{:#x} at {target:#x}: {e}", window.at()));
            assert_eq!(relocated.displaced_len(), window.displaced_len());
        }
    }
}

fn reason(refusal: &WindowRefusal) -> String {
    match refusal {
        WindowRefusal::TooShort { .. } => "too short".to_owned(),
        WindowRefusal::NotRelocatable { why, .. } => why.to_string(),
        other => format!("{other:?}").split(' ').next().unwrap_or_default().to_owned(),
    }
}

impl Census {
    fn refuse(&mut self, reason: String, file: &ElfFile, link: u64) {
        let (count, places) = self.refused.entry(reason).or_default();
        *count += 1;
        if places.len() < 3 {
            let name = file.symbolize(uprobe::addr::LinkAddr(link)).map_or("?", |(name, _)| name);
            places.push(format!("{name} {link:#x}"));
        }
    }
}

#[test]
fn nearly_all_functions_can_take_a_jump() {
    let library = |name: &str| Path::new(LIBC).with_file_name(name);
    let mut files: Vec<PathBuf> = vec![LIBC.into(), std::env::current_exe().unwrap()];
    for optional in [library("libstdc++.so.6"), library("libcrypto.so.3")] {
        if optional.exists() {
            files.push(optional);
        } else {
            println!("{}: not here", optional.display());
        }
    }
    for (path, base) in files.iter().flat_map(|path| BASES.map(|base| (path, base))) {
        let census = census(&parse(&std::fs::canonicalize(path).unwrap()), base);
        let Census { functions, feasible, single, aligned, refused } = &census;
        let name = path.display();
        println!(
            "{name} at {base:#x}: {feasible} of {functions}; {single} one instruction, {aligned} in 8 bytes"
        );
        println!("refused: {refused:#?}");
        assert!(*functions > 1000, "{name}: only {functions} functions");
        assert!(feasible * 100 >= functions * 99, "{name} at {base:#x}: {refused:#?}");
    }
}
