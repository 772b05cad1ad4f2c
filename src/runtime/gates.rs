//! Finding the system-call sites of libc, and of programs that make their own, that must be gated (see `hit::gates`).
//!
//! A site is `mov eax, NUMBER` and then `syscall` with nothing but plain instructions between, at
//! instruction boundaries of a known function; or `mov eax, REGISTER` in place of the first, where the
//! function puts a number of ours into that register. 2.36 has some ninety of them; what they do is decided at the
//! hit by the number that is in rax then, so a wrong find would do no harm.

use std::path::Path;

use crate::addr::{LinkAddr, RuntimeAddr};
use crate::elf::{self, ElfFile};
use crate::hit::consumer::InternalHandler;
use crate::hit::gates::{GATED, GATED_FOR_DESCRIPTORS, on_exit, on_syscall};
use crate::hit::masks::on_restorer;
use crate::hit::output;
use crate::hit::restrict::RESTRICTING;
use crate::insn;
use crate::probe::{Module, Registry};
use crate::runtime::messages::{Level, say};
use crate::sys::SIGNAL_RETURN;

/// How far `syscall` may be behind its `mov`, in instructions.
const MOST_BETWEEN: usize = 8;
/// `mov eax, imm32`.
const MOV_EAX: u8 = 0xB8;
/// `syscall`.
const SYSCALL: [u8; 2] = [0x0F, 0x05];

/// In place of a number: whatever is called.
const ANY_CALL: i64 = -1;

/// What to gate, found once.
#[derive(Debug, Default)]
pub struct Gates {
    /// Sites of rt_sigprocmask that can only block (`how` is SIG_BLOCK in the code itself).
    blocking: Vec<u64>,
    /// All others: address, system call.
    others: Vec<(u64, i64)>,
    /// Those of all where the process or a thread ends.
    pub ends: Vec<u64>,
    exit: Option<u64>,
    by_number: Option<u64>,
    /// Where handlers return to.
    restorer: Option<u64>,
}

/// Looks for the sites in libc.
pub fn find(registry: &mut Registry) -> Gates {
    let Some(libc) = registry.modules.iter().find(|module| is_libc(module)).cloned() else {
        say(Level::Warn, "libc.so.6 is not among the objects: the program could take our signals");
        return Gates::default();
    };
    let file = match registry.file(&libc) {
        Ok(file) => file,
        Err(refusal) => {
            say(Level::Warn, &format!("system calls of libc are not gated: {refusal}"));
            return Gates::default();
        }
    };
    let mut gated = GATED.to_vec();
    gated.extend(RESTRICTING);
    if output::has_guarded() {
        gated.extend(GATED_FOR_DESCRIPTORS);
    }
    let mut gates = Gates {
        exit: symbol(&file, "_exit").map(|link| link.at(libc.bias).0),
        by_number: direct_call(&libc, &file),
        restorer: restorer(&libc, &file),
        ..Gates::default()
    };
    let ends: Vec<u64> = thread_ends(&libc, &file).collect();
    for (at, number) in sites(&libc, &file, &gated) {
        if ends.contains(&at) {
            continue;
        }
        if number == libc::SYS_clone && !is_in_clone(&file, RuntimeAddr(at).link(libc.bias)) {
            continue;
        }
        if number == libc::SYS_rt_sigprocmask && only_blocks(&file, RuntimeAddr(at).link(libc.bias)) {
            gates.blocking.push(at);
        } else {
            gates.others.push((at, number));
        }
    }
    gates.others.extend(sites_of_program(registry));
    gates.others.extend(ends.into_iter().map(|at| (at, libc::SYS_exit)));
    let of_threads = gates.others.iter().filter(|(_, number)| *number == libc::SYS_exit).map(|(at, _)| *at);
    gates.ends.extend(of_threads.chain(gates.exit));
    if gates.exit.is_none() {
        say(Level::Warn, "no report at _exit: libc has no such symbol");
    }
    if !gates.others.iter().any(|(_, number)| *number == libc::SYS_rt_sigprocmask) {
        say(Level::Warn, "libc's rt_sigprocmask was not found: a program that blocks SIGTRAP will die");
    }
    gates
}

