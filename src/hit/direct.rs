//! A jump to one handler of the C API, and to nothing else: without Rust.
//!
//! What [`super::detour`] does, for the case that a place has one consumer and that is a pre_handler. It is
//! written for few instructions, and for none that the processor has microcode for: the flags come from lahf and seto,
//! not from pushfq, and which way lods goes tells the direction flag. Where that is set, the long way has them all; what
//! else pushfq would tell no handler has to know, and nothing here changes it. A hit is announced by one line
//! ([`Run`]), to whom it may concern:
//!
//! ```text
//!   consumer = it | 1   whoever unregisters or frees it waits (then it is looked at again: is it still the
//!                       place's, and alive?); signals are set aside; other hits of this thread are missed;
//!                       who comes as the second thread waits until it has counted (see `alone`)
//!   consumer = it       counted
//!   recovery, errno     of a handler that crashes
//!   consumer = null     over
//! ```
//!
//! Where each thread counts for itself (UPROBE_FLAG_PERTHREAD), it does so in its cells: those of `consumer`, behind the
//! line.
//!
//! So such a hit is none that `ThreadState::depth` and `sequence` know: it reads no list. What is not so goes the
//! long way. Vector registers are saved where the handler may touch them, which is unless it says otherwise
//! (UPROBE_FLAG_NOVEC). The registers are saved once, not twice: where a handler that says so crashes, what it has
//! written to them by then stays.

use std::arch::global_asm;
use std::mem::offset_of;

use crate::hit::alone;
use crate::hit::barrier::FENCED;
use crate::hit::blocks::{begin_detour, pop_registers, push_registers, restore_flags, restore_xmm, save_xmm};
use crate::hit::c_structs::CUprobe;
use crate::hit::clock::ERRNO_OFFSET;
use crate::hit::consumer::Consumer;
use crate::hit::detour::{Detour, GO_ON, RESUME};
use crate::hit::run::Run;
use crate::hit::thread::{self, ThreadState};
use crate::hit::trap::Hit;
use crate::hit::vectors::uprobe_guarded_call_vectors;
use crate::regs::Regs;

/// Bytes of the registers' image, what the call in the detour has pushed, and the red zone.
const FRAME: u64 = size_of::<Regs>() as u64 + 8 + 128;

/// Of rflags, what is always set for a program, lahf's own bit 1 aside.
const INTERRUPTS: u64 = 1 << 9;
/// Of rflags, what lahf and seto don't tell, and a handler does not see: nested task, alignment check, identification.
const UNSEEN: u64 = 1 << 14 | 1 << 18 | 1 << 21;

