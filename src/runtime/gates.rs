//! Finding the system-call sites of libc that must be gated (see `hit::gates`).
//!
//! A site is `mov eax, NUMBER` and then `syscall` with nothing but plain instructions between, at
//! instruction boundaries of a known function. 2.36 has 35 of them; what they do is decided at the hit by
//! the number that is in rax then, so a wrong find would do no harm.

use std::path::Path;

use crate::elf::{self, ElfFile};
use crate::hit::gates::{GATED, GATED_FOR_DESCRIPTORS, on_exit, on_syscall};
use crate::hit::output;
use crate::insn;
use crate::probe::{Module, Registry};
use crate::runtime::messages::{Level, say};

/// How far `syscall` may be behind its `mov`, in instructions.
const MOST_BETWEEN: usize = 8;
/// `mov eax, imm32`.
const MOV_EAX: u8 = 0xB8;
/// `syscall`.
const SYSCALL: [u8; 2] = [0x0F, 0x05];

/// Gates libc in this process.
pub fn install(registry: &mut Registry) {
    let Some(libc) = registry.modules.iter().find(|module| is_libc(module)).cloned() else {
        say(Level::Warn, "libc.so.6 is not among the objects: the program could take our signals");
        return;
    };
    let file = match registry.file(&libc) {
        Ok(file) => file,
        Err(refusal) => {
            say(Level::Warn, &format!("system calls of libc are not gated: {refusal}"));
            return;
        }
    };
    let mut found = 0;
    let mut signal_sites = 0;
    let mut gated = GATED.to_vec();
    if output::has_guarded() {
        gated.extend(GATED_FOR_DESCRIPTORS);
    }
    for (at, number) in sites(&libc, &file, &gated) {
        match registry.register_internal(at, on_syscall) {
            Ok(()) => {
                found += 1;
                signal_sites += usize::from(number == libc_number_sigprocmask());
            }
            Err(refusal) => say(Level::Warn, &format!("gate at {at:#x} (system call {number}): {refusal}")),
        }
    }
    let exit = symbol(&file, "_exit").map(|link| link.at(libc.bias).0);
    match exit.map(|at| registry.register_internal(at, on_exit)) {
        Some(Ok(())) => {}
        Some(Err(refusal)) => say(Level::Warn, &format!("no report at _exit: {refusal}")),
        None => say(Level::Warn, "no report at _exit: libc has no such symbol"),
    }
    // Whatever the program calls by number.
    if let Some(at) = direct_call(&libc, &file)
        && let Err(refusal) = registry.register_internal(at, on_syscall)
    {
        say(Level::Warn, &format!("syscall() is not gated: {refusal}"));
    }
    if signal_sites == 0 {
        say(Level::Warn, "libc's rt_sigprocmask was not found: a program that blocks SIGTRAP will die");
    }
    say(Level::Debug, &format!("{found} system-call sites of libc gated"));
}

const fn libc_number_sigprocmask() -> i64 {
    libc::SYS_rt_sigprocmask
}

fn is_libc(module: &Module) -> bool {
    module.path.file_name().is_some_and(|name| name == Path::new("libc.so.6"))
        || module.path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libc-2.") && name.ends_with(".so")
        })
}

fn symbol(file: &ElfFile, name: &str) -> Option<crate::addr::LinkAddr> {
    let place = crate::place::parse(&format!("libc.so.6:{name}")).ok()?;
    elf::resolve(&place, file, &elf::NoFiles).ok()?.first().map(|found| found.link)
}

/// The `syscall` instruction of libc's syscall().
fn direct_call(module: &Module, file: &ElfFile) -> Option<u64> {
    let start = symbol(file, "syscall")?;
    let bounds = file.bounds_at(start)?;
    elf::boundary::starts(file, &bounds)
        .flatten()
        .find(|at| file.bytes_at(*at, 2) == SYSCALL)
        .map(|at| at.at(module.bias).0)
}

/// Runtime addresses of the `syscall` instructions, with their numbers.
fn sites(module: &Module, file: &ElfFile, gated: &[i64]) -> Vec<(u64, i64)> {
    let mut found = Vec::new();
    for segment in file.load_segments().iter().filter(|segment| segment.executable) {
        let text = file.bytes_at(segment.link, segment.file_size as usize);
        for at in memchr::memmem::find_iter(text, &SYSCALL) {
            if let Some(number) = number_of(file, segment.link, text, at, gated) {
                found.push((segment.link.add(at as u64).at(module.bias).0, number));
            }
        }
    }
    found
}

/// The gated number that a `syscall` at `text[at..]` certainly makes.
fn number_of(
    file: &ElfFile,
    base: crate::addr::LinkAddr,
    text: &[u8],
    at: usize,
    gated: &[i64],
) -> Option<i64> {
    const WINDOW: usize = 64;
    let from = at.saturating_sub(WINDOW);
    // The nearest `mov eax, imm32` with a number of ours, then a decode that meets the syscall.
    let candidates = (from..at.saturating_sub(4)).rev().filter(|i| text[*i] == MOV_EAX);
    for mov in candidates {
        let number = i64::from(u32::from_le_bytes(text.get(mov + 1..mov + 5)?.try_into().ok()?));
        if gated.contains(&number) && leads_to(text, mov, at) {
            let bounds = file.bounds_at(base.add(mov as u64))?;
            let starts = elf::boundary::starts(file, &bounds);
            let is_start = starts.flatten().any(|start| start == base.add(mov as u64));
            return is_start.then_some(number);
        }
    }
    None
}

fn leads_to(text: &[u8], mov: usize, syscall: usize) -> bool {
    let mut at = mov;
    for _ in 0..MOST_BETWEEN {
        if at == syscall {
            return true;
        }
        let Some(len) = text.get(at..).and_then(insn::decode_len) else { return false };
        at += len;
        if at > syscall {
            return false;
        }
    }
    false
}