/// Those of a program that makes its own system calls, as Go's and Free Pascal's do: by what is done with the
/// result, which no other code looks like. A stripped program has no functions that tell more. One number
/// is certain, or all are looked at as they are called; but not Go's, which makes all of its calls in one place.
fn sites_of_program(registry: &mut Registry) -> Vec<(u64, i64)> {
    /// syscall; cmp rax, -4095, or -4096.
    const CHECKED: [[u8; 8]; 2] =
        [[0x0F, 0x05, 0x48, 0x3D, 0x01, 0xF0, 0xFF, 0xFF], [0x0F, 0x05, 0x48, 0x3D, 0x00, 0xF0, 0xFF, 0xFF]];
    let program = registry.modules[0].clone();
    let Ok(file) = registry.file(&program) else { return Vec::new() };
    // A sanitizer's runtime makes its calls in a task of its own, too, with SIGTRAP blocked.
    if symbol(&file, "__sanitizer_print_stack_trace").is_some() {
        return Vec::new();
    }
    let is_go = file.is_go();
    let mut wanted = vec![libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_exit_group];
    if !is_go {
        wanted.extend(GATED.iter().chain(&RESTRICTING));
    }
    let mut found = Vec::new();
    for segment in file.load_segments().iter().filter(|segment| segment.executable) {
        let text = file.bytes_at(segment.link, segment.file_size as usize);
        for at in CHECKED.iter().flat_map(|checked| memchr::memmem::find_iter(text, checked)) {
            let site = segment.link.add(at as u64).at(program.bias).0;
            match constant_before(text, at) {
                Some(number) if wanted.contains(&number) => found.push((site, number)),
                None if !is_go => found.push((site, ANY_CALL)),
                _ => {}
            }
        }
    }
    for certain in sites(&program, &file, &wanted) {
        if !found.iter().any(|(site, _)| *site == certain.0) {
            found.push(certain);
        }
    }
    found
}

/// The number that is certainly in eax at the `syscall` at `text[at..]`.
fn constant_before(text: &[u8], at: usize) -> Option<i64> {
    const WINDOW: usize = 64;
    let candidates = (at.saturating_sub(WINDOW)..at.saturating_sub(4)).rev();
    let mov = candidates.filter(|mov| text[*mov] == MOV_EAX).find(|mov| leads_to(text, *mov, at))?;
    let number = text.get(mov + 1..mov + 5)?.try_into().ok()?;
    Some(i64::from(u32::from_le_bytes(number)))
}

/// Arms the sites that only block: from here on no thread newly blocks our signals there, and one that
/// did before does not meet an int3 while it does.
pub fn arm_blocking(registry: &mut Registry, gates: &Gates) {
    let wanted: Vec<(u64, InternalHandler)> =
        gates.blocking.iter().map(|at| (*at, on_syscall as InternalHandler)).collect();
    arm(registry, &wanted);
}

/// Takes them out again.
pub fn disarm_blocking(registry: &mut Registry, gates: &Gates) {
    registry.unregister_internals(&gates.blocking);
}

/// Arms all others. No thread may have SIGTRAP blocked.
pub fn arm_others(registry: &mut Registry, gates: &Gates) {
    let mut wanted: Vec<(u64, InternalHandler)> =
        gates.others.iter().map(|(at, _)| (*at, on_syscall as InternalHandler)).collect();
    // Whatever the program calls by number.
    wanted.extend(gates.by_number.map(|at| (at, on_syscall as InternalHandler)));
    wanted.extend(gates.exit.map(|at| (at, on_exit as InternalHandler)));
    arm(registry, &wanted);
    if let Some(at) = gates.restorer
        && let Err(refusal) = registry.register_restorer(at, on_restorer)
    {
        say(Level::Warn, &format!("libc's return from signals at {at:#x}: {refusal}"));
    }
    say(Level::Debug, &format!("{} system-call sites of libc gated", gates.blocking.len() + wanted.len()));
}

fn arm(registry: &mut Registry, wanted: &[(u64, InternalHandler)]) {
    for (at, refusal) in registry.register_internals(wanted) {
        say(Level::Warn, &format!("the gate at {at:#x}: {refusal}"));
    }
}

/// libc's return from a signal: a function of two instructions.
fn restorer(libc: &Module, file: &ElfFile) -> Option<u64> {
    let mut segments = file.load_segments().iter().filter(|segment| segment.executable);
    let at = segments.find_map(|segment| {
        let text = file.bytes_at(segment.link, segment.file_size as usize);
        memchr::memmem::find(text, &SIGNAL_RETURN).map(|at| segment.link.add(at as u64))
    })?;
    file.bounds_at(at).filter(|bounds| bounds.start == at).map(|_| at.at(libc.bias).0)
}

/// Whether the last write to edi before the `syscall` at `site` makes it SIG_BLOCK, which is 0.
fn only_blocks(file: &ElfFile, site: LinkAddr) -> bool {
    const XOR_EDI_EDI: [u8; 2] = [0x31, 0xFF];
    let Some(bounds) = file.bounds_at(site) else { return false };
    let before: Vec<LinkAddr> =
        elf::boundary::starts(file, &bounds).flatten().take_while(|start| *start < site).collect();
    // As far back as the number may be: nothing between but plain instructions.
    before.iter().rev().take(MOST_BETWEEN).any(|start| file.bytes_at(*start, 2) == XOR_EDI_EDI)
}

