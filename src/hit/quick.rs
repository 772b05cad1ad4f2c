//! Calls of which nothing is wanted but their number and their times: both sides without Rust, with
//! general registers only.
//!
//! The common case of the common case: a jump, a thread's own stack, a caller seen before, a callee
//! deeper than the last, nobody else interested. Whatever is different goes the long way
//! ([`super::detour`], [`super::returns`]), which does the same and everything else. What the long
//! way follows lands here if it is of the same kind, and what is followed here may land there: the flag
//! [`shadow::QUICK`] tells.
//!
//! Signals are set aside as in any hit while an instance or a cell is half written, and delivered at
//! the end by the same trap. No consumer list is read: what is needed lies in the detour, which is never
//! freed, and in the consumer, which a config's probe keeps for ever.

use std::arch::global_asm;
use std::mem::offset_of;
use std::sync::atomic::Ordering::*;

use crate::hit::blocks::{begin_detour, pop_scratch, push_scratch};
use crate::hit::consumer::{Consumer, Role, Side};
use crate::hit::detour::QuickDetour;
use crate::hit::point::ProbePoint;
use crate::hit::run::Run;
use crate::hit::shadow::{self, ReturnInstance};
use crate::hit::stubs;
use crate::hit::thread::ThreadState;
use crate::hit::ticks::{self, TICKS_MULT};
use crate::hit::{counters::Counters, latency};
use crate::trace::latency::BUCKETS;

/// What a detour's code needs; all zero where it is not one of these.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quick {
    consumer: *const Consumer,
    point: *const ProbePoint,
    /// Of the pair's hash, the target's part.
    hash: u64,
    target: u64,
    /// Index of the first of its cells: hits, returns, filtered, and the times.
    pub first: u32,
    /// `bytes`, `class` and `flags` of an instance.
    flags: u32,
}

impl Quick {
    /// Of a detour that is not one.
    pub const NONE: Self =
        Self { consumer: std::ptr::null(), point: std::ptr::null(), hash: 0, target: 0, first: 0, flags: 0 };

    /// For `consumer`, whose cells begin at `first`, at `point`, whose displaced instructions are at
    /// `target`.
    #[must_use]
    pub fn new(consumer: &Consumer, point: &ProbePoint, target: u64, first: u32) -> Self {
        let timed = if consumer.latency.is_some() { shadow::TIMED } else { 0 };
        let flags = u32::from(shadow::FIRST | shadow::QUICK | timed) << 24;
        Self { consumer, point, hash: target.rotate_left(32), target, first, flags }
    }

    /// Whether there is anything.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.first != 0
    }
}

/// Where the cells of `consumer` begin, if it does nothing but count calls and take their times, of those that its
/// filter lets through. (Where the time stamp counter is the clock; another is not read here.)
#[must_use]
pub fn first_cell(consumer: &Consumer) -> Option<u32> {
    let Role::Event(event) = consumer.role() else { return None };
    let first = consumer.counters.hits.cell()?;
    let has_times = match &consumer.latency {
        Some(latency) => latency.first() == first + Counters::EVENT_CELLS,
        None => true,
    };
    let only_counts = event.side != Side::Entry
        && !event.acts()
        && consumer.sample == 1
        && consumer.limit == 0
        && consumer.maxactive == 0
        && !consumer.returns_twice;
    let has_counter = ticks::TICKS_ARE_TSC.load(Relaxed) != 0;
    (only_counts && has_times && has_counter).then_some(first)
}

// SAFETY: the pointers are to what lives for ever, and only compared and copied here.
unsafe impl Sync for Quick {}

/// The flags are the last byte of the word that `flags` is stored into; two fields are stored at once, twice.
const _: () = assert!(shadow::FLAGS == shadow::BYTES + 3);
const _: () = assert!(shadow::BYTES == shadow::NEXT + 4);
const _: () = assert!(offset_of!(Quick, flags) == offset_of!(Quick, first) + 4);
const _: () = assert!(offset_of!(ReturnInstance, block) == offset_of!(ReturnInstance, stub) + 4);
/// Ticks of so many bits, times the rate of any processor, are a word: a tenth of a second.
const SHORT_BITS: u32 = 28;
const _: () = assert!(1 << (64 - SHORT_BITS) > ticks::GREATEST_MULT);
const STACK: usize = offset_of!(ThreadState, stack);
const QUICK: usize = offset_of!(QuickDetour, quick);
/// Of the times, from the first cell on.
const TIMES: usize = 8 * Counters::EVENT_CELLS as usize;

