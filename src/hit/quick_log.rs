//! Hits of which nothing is wanted but an event of registers in the binary trace: without Rust, with
//! general registers only.
//!
//! As [`super::quick`] for calls: the common case, and whatever is different goes the long way
//! ([`super::detour`], [`super::ring`]), which does the same and everything else: takes chunks, says whose
//! they are, defines probes. The same rules hold: signals are set aside while a record is half
//! written, and what is read lives for ever.

use std::arch::global_asm;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::blocks::{begin_detour, pop_scratch, push_scratch};
use crate::hit::consumer::{Consumer, More};
use crate::hit::detour::QuickDetour;
use crate::hit::point::ProbePoint;
use crate::hit::process::{self, ProcessPage};
use crate::hit::ring::{self, Cursor};
use crate::hit::run::Run;
use crate::hit::thread::ThreadState;
use crate::hit::{asm, output, ticks};
use crate::regs::Reg;
use crate::trace::file::{EVENT_HEAD, padded};
use crate::trace::record::int_tag;

/// Most arguments: there are no more registers at hand.
const MOST: usize = 7;

/// An argument as the code reads it; a tag of 0 ends them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Fetched {
    /// As in `trace::record`.
    tag: u8,
    /// Where the register was pushed.
    offset: u8,
    /// Bytes of the value with its tag.
    bytes: u8,
    reserved: u8,
}

/// What a detour's code needs; all zero where it is not one of these.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuickLog {
    consumer: *const Consumer,
    /// The event's word without the processor; 0: the probe is not defined yet.
    word: *const AtomicU64,
    /// Index of the cell of its hits.
    cell: u32,
    /// Bytes that an event takes.
    padded: u32,
    args: [Fetched; MOST + 1],
}

// SAFETY: the pointers are to what lives for ever.
unsafe impl Sync for QuickLog {}

impl QuickLog {
    /// Of a detour that is not one.
    pub const NONE: Self = Self {
        consumer: std::ptr::null(),
        word: std::ptr::null(),
        cell: 0,
        padded: 0,
        args: [Fetched { tag: 0, offset: 0, bytes: 0, reserved: 0 }; MOST + 1],
    };

    /// For `consumer`, which does nothing but log these registers (each with the bytes of its value)
    /// and counts in `cell`, at `point`. `None` where that can't be. Not at a hit.
    #[must_use]
    pub fn new(
        consumer: &'static Consumer,
        point: &ProbePoint,
        cell: u32,
        registers: impl Iterator<Item = (Reg, u8)>,
    ) -> Option<Self> {
        if !output::is_trace() || ticks::TICKS_ARE_TSC.load(Relaxed) == 0 || !asm::has_rdpid() {
            return None;
        }
        let mut args = Self::NONE.args;
        let mut len = EVENT_HEAD;
        for (index, (reg, width)) in registers.enumerate() {
            let to = args.get_mut(index).filter(|_| index < MOST)?;
            *to = Fetched { tag: int_tag(width), offset: offset(reg)?, bytes: 1 + width, reserved: 0 };
            len += 1 + usize::from(width);
        }
        let word = ring::announce(&consumer.definition, point.at, len)?;
        Some(Self { consumer, word, cell, padded: padded(len) as u32, args })
    }

    /// Whether it is `consumer`'s.
    #[must_use]
    pub fn is_of(&self, consumer: &Consumer) -> bool {
        std::ptr::eq(self.consumer, consumer)
    }

    /// Whether there is anything.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        !self.word.is_null()
    }
}

/// Where the code below pushes it.
const fn offset(reg: Reg) -> Option<u8> {
    Some(match reg {
        Reg::R9 => 0,
        Reg::R8 => 8,
        Reg::Rdi => 16,
        Reg::Rsi => 24,
        Reg::Rdx => 32,
        Reg::Rcx => 40,
        Reg::Rax => 48,
        _ => return None,
    })
}

const CURSOR: usize = offset_of!(ThreadState, cursor);
const LOG: usize = offset_of!(QuickDetour, log);

