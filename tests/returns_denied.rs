//! What the installed libraries do with their return addresses, read from their code: each function
//! that does more than `ret` with its own is either refused for return probes or known to be fine.
//! A new library whose code says something else fails here, and wants a decision.
//!
//! `cargo test --test returns_denied -- --nocapture table` prints all that was found.

#[path = "returns_denied/frames.rs"]
mod frames;
#[path = "returns_denied/scan.rs"]
mod scan;

mod elf_support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use scan::{Finding, Trait, scan};
use uprobe::elf::{ElfFile, StdFiles};
use uprobe::probe::denied::why_no_return;

const LIBRARIES: [&str; 10] = [
    "libc.so.6",
    "ld-linux-x86-64.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libresolv.so.2",
    "libc_malloc_debug.so.0",
    "libgcc_s.so.1",
    "libstdc++.so.6",
];

/// What the scan finds and a replaced return address does not disturb.
#[rustfmt::skip]
const FINE: &[(&[&str], &str)] = &[
    (&["__sigsetjmp", "setjmp", "_setjmp"],
     "it keeps the address for longjmp, and coming back to it any number of times is right: it stays valid"),
    (&["getcontext", "swapcontext"],
     "it keeps the address in the context; whoever resumes the context comes back through the same stub"),
    (&["setcontext"],
     "it returns only when it fails; else it goes where the context says, a stub of an earlier call or not"),
    (&["vfork"],
     "it holds the address in a register over the system call and puts it back: child and parent return through it"),
    (&["clone", "__clone3"],
     "the parent returns as always; what is popped is the child's function, from the child's own stack"),
    (&["__mpn_addmul_1", "__mpn_submul_1"],
     "the frame description leaves out two registers it saves; what is popped is one of them"),
    (&["__longjmp", "__longjmp_cancel", "____longjmp_chk"],
     "it leaves its own frame with those it jumps over, and never looks at the address"),
    (&["_Unwind_RaiseException", "_Unwind_ForcedUnwind", "_Unwind_Resume", "_Unwind_Resume_or_Rethrow"],
     "the unwinder starts from the address, and the stubs have a frame description that leads to the real one"),
];

fn open(name: &str) -> Option<ElfFile> {
    let path = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"]
        .iter()
        .find_map(|dir| Path::new(dir).join(name).canonicalize().ok());
    let Some(path) = path else {
        eprintln!("\n******** SKIPPED: '{name}' is not installed, its functions were not read ********\n");
        return None;
    };
    Some(ElfFile::open(&path, &StdFiles).expect("an ELF file"))
}

fn why_fine(names: &[&str]) -> Option<&'static str> {
    let is_meant = |(listed, _): &&(&[&str], &str)| listed.iter().any(|name| names.contains(name));
    FINE.iter().find(is_meant).map(|(_, why)| *why)
}

/// A function may never return: what is in the place of its return address is not used, and its call stays in
/// flight, or is left.
fn is_harmless(finding: &Finding) -> bool {
    finding.traits.keys().all(|&what| what == Trait::NeverReturns)
}

#[test]
fn every_finding_is_decided() {
    let mut undecided = Vec::new();
    for file in LIBRARIES.iter().filter_map(|name| open(name)) {
        let soname = file.soname().expect("a library has one").to_owned();
        for finding in scan(&file) {
            let names: Vec<&str> = finding.names.iter().map(String::as_str).collect();
            let (refused, fine) = (why_no_return(Some(&soname), file.path(), &names), why_fine(&names));
            match (refused, fine) {
                (Some(why), None) => println!("{soname} {finding}\n    refused: {why}"),
                (None, Some(why)) => println!("{soname} {finding}\n    fine: {why}"),
                (None, None) if is_harmless(&finding) => {}
                (None, None) => undecided.push(format!("{soname} {finding}")),
                (Some(_), Some(_)) => undecided.push(format!("both refused and fine: {soname} {finding}")),
            }
        }
    }
    assert!(undecided.is_empty(), "neither refused nor known to be fine:\n{}", undecided.join("\n"));
}