global_asm!(
    ".text",
    ".p2align 4",
    ".globl uprobe_detour_quick",
    ".hidden uprobe_detour_quick",
    ".type uprobe_detour_quick,@function",
    // [rsp] = back; X, the slot, is 136 higher.
    "uprobe_detour_quick:",
    begin_detour!(),
    push_scratch!(),
    ".cfi_remember_state",
    "mov rdi, [rsp + 56]",
    "mov rdi, [rdi - 19]", // &QuickDetour
    "mov rax, [rip + uprobe_tls_cells@GOTTPOFF]",
    "mov rax, fs:[rax]",
    "test rax, rax",
    "jz 9f", // inside a hit, or the thread's first
    "cmp qword ptr [rax + {running}], 0",
    "jne 9f", // inside a handler
    "mov rcx, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rcx, fs:[rcx]",
    // From here on signals are set aside: a handler may leave by longjmp what changes the top.
    "mov dword ptr [rcx + {depth}], 1",
    "lea rsi, [rsp + 192]", // X
    "mov rdx, [rcx + {top}]",
    "test rdx, rdx",
    "jz 22f",
    "cmp rsi, [rcx + {low}]",
    "jb 22f",
    "cmp rsi, [rcx + {high}]",
    "jae 22f",
    "cmp dword ptr [rcx + {doubtful}], 0",
    "jne 22f",
    "test edx, {chunk_mask}",
    "jz 2f",
    "cmp [rdx + {slot}], rsi",
    "jbe 22f", // frames were left: they are given up first
    "2:",
    "add rdx, {size}",
    "test edx, {chunk_mask}",
    "jz 22f", // the chunk is full
    "mov r8, [rsi]", // the return address, and its stub
    "mov rax, [rdi + {q_hash}]",
    "xor rax, r8",
    "imul rax, [rip + 7f]",
    "shr rax, 40",
    "movzx eax, ax",
    "lea r9, [rip + {cells}]",
    "mov eax, [r9 + 4 * rax]",
    "sub eax, 1",
    "jb 22f",
    "shl rax, 4",
    "lea r9, [rip + uprobe_stub_table]",
    "cmp [r9 + rax + 8], r8",
    "jne 22f",
    "mov r8, [rdi + {q_target}]",
    "cmp [r9 + rax], r8",
    "jne 22f",
    "mov [rdx + {slot}], rsi",
    "mov r8, [rdi + {q_consumer}]",
    "mov [rdx + {consumer}], r8",
    "mov r8, [rdi + {q_point}]",
    "mov [rdx + {point}], r8",
    "mov qword ptr [rdx + {nested}], 0",
    "mov r8d, eax",
    "shr r8d, 4",
    "mov [rdx + {stub}], r8", // and no block
    "mov r8d, [rcx + {tid}]",
    "mov [rdx + {instance_tid}], r8d",
    "mov r8, [rdi + {q_first}]", // and the flags
    "mov [rdx + {next}], r8",
    "mov r8d, r8d",
    "mov [rcx + {top}], rdx",
    "lea r9, [rip + uprobe_stub_pool]",
    "add rax, r9",
    "mov [rsi - 16], rax", // where the detour jumps
    "add rax, 6",
    "mov [rsi], rax",
    "mov r9, [rip + uprobe_tls_cells@GOTTPOFF]",
    "mov r9, fs:[r9]",
    "inc qword ptr [r9 + 8 * r8]",
    "test byte ptr [rdx + {flags}], {timed}",
    "jz 4f",
    "mov r9, rdx",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov [r9 + {started}], rax",
    "4:",
    "mov dword ptr [rcx + {depth}], 0",
    "cmp dword ptr [rcx + {pending}], 0",
    "jne 8f",
    "3:",
    pop_scratch!(),
    "ret",
    "8:",
    // LLVM restores the state, and goes on counting from where it was.
    ".cfi_restore_state",
    ".cfi_def_cfa_offset 192",
    ".cfi_remember_state",
    "call uprobe_deliver",
    "jmp 3b",
    // The long way delivers what was set aside meanwhile.
    "22:",
    "mov dword ptr [rcx + {depth}], 0",
    "9:",
    ".cfi_restore_state",
    ".cfi_def_cfa_offset 192",
    pop_scratch!(),
    "jmp uprobe_detour_common",
    ".cfi_endproc",
    ".p2align 3",
    "7:",
    ".quad 0x9E3779B97F4A7C15",
    ".size uprobe_detour_quick, . - uprobe_detour_quick",
    ".p2align 4",
    ".globl uprobe_ret_common",
    ".hidden uprobe_ret_common",
    ".type uprobe_ret_common,@function",
    // [rsp] = stub + 11, in the slot. The cell below is for the real return address.
    "uprobe_ret_common:",
    ".cfi_startproc",
    "lea rsp, [rsp - 8]",
    ".cfi_adjust_cfa_offset 8",
    push_scratch!(),
    "lahf",
    "seto al",
    "push rax",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_remember_state",
    "mov rcx, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rcx, fs:[rcx]",
    "mov rdi, [rip + uprobe_tls_cells@GOTTPOFF]",
    "mov rdi, fs:[rdi]",
    "test rdi, rdi",
    "jz 9f",
    "cmp qword ptr [rdi + {running}], 0",
    "jne 9f",
    // From here on signals are set aside.
    "mov dword ptr [rcx + {depth}], 1",
    "mov rdx, [rcx + {top}]",
    "test edx, {chunk_mask}",
    "jz 22f",
    "lea rsi, [rsp + 72]", // the slot
    "cmp [rdx + {slot}], rsi",
    "jne 22f",
    "movzx eax, byte ptr [rdx + {flags}]",
    "and eax, {not_timed}",
    "cmp eax, {quick} + {first}", // and nothing unusual
    "jne 22f",
    "mov rax, [rsi]",
    "lea r8, [rip + uprobe_stub_pool]",
    "sub rax, r8",
    "shr rax, 4",
    "cmp [rdx + {stub}], eax",
    "jne 22f",
    "mov r8, [rdx + {consumer}]",
    "cmp byte ptr [r8 + {alive}], 0",
    "je 22f",
    "lea r8, [rdx - {size}]", // the one below: what called this one, if it is followed
    "test r8d, {chunk_mask}",
    "jnz 2f",
    "cmp qword ptr [r8 + {below}], 0",
    "jne 22f",
    "jmp 3f",
    "2:",
    "test byte ptr [r8 + {flags}], {first}",
    "jz 22f",
    "3:",
    "shl rax, 4",
    "lea r9, [rip + uprobe_stub_table]",
    "mov rax, [r9 + rax + 8]",
    "mov [rsi - 8], rax",
    "mov r9, rdx",
    "mov rax, [r9 + {nested}]", // one without a time is charged with what its own calls took
    "test byte ptr [r9 + {flags}], {timed}",
    "jz 4f",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, [r9 + {started}]",
    "jnc 4f",
    "xor eax, eax",
    "4:",
    "test r8d, {chunk_mask}",
    "jz 5f",
    "add [r8 + {nested}], rax",
    "5:",
    "mov [rcx + {top}], r8",
    "mov r8d, [r9 + {next}]",
    "lea rdi, [rdi + 8 * r8]",
    "inc qword ptr [rdi + 8]",
    "test byte ptr [r9 + {flags}], {timed}",
    "jz 6f",
    // The usual: short enough for one word, and nothing followed in between.
    "mov rdx, rax",
    "shr rdx, {short_bits}",
    "jnz 23f",
    "cmp [r9 + {nested}], rdx",
    "jne 23f",
    "imul rax, [rip + {mult}]",
    "shr rax, 32",
    "mov r8, rax", // ns
    "24:",
    "inc qword ptr [rdi + {l_count}]",
    "add [rdi + {l_sum}], r8",
    "add [rdi + {l_own}], rax",
    "cmp r8, [rdi + {l_max}]",
    "jbe 4f",
    "mov [rdi + {l_max}], r8",
    "4:",
    "mov rax, r8",
    "not rax",
    "cmp rax, [rdi + {l_not_min}]",
    "jbe 4f",
    "mov [rdi + {l_not_min}], rax",
    "4:",
    "lea rax, [r8 + r8 + 1]",
    "bsr rax, rax", // how many binary digits
    // A store whose address depends on rdtsc holds up the next rdtsc: guess that the time falls where the last
    // one did.
    "mov rdx, [rdi + {l_last}]",
    "cmp rax, rdx",
    "jne 25f",
    "inc qword ptr [rdi + {l_log2} + 8 * rdx]",
    "6:",
    "mov dword ptr [rcx + {depth}], 0",
    "cmp dword ptr [rcx + {pending}], 0",
    "jne 8f",
    "7:",
    "pop rax",
    ".cfi_adjust_cfa_offset -8",
    "add al, 127",
    "sahf",
    pop_scratch!(),
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    "23:",
    ".cfi_restore_state",
    ".cfi_def_cfa_offset 80",
    ".cfi_remember_state",
    "mov rsi, rax",
    "sub rsi, [r9 + {nested}]",
    "jnc 4f",
    "xor esi, esi",
    "4:",
    "mul qword ptr [rip + {mult}]",
    "shrd rax, rdx, 32",
    "mov r8, rax",
    "mov rax, rsi",
    "mul qword ptr [rip + {mult}]",
    "shrd rax, rdx, 32", // of its own
    "jmp 24b",
    "25:",
    "mov edx, {buckets} - 1",
    "cmp rax, rdx",
    "cmova rax, rdx",
    "mov [rdi + {l_last}], rax",
    "inc qword ptr [rdi + {l_log2} + 8 * rax]",
    "jmp 6b",
    "8:",
    "call uprobe_deliver",
    "jmp 7b",
    // The long way delivers what was set aside meanwhile.
    "22:",
    "mov dword ptr [rcx + {depth}], 0",
    "9:",
    ".cfi_restore_state",
    ".cfi_def_cfa_offset 80",
    "pop rax",
    ".cfi_adjust_cfa_offset -8",
    "add al, 127",
    "sahf",
    pop_scratch!(),
    "lea rsp, [rsp + 8]",
    ".cfi_adjust_cfa_offset -8",
    "jmp uprobe_ret_slow",
    ".cfi_endproc",
    ".size uprobe_ret_common, . - uprobe_ret_common",
    top = const STACK + shadow::TOP,
    low = const STACK + shadow::LOW,
    high = const STACK + shadow::HIGH,
    doubtful = const STACK + shadow::DOUBTS,
    running = const Run::CONSUMER,
    depth = const offset_of!(ThreadState, depth),
    pending = const offset_of!(ThreadState, pending),
    tid = const offset_of!(ThreadState, tid),
    chunk_mask = const shadow::CHUNK - 1,
    below = const shadow::CHUNK_BELOW,
    size = const size_of::<ReturnInstance>(),
    slot = const offset_of!(ReturnInstance, slot),
    consumer = const offset_of!(ReturnInstance, consumer),
    point = const offset_of!(ReturnInstance, point),
    started = const offset_of!(ReturnInstance, started),
    nested = const offset_of!(ReturnInstance, nested),
    stub = const offset_of!(ReturnInstance, stub),
    next = const shadow::NEXT,
    flags = const shadow::FLAGS,
    instance_tid = const shadow::TID,
    first = const shadow::FIRST,
    quick = const shadow::QUICK,
    timed = const shadow::TIMED,
    not_timed = const 0xFF - shadow::TIMED,
    alive = const offset_of!(Consumer, alive),
    q_consumer = const QUICK + offset_of!(Quick, consumer),
    q_point = const QUICK + offset_of!(Quick, point),
    q_hash = const QUICK + offset_of!(Quick, hash),
    q_target = const QUICK + offset_of!(Quick, target),
    q_first = const QUICK + offset_of!(Quick, first),
    cells = sym stubs::CELLS,
    mult = sym TICKS_MULT,
    l_count = const TIMES + 8 * latency::COUNT,
    l_sum = const TIMES + 8 * latency::SUM,
    l_own = const TIMES + 8 * latency::OWN,
    l_max = const TIMES + 8 * latency::MAX,
    l_not_min = const TIMES + 8 * latency::NOT_MIN,
    l_last = const TIMES + 8 * latency::LAST,
    l_log2 = const TIMES + 8 * latency::LOG2,
    buckets = const BUCKETS,
    short_bits = const SHORT_BITS,
);

unsafe extern "C" {
    /// In place of `uprobe_detour_common`.
    pub fn uprobe_detour_quick();
}