global_asm!(
    ".text",
    ".p2align 6",
    ".globl uprobe_detour_direct",
    ".hidden uprobe_detour_direct",
    ".type uprobe_detour_direct,@function",
    // [rsp] = back.
    "uprobe_detour_direct:",
    begin_detour!(),
    "lea rsp, [rsp - 24]", // Regs::rip, Regs::rsp, Regs::rflags
    ".cfi_adjust_cfa_offset 24",
    // Neither pushes nor lea touch the flags.
    push_registers!("lahf; seto al"),
    "mov rbx, rsp",
    ".cfi_def_cfa rbx, {frame}",
    ".cfi_remember_state",
    "lea rdx, [rsp + {frame}]",
    "mov [rsp + {rsp}], rdx",
    "mov r8, [rsp + {image}]", // back
    "mov r13d, eax", // as sahf wants them
    "movzx ecx, ah",
    "movzx edx, al",
    "shl edx, 11",
    "lea r15d, [rcx + rdx + {interrupts}]",
    "mov [rsp + {rflags}], r15",
    // Which way does this go? With the direction flag set, which C code does not expect, it would be the other one. (One
    // step of a string instruction is the cheapest question: two cycles, where pushfq takes four.)
    "lea rsi, [r8 - 19]",
    "lea rdx, [r8 - 11]",
    "lodsq", // &Detour
    "cmp rsi, rdx",
    "jne 9f",
    "mov r8, rax",
    "mov rax, [rax]",
    "mov rax, [rax]", // the place's address
    "mov [rsp + {rip}], rax",
    "mov r14, [rip + uprobe_tls_cells@GOTTPOFF]",
    "mov r14, fs:[r14]",
    "test r14, r14",
    "jz 9f", // inside a hit, or the thread's first
    "cmp qword ptr [r14 + {consumer}], 0",
    "jne 9f", // inside a handler
    "mov r10, [r8 + {sole}]",
    "test r10, r10",
    "jz 9f",
    "test bl, 15",
    "jnz 24f",
    "25:",
    "mov rax, [rip + {errno_offset}]",
    "mov r12d, fs:[rax]",
    "mov [r14 + {errno}], r12d",
    "mov [r14 + {recovery}], rbx",
    "lea rax, [r10 + 1]",
    "mov [r14 + {consumer}], rax",
    // Where hits must fence themselves, nobody is said to be alone: before that is known, nothing is believed.
    "cmp dword ptr [rip + {phase}], {alone}",
    "jne 2f",
    "cmp [r8 + {sole}], r10",
    "jne 8f", // another consumer came, or this one went: the hit has not begun
    "cmp word ptr [r10 + {alive}], 1",
    "jne 26f",
    "mov rdi, [r10 + {up}]",
    "inc qword ptr [rdi + {nhit}]",
    "3:",
    "mov [r14 + {consumer}], r10",
    "mov rsi, rbx",
    "call qword ptr [r10 + {call}]",
    "mov rcx, [rip + {errno_offset}]",
    "test eax, eax",
    "jnz 7f",
    "cmp fs:[rcx], r12d",
    "jne 4f",
    "5:",
    "mov qword ptr [r14 + {consumer}], 0",
    "mov rcx, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rcx, fs:[rcx]",
    "cmp dword ptr [rcx + {pending}], 0",
    "jne 6f",
    "20:",
    "mov rsp, rbx",
    ".cfi_def_cfa rsp, {frame}",
    "cmp [rsp + {rflags}], r15",
    "jne 23f",
    "mov eax, r13d",
    "add al, 127",
    "sahf",
    "21:",
    pop_registers!(),
    "lea rsp, [rsp + 24]",
    ".cfi_adjust_cfa_offset -24",
    "ret",
    // The handler has changed rflags, or nobody knows any more what they were.
    "23:",
    // LLVM restores the state, and goes on counting from where it was.
    ".cfi_restore_state",
    ".cfi_def_cfa rsp, {frame}",
    ".cfi_remember_state",
    "mov rcx, [rsp + {rflags}]",
    "test ch, 4",
    "jnz 27f",
    restore_flags!(),
    "jmp 21b",
    // It has set the direction flag. What it can't have seen stays (alignment check, identification); the trap flag
    // is a debugger's.
    "27:",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "and ch, 0xFE",
    "and qword ptr [rsp], {unseen}",
    "or [rsp], rcx",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "jmp 21b",
    // A stack that is aligned to 8, or to nothing.
    "24:",
    ".cfi_restore_state",
    ".cfi_def_cfa rbx, {frame}",
    ".cfi_remember_state",
    "test bl, 7",
    "jnz 9f",
    "and rsp, -16",
    "jmp 25b",
    "2:",
    "cmp byte ptr [rip + {fenced}], 0",
    "jne 8f",
    "cmp [r8 + {sole}], r10",
    "jne 8f",
    "cmp word ptr [r10 + {alive}], 1",
    "jne 26f",
    "mov rdi, [r10 + {up}]",
    "lock inc qword ptr [rdi + {nhit}]",
    "jmp 3b",
    // Not alive, or each thread counts for itself.
    "26:",
    "cmp byte ptr [r10 + {alive}], 0",
    "je 5b",
    "mov eax, [r10 + {cell}]",
    "test eax, eax",
    "jz 8f",
    "mov rdi, [r10 + {up}]",
    "inc qword ptr [r14 + 8 * rax]",
    "jmp 3b",
    "4:",
    "mov fs:[rcx], r12d",
    "jmp 5b",
    "6:",
    "call uprobe_deliver",
    "jmp 20b",
    // It has crashed: rsp is what Run::recovery was, everything else is gone.
    ".globl uprobe_direct_fault",
    ".hidden uprobe_direct_fault",
    "uprobe_direct_fault:",
    "mov rbx, rsp",
    "and rsp, -16",
    "cld",
    "mov rax, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rax, fs:[rax]",
    "mov r14, [rax + {cells}]",
    "and qword ptr [r14 + {consumer}], -2",
    "mov rcx, [rip + {errno_offset}]",
    "mov r12d, [r14 + {errno}]",
    "xor r15d, r15d", // no image of rflags is that
    "xor eax, eax",
    // It has said something (eax), or crashed: Rust decides, which uses vector registers.
    "7:",
    "mov fs:[rcx], r12d",
    // The kernel may be about to set all flags from the image.
    "pushfq",
    "pop rcx",
    "and ecx, {kernels}",
    "or [rbx + {rflags}], rcx",
    "mov rdi, rbx",
    "mov rsi, [rbx + {image}]",
    "mov rsi, [rsi - 19]",
    "mov rdx, [r14 + {consumer}]",
    "mov ecx, eax",
    save_xmm!(),
    "call {said}",
    restore_xmm!(),
    "mov r12d, eax",
    "mov qword ptr [r14 + {consumer}], 0",
    "mov rcx, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rcx, fs:[rcx]",
    "cmp dword ptr [rcx + {pending}], 0",
    "je 22f",
    "call uprobe_deliver",
    "22:",
    "test r12d, r12d",
    "jnz uprobe_detour_resume",
    "jmp 20b",
    "8:",
    "mov qword ptr [r14 + {consumer}], 0",
    "9:",
    "mov rsp, rbx",
    ".cfi_def_cfa rsp, {frame}",
    "mov eax, r13d",
    "add al, 127",
    "sahf",
    pop_registers!(),
    "lea rsp, [rsp + 24]",
    ".cfi_adjust_cfa_offset -24",
    "jmp uprobe_detour_common",
    ".cfi_endproc",
    ".size uprobe_detour_direct, . - uprobe_detour_direct",
    // What is called in the handler's place where it may touch vector registers: rdi = up, rsi = rbx = regs, and
    // r10, r14 as above. Here, where that is not what costs, the registers are kept for a handler that crashes.
    ".p2align 4",
    ".globl uprobe_direct_vectors",
    ".hidden uprobe_direct_vectors",
    ".type uprobe_direct_vectors,@function",
    "uprobe_direct_vectors:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "sub rsp, {image}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
    "mov rax, [rsi + 8 * \\n]",
    "mov [rsp + 8 * \\n], rax",
    ".endr",
    "mov rdx, rsi",
    "mov rsi, rdi",
    "mov rdi, [rdi + {pre_handler}]",
    "xor ecx, ecx",
    "lea r8, [r14 + {recovery}]",
    "call {guarded}",
    "movabs rcx, 0x8000000000000000",
    "cmp rax, rcx",
    "je 2f",
    ".cfi_remember_state",
    "leave",
    ".cfi_def_cfa rsp, 8",
    "ret",
    "2:",
    ".cfi_restore_state",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
    "mov rax, [rsp + 8 * \\n]",
    "mov [rbx + 8 * \\n], rax",
    ".endr",
    "mov rsp, rbx",
    "jmp uprobe_direct_fault",
    ".cfi_endproc",
    ".size uprobe_direct_vectors, . - uprobe_direct_vectors",
    frame = const FRAME,
    image = const size_of::<Regs>(),
    rsp = const offset_of!(Regs, rsp),
    rip = const offset_of!(Regs, rip),
    rflags = const offset_of!(Regs, rflags),
    interrupts = const INTERRUPTS,
    kernels = const UNSEEN,
    unseen = const UNSEEN as i32,
    fenced = sym FENCED,
    sole = const offset_of!(Detour, sole),
    consumer = const Run::CONSUMER,
    recovery = const Run::RECOVERY,
    errno = const Run::ERRNO,
    cells = const offset_of!(ThreadState, cells),
    pending = const offset_of!(ThreadState, pending),
    alive = const offset_of!(Consumer, alive),
    cell = const offset_of!(Consumer, cell),
    up = const offset_of!(Consumer, target),
    call = const offset_of!(Consumer, call),
    pre_handler = const offset_of!(CUprobe, pre_handler),
    phase = sym alone::PHASE,
    alone = const alone::ALONE,
    nhit = const offset_of!(CUprobe, nhit),
    errno_offset = sym ERRNO_OFFSET,
    said = sym said,
    guarded = sym uprobe_guarded_call_vectors,
);