/// Whether a site is the one of clone(): a fork makes the same system call, with flags that are of no interest.
fn is_in_clone(file: &ElfFile, site: LinkAddr) -> bool {
    file.symbolize(site).is_some_and(|(name, _)| name.trim_start_matches('_') == "clone")
}

fn is_libc(module: &Module) -> bool {
    module.path.file_name().is_some_and(|name| name == Path::new("libc.so.6"))
        || module.path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libc-2.") && name.ends_with(".so")
        })
}

fn symbol(file: &ElfFile, name: &str) -> Option<LinkAddr> {
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
            let number = number_of(file, segment.link, text, at, gated)
                .or_else(|| number_in_register(file, segment.link, text, at, gated));
            if let Some(number) = number {
                found.push((segment.link.add(at as u64).at(module.bias).0, number));
            }
        }
    }
    found
}

/// Where libc ends a thread: `for (;;) exit(0)`, which every gcc so far makes a loop of eight bytes with the
/// number in a register. Where it isn't found, a thread's end is noticed later, as a killed one's is.
fn thread_ends<'a>(module: &'a Module, file: &'a ElfFile) -> impl Iterator<Item = u64> + 'a {
    const XOR_EDI_EDI_MOV_EAX: [u8; 3] = [0x31, 0xFF, 0x89];
    const SYSCALL_AGAIN: [u8; 4] = [0x0F, 0x05, 0xEB, 0xF8];
    const WINDOW: usize = 24;
    let executable = file.load_segments().iter().filter(|segment| segment.executable);
    executable.flat_map(move |segment| {
        let text = file.bytes_at(segment.link, segment.file_size as usize);
        memchr::memmem::find_iter(text, &SYSCALL_AGAIN).filter_map(move |at| {
            let head = text.get(at.checked_sub(4)?..at)?;
            // mov eax, r32: to eax from the register in the middle bits.
            let from = head[3] >> 3 & 7;
            if head[..3] != XOR_EDI_EDI_MOV_EAX || head[3] & 0xC7 != 0xC0 {
                return None;
            }
            let mut number = [MOV_EAX + from, 0, 0, 0, 0];
            number[1..].copy_from_slice(&(libc::SYS_exit as u32).to_le_bytes());
            let before = text.get(at.saturating_sub(WINDOW)..at)?;
            memchr::memmem::find(before, &number)?;
            Some(segment.link.add(at as u64).at(module.bias).0)
        })
    })
}

/// The gated number that a `syscall` at `text[at..]` certainly makes.
fn number_of(file: &ElfFile, base: LinkAddr, text: &[u8], at: usize, gated: &[i64]) -> Option<i64> {
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

/// The gated number that a `syscall` at `text[at..]` may make, where `eax` gets it from another register: gcc
/// keeps a number there that a function needs twice, as the helpers of aio and of getaddrinfo_a do that
/// block all signals around pthread_create.
fn number_in_register(file: &ElfFile, base: LinkAddr, text: &[u8], at: usize, gated: &[i64]) -> Option<i64> {
    const WINDOW: usize = 64;
    let window = text.get(at.saturating_sub(WINDOW)..at)?;
    window.windows(2).find(|pair| is_mov_to_eax(pair))?;
    let site = base.add(at as u64);
    let bounds = file.bounds_at(site)?;
    let starts: Vec<LinkAddr> = elf::boundary::starts(file, &bounds).flatten().collect();
    let index = starts.iter().position(|start| *start == site)?;
    let before = starts[index.saturating_sub(MOST_BETWEEN)..index].iter().rev();
    let source = before.filter_map(|start| moved_to_eax(file.bytes_at(*start, 3))).next()?;
    let loaded = starts.iter().filter_map(|start| loaded_into(source, file.bytes_at(*start, 6)));
    loaded.map(i64::from).find(|number| gated.contains(number))
}

/// Whether these two bytes are `mov eax, r32`, but for a prefix.
fn is_mov_to_eax(code: &[u8]) -> bool {
    matches!(code, [0x89, modrm, ..] if modrm & 0xC7 == 0xC0)
}

/// The register that an instruction copies to eax, by its number.
fn moved_to_eax(code: &[u8]) -> Option<u8> {
    match code {
        [0x44, rest @ ..] if is_mov_to_eax(rest) => Some(8 + (rest[1] >> 3 & 7)),
        code if is_mov_to_eax(code) => Some(code[1] >> 3 & 7),
        _ => None,
    }
}

/// The number that an instruction loads into this register, if it is `mov r32, imm32`.
fn loaded_into(register: u8, code: &[u8]) -> Option<u32> {
    let number = match code {
        [0x41, opcode, number @ ..] if register >= 8 && *opcode == MOV_EAX + register - 8 => number,
        [opcode, number @ ..] if register < 8 && *opcode == MOV_EAX + register => number,
        _ => return None,
    };
    Some(u32::from_le_bytes(number.get(..4)?.try_into().ok()?))
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