/// Nothing is refused by guess: the code of each refused function shows why, in one library at least.
#[test]
fn every_refusal_has_its_finding() {
    let (mut found, mut refused) = (BTreeSet::new(), Vec::new());
    for file in LIBRARIES.iter().filter_map(|name| open(name)) {
        found.extend(scan(&file).into_iter().flat_map(|finding| finding.names));
        for function in file.functions(&StdFiles) {
            let names: Vec<&str> = file.names(function).collect();
            if why_no_return(file.soname(), file.path(), &names).is_some() {
                refused.push(names.into_iter().map(str::to_owned).collect::<Vec<_>>());
            }
        }
    }
    for names in &refused {
        assert!(
            names.iter().any(|name| found.contains(name)),
            "{names:?} is refused, and its code shows nothing"
        );
    }
    for name in ["dlopen", "dlsym", "dlvsym", "dl_iterate_phdr", "mcount", "__start_context"] {
        assert!(refused.iter().flatten().any(|refused| refused == name), "{name} was not met");
    }
}

/// The scan sees each thing it looks for, and does not see it where it is not.
#[test]
fn scan_sees() {
    let dir = elf_support::directory("returns");
    elf_support::write(&dir, "t.c", SOURCE);
    elf_support::run(&dir, "gcc", &["-O1", "-fcf-protection=none", "-shared", "-fPIC", "-o", "t.so", "t.c"]);
    let findings = scan(&elf_support::parse(&PathBuf::from(&dir).join("t.so")));
    let found = |name: &str| -> Vec<Trait> {
        let finding = findings.iter().find(|f| f.names.iter().any(|n| n == name));
        finding.map(|f| f.traits.keys().copied().collect()).unwrap_or_default()
    };
    for (name, expected) in [
        ("reads", &[Trait::ReadsReturnAddress][..]),
        ("reads_by_rbp", &[Trait::ReadsReturnAddress]),
        ("writes", &[Trait::WritesReturnAddress]),
        ("takes", &[Trait::WritesReturnAddress, Trait::PopsReturnAddress]),
        ("points", &[Trait::AddressesReturnSlot]),
        ("switches", &[Trait::SwitchesStack]),
        ("ends", &[Trait::NeverReturns]),
        ("ends_by_jump", &[Trait::NeverReturns]),
        ("signal_return", &[Trait::NeverReturns, Trait::NoReturnAddress]),
        ("plain", &[]),
        ("stack_arguments", &[]),
        ("variable_array", &[]),
        ("tail", &[]),
        ("runs_on", &[]),
    ] {
        assert_eq!(found(name), expected, "{name}: {findings:#?}");
    }
}

const SOURCE: &str = r#"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
int sink(void *, ...);
int reads(void) { return sink(__builtin_return_address(0)) + 1; }
__attribute__((optimize("no-omit-frame-pointer")))
int reads_by_rbp(int n) { char all[n]; return sink(all, __builtin_return_address(0)) + 1; }
int plain(int x) { int a[9]; sink(a, x); return a[3]; }
int stack_arguments(int a, int b, int c, int d, int e, int f, int g, int h) { return sink(0, g, h, a, b, c, d, e, f) + 1; }
int variable_array(int n) { int r = 0; for (int i = 1; i < n; i++) { char all[i]; r += sink(all); } return r; }
void ends(int x) { sink(0, x); abort(); }
int tail(int x) { return plain(x + 1); }
#define FUNCTION(name, body) __asm__(".globl " name "\n.type " name ",@function\n" name ":\n.cfi_startproc\n" \
  body "\n.cfi_endproc\n.size " name ",.-" name "\n");
FUNCTION("writes", "mov %rdi,(%rsp)\n ret")
FUNCTION("takes", "pop %rdx\n.cfi_adjust_cfa_offset -8\n push %rdx\n.cfi_adjust_cfa_offset 8\n ret")
FUNCTION("points", "push %rbx\n.cfi_adjust_cfa_offset 8\n lea 8(%rsp),%rax\n pop %rbx\n.cfi_adjust_cfa_offset -8\n ret")
FUNCTION("switches", "mov %rdi,%rsp\n ret")
FUNCTION("ends_by_jump", "jmp ends_here\n ends_here: hlt")
FUNCTION("signal_return", ".cfi_signal_frame\n.cfi_def_cfa_offset 160\n mov $15,%eax\n syscall")
FUNCTION("runs_on", "nop")
FUNCTION("and_returns", "ret")
"#;