unsafe extern "C" {
    /// In place of `uprobe_detour_common`.
    pub fn uprobe_detour_direct();
    /// In place of a handler that may touch vector registers.
    pub fn uprobe_direct_vectors();
    static uprobe_direct_fault: u8;
}

/// Where a handler's fault goes on, with rsp from [`Run`].
#[must_use]
pub fn fault() -> u64 {
    &raw const uprobe_direct_fault as u64
}

/// The handler's result was not 0: it changed rip. Or it crashed (0).
unsafe extern "C" fn said(
    regs: *mut Regs,
    detour: *const Detour,
    consumer: *const Consumer,
    result: i32,
) -> u32 {
    // SAFETY: the caller's own image; a detour is never freed, nor a consumer that runs.
    let (image, detour, consumer) = unsafe { (&mut *regs, &*detour, &*consumer) };
    if result != 0 {
        // One that says so and did not change it goes on: the place would be met again for ever.
        return if image.rip == detour.point.at { GO_ON } else { RESUME };
    }
    image.rip = detour.point.at;
    image.rsp = regs as u64 + FRAME;
    if let Some(thread) = thread::existing() {
        let mut hit = Hit::at_jump(image, detour.point, std::ptr::null());
        if let Some(up) = consumer.role().up() {
            consumer.crashed(up, &mut hit, thread);
        }
    }
    GO_ON
}
