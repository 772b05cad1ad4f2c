//! A jump to one handler of the C API, and to nothing else: without Rust.
//!
//! What [`super::detour`] does, for the case that a place has one consumer and that is a pre_handler. It is
//! written for few stores, of which the processor takes one a cycle here: 18 are the registers as the handler
//! sees them, and a hit is announced by one line ([`Run`]), to whom it may concern:
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
//! So such a hit is none that `ThreadState::depth` and `sequence` know: it reads no list. What is not so goes the
//! long way. Vector registers are saved where the handler may touch them, which is unless it says otherwise
//! (UPROBE_FLAG_NOVEC). The registers are saved once, not twice: where a handler that says so crashes, what it has
//! written to them by then stays.

use std::arch::global_asm;
use std::mem::offset_of;

use crate::hit::alone;
use crate::hit::barrier::FENCED;
use crate::hit::blocks::{pop_registers, push_registers, restore_flags, restore_xmm, save_xmm};
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

global_asm!(
    ".text",
    ".p2align 6",
    ".globl uprobe_detour_direct",
    ".hidden uprobe_detour_direct",
    ".type uprobe_detour_direct,@function",
    // [rsp] = back. For unwinders as uprobe_detour_common.
    "uprobe_detour_direct:",
    ".cfi_startproc",
    ".cfi_signal_frame",
    ".cfi_def_cfa rsp, 136",
    ".cfi_escape 0x16, 0x10, 0x0b, 0x0a, 0x88, 0x00, 0x1c, 0x06, 0x08, 0x13, 0x1c, 0x06, 0x06, 0x06",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "lea rsp, [rsp - 16]", // Regs::rip, Regs::rsp
    ".cfi_adjust_cfa_offset 16",
    push_registers!(),
    "mov rbx, rsp",
    ".cfi_def_cfa rbx, {frame}",
    ".cfi_remember_state",
    "lea rax, [rsp + {frame}]",
    "mov [rsp + {rsp}], rax",
    "mov r12, [rsp + {image}]", // back
    "mov r12, [r12 - 19]", // &Detour
    "mov rax, [r12]",
    "mov rax, [rax]", // the place's address
    "mov [rsp + {rip}], rax",
    "mov r14, [rip + uprobe_tls_cells@GOTTPOFF]",
    "mov r14, fs:[r14]",
    "test r14, r14",
    "jz 9f", // inside a hit, or the thread's first
    "cmp qword ptr [r14 + {consumer}], 0",
    "jne 9f", // inside a handler
    "cmp byte ptr [rip + {fenced}], 0",
    "jne 9f",
    "mov r15, [r12 + {sole}]",
    "test r15, r15",
    "jz 9f",
    "test byte ptr [rsp + {rflags} + 1], 4",
    "jnz 9f", // the direction flag is set, which C code does not expect
    "test bl, 7",
    "jnz 9f", // a stack aligned to nothing
    "and rsp, -16",
    "mov r13, [rip + {errno_offset}]",
    "mov r13d, fs:[r13]",
    "mov [r14 + {errno}], r13d",
    "mov [r14 + {recovery}], rbx",
    "lea rax, [r15 + 1]",
    "mov [r14 + {consumer}], rax",
    "cmp [r12 + {sole}], r15",
    "jne 8f", // another consumer came, or this one went: the hit has not begun
    "cmp byte ptr [r15 + {alive}], 0",
    "je 5f",
    "mov rdi, [r15 + {up}]",
    "cmp dword ptr [rip + {phase}], {alone}",
    "jne 2f",
    "inc qword ptr [rdi + {nhit}]",
    "3:",
    "mov [r14 + {consumer}], r15",
    "mov rsi, rbx",
    "call qword ptr [r15 + {call}]",
    "mov r12, [rip + {errno_offset}]",
    "test eax, eax",
    "jnz 7f",
    "cmp fs:[r12], r13d",
    "jne 4f",
    "5:",
    "mov qword ptr [r14 + {consumer}], 0",
    "mov r13, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov r13, fs:[r13]",
    "cmp dword ptr [r13 + {pending}], 0",
    "jne 6f",
    "20:",
    "mov rsp, rbx",
    ".cfi_def_cfa rsp, {frame}",
    "mov rcx, [rsp + {rflags}]",
    "test ch, 4",
    "jnz 23f",
    restore_flags!(),
    "21:",
    pop_registers!(),
    "lea rsp, [rsp + 24]",
    ".cfi_adjust_cfa_offset -24",
    "ret",
    // The handler has set the direction flag. The trap flag is a debugger's.
    "23:",
    // LLVM restores the state, and goes on counting from where it was.
    ".cfi_restore_state",
    ".cfi_def_cfa rsp, {frame}",
    ".cfi_remember_state",
    "and ch, 0xFE",
    "push rcx",
    ".cfi_adjust_cfa_offset 8",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "jmp 21b",
    "2:",
    ".cfi_restore_state",
    ".cfi_def_cfa rbx, {frame}",
    ".cfi_remember_state",
    "lock inc qword ptr [rdi + {nhit}]",
    "jmp 3b",
    "4:",
    "mov fs:[r12], r13d",
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
    "mov r15, [r14 + {consumer}]",
    "and r15, -2",
    "mov [r14 + {consumer}], r15",
    "mov r12, [rip + {errno_offset}]",
    "mov r13d, [r14 + {errno}]",
    "xor eax, eax",
    // It has said something (eax), or crashed: Rust decides, which uses vector registers.
    "7:",
    "mov fs:[r12], r13d",
    "mov rdi, rbx",
    "mov rsi, [rbx + {image}]",
    "mov rsi, [rsi - 19]",
    "mov rdx, r15",
    "mov ecx, eax",
    save_xmm!(),
    "call {said}",
    restore_xmm!(),
    "mov r12d, eax",
    "mov qword ptr [r14 + {consumer}], 0",
    "mov r13, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov r13, fs:[r13]",
    "cmp dword ptr [r13 + {pending}], 0",
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
    pop_registers!(),
    "lea rsp, [rsp + 16]",
    ".cfi_adjust_cfa_offset -16",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "jmp uprobe_detour_common",
    ".cfi_endproc",
    ".size uprobe_detour_direct, . - uprobe_detour_direct",
    // What is called in the handler's place where it may touch vector registers: rdi = up, rsi = rbx = regs, and
    // r14, r15 as above. Here, where that is not what costs, the registers are kept for a handler that crashes.
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
    fenced = sym FENCED,
    sole = const offset_of!(Detour, sole),
    consumer = const Run::CONSUMER,
    recovery = const Run::RECOVERY,
    errno = const Run::ERRNO,
    cells = const offset_of!(ThreadState, cells),
    pending = const offset_of!(ThreadState, pending),
    alive = const offset_of!(Consumer, alive),
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
