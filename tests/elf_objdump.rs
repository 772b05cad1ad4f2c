//! Our instruction boundaries against those of objdump, over whole libraries.

mod elf_support;

use elf_support::{LIBC, parse, run};
use std::collections::HashSet;
use std::path::Path;
use uprobe::addr::LinkAddr;
use uprobe::elf::{NoFiles, SymbolKind, boundary};

/// Where objdump sees instructions, and where it sees none (`(bad)`, `.byte`).
fn objdump(path: &str) -> (HashSet<u64>, HashSet<u64>) {
    let text = run(Path::new("/"), "objdump", &["-d", "-w", "--no-show-raw-insn", path]);
    let (mut starts, mut bad) = (HashSet::new(), HashSet::new());
    for line in text.lines() {
        let Some((address, insn)) = line.split_once(":\t") else { continue };
        let Ok(address) = u64::from_str_radix(address.trim(), 16) else { continue };
        if insn.contains("(bad)") || insn.starts_with(".byte") {
            bad.insert(address);
        } else {
            starts.insert(address);
        }
    }
    (starts, bad)
}

/// Functions compared, instructions compared, differences.
fn compare(path: &str) -> (usize, usize, Vec<String>) {
    let file = parse(Path::new(path));
    let (theirs, bad) = objdump(path);
    let (mut functions, mut insns, mut differences) = (0, 0, Vec::new());
    for function in file.functions(&NoFiles) {
        if function.size == 0 || function.kind == SymbolKind::NoType {
            continue;
        }
        functions += 1;
        let bounds = file.bounds_at(function.link).unwrap();
        let mut ours = HashSet::new();
        for start in boundary::starts(&file, &bounds) {
            match start {
                Ok(start) => {
                    insns += 1;
                    ours.insert(start.0);
                }
                Err(at) => {
                    if !bad.contains(&at.0) {
                        differences.push(format!("{:x}: no instruction for us", at.0));
                    }
                    break;
                }
            }
        }
        // objdump shows fwait and the x87 instruction behind it as one; the processor runs two (SDM, FSTCW).
        let is_behind_fwait =
            |at: u64| theirs.contains(&(at - 1)) && file.bytes_at(LinkAddr(at - 1), 1) == [0x9b];
        let range = bounds.start.0..bounds.end.0;
        let name = file.names(function).next().unwrap_or("?");
        for at in range {
            if ours.contains(&at) != theirs.contains(&at) && !bad.contains(&at) && !is_behind_fwait(at) {
                let bytes = file.bytes_at(LinkAddr(at), 15);
                let side = if ours.contains(&at) { "only ours" } else { "only objdump's" };
                differences.push(format!("{at:x} in {name}: {side}: {bytes:02x?}"));
                break;
            }
        }
    }
    (functions, insns, differences)
}

#[test]
fn agrees_over_libc() {
    let (functions, insns, differences) = compare(LIBC);
    assert!(functions > 2000 && insns > 100_000, "{functions} functions, {insns} instructions");
    assert_eq!(differences, [""; 0]);
}

#[test]
fn agrees_over_libm() {
    let (functions, insns, differences) = compare("/lib/x86_64-linux-gnu/libm.so.6");
    assert!(functions > 500 && insns > 50_000, "{functions} functions, {insns} instructions");
    assert_eq!(differences, [""; 0]);
}

/// `ELF_OBJDUMP=path` for a file of your choice; libstdc++ if nothing is said.
#[test]
fn agrees_over_a_file() {
    let libstdcxx = "/lib/x86_64-linux-gnu/libstdc++.so.6";
    let path = std::env::var("ELF_OBJDUMP").unwrap_or_else(|_| libstdcxx.into());
    let (functions, insns, differences) = compare(&path);
    println!("{functions} functions, {insns} instructions");
    assert!(functions > 0, "none in {path}");
    assert_eq!(differences, [""; 0]);
}