global_asm!(
    ".text",
    ".p2align 4",
    ".globl uprobe_detour_log",
    ".hidden uprobe_detour_log",
    ".type uprobe_detour_log,@function",
    // [rsp] = back.
    "uprobe_detour_log:",
    begin_detour!(),
    push_scratch!(),
    ".cfi_remember_state",
    "mov rdi, [rsp + 56]",
    "mov rdi, [rdi - 19]", // &Detour
    "mov r9, [rip + uprobe_tls_cells@GOTTPOFF]",
    "mov r9, fs:[r9]",
    "test r9, r9",
    "jz 9f", // inside a hit, or the thread's first
    "cmp qword ptr [r9 + {running}], 0",
    "jne 9f", // inside a handler
    "mov rcx, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rcx, fs:[rcx]",
    // From here on signals are set aside: a handler's own hits, or its fork, would make untrue what is
    // looked at below.
    "mov dword ptr [rcx + {depth}], 1",
    "mov rax, [rip + {page}]",
    "cmp dword ptr [rax + {pid}], 0",
    "je 6f", // a fork child's first
    "mov rax, [rdi + {consumer}]",
    "cmp byte ptr [rax + {alive}], 0",
    "je 6f",
    "mov r8, [rdi + {word}]",
    "mov r8, [r8]",
    "test r8, r8",
    "jz 6f", // the probe's first
    "cmp byte ptr [rcx + {is_named}], 0",
    "je 6f",
    "cmp byte ptr [rcx + {comm_known}], 0",
    "je 6f",
    "cmp byte ptr [rip + {broken}], 0",
    "jne 6f",
    "mov rsi, [rcx + {at}]",
    "mov eax, [rdi + {padded}]",
    "add rax, rsi", // the next record
    "lea rdx, [rax + 8]",
    "cmp rdx, [rcx + {end}]",
    "ja 6f", // the chunk is full
    "mov edx, [rdi + {cell}]",
    "inc qword ptr [r9 + 8 * rdx]",
    "mov r9, rax",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov [rsi + 8], rax",
    "lea rdx, [rsi + 16]",
    "movzx eax, byte ptr [rdi + {args}]",
    "test eax, eax",
    "jz 3f",
    "2:",
    "mov [rdx], al", // the tag
    "movzx eax, byte ptr [rdi + {args} + 1]",
    "mov rax, [rsp + rax]",
    "mov [rdx + 1], rax", // what is too much is overwritten
    "movzx eax, byte ptr [rdi + {args} + 2]",
    "add rdx, rax",
    "add rdi, 4",
    "movzx eax, byte ptr [rdi + {args}]",
    "test eax, eax",
    "jnz 2b",
    "3:",
    "mov qword ptr [r9], 0",
    // rdpid rax
    ".byte 0xf3, 0x0f, 0xc7, 0xf8",
    "and eax, 0xFFF",
    "shl rax, 32",
    "or r8, rax",
    "cmp byte ptr [rip + {broken}], 0",
    "jne 7f",
    "mov [rsi], r8",
    "mov [rcx + {at}], r9",
    "4:",
    "mov dword ptr [rcx + {depth}], 0",
    "cmp dword ptr [rcx + {pending}], 0",
    "jne 8f",
    "5:",
    pop_scratch!(),
    "ret",
    // The disk is full: this very event has found out.
    "7:",
    ".cfi_restore_state",
    ".cfi_remember_state",
    "mov rdi, [rsp + 56]",
    "mov rdi, [rdi - 19]",
    "mov rax, [rdi + {consumer}]",
    "mov rax, [rax + {more}]", // each that logs has it
    "lock inc qword ptr [rax + {lost}]",
    "jmp 4b",
    "8:",
    ".cfi_restore_state",
    "call uprobe_deliver",
    "jmp 5b",
    // The long way delivers what was set aside meanwhile.
    "6:",
    "mov dword ptr [rcx + {depth}], 0",
    "9:",
    pop_scratch!(),
    "jmp uprobe_detour_common",
    ".cfi_endproc",
    ".size uprobe_detour_log, . - uprobe_detour_log",
    page = sym process::PAGE,
    pid = const offset_of!(ProcessPage, pid),
    broken = sym ring::BROKEN,
    alive = const offset_of!(Consumer, alive),
    more = const offset_of!(Consumer, behind),
    lost = const offset_of!(More, counters) + offset_of!(crate::hit::counters::Counters, lost),
    is_named = const CURSOR + offset_of!(Cursor, is_named),
    at = const CURSOR + offset_of!(Cursor, at),
    end = const CURSOR + offset_of!(Cursor, end),
    comm_known = const offset_of!(ThreadState, comm_known),
    running = const Run::CONSUMER,
    depth = const offset_of!(ThreadState, depth),
    pending = const offset_of!(ThreadState, pending),
    consumer = const LOG + offset_of!(QuickLog, consumer),
    word = const LOG + offset_of!(QuickLog, word),
    cell = const LOG + offset_of!(QuickLog, cell),
    padded = const LOG + offset_of!(QuickLog, padded),
    args = const LOG + offset_of!(QuickLog, args),
);

unsafe extern "C" {
    /// In place of `uprobe_detour_common`.
    pub fn uprobe_detour_log();
}
