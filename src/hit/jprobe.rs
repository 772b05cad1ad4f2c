//! A jprobe: the user's function, called with the probed function's own arguments.

use std::arch::global_asm;
use std::mem::offset_of;

use crate::hit::asm;
use crate::hit::c_structs::CUjprobe;
use crate::hit::consumer::{Consumer, Flow, Role, guarded};
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, ThreadState};
use crate::hit::trap::Hit;
use crate::regs::{Memory, Regs};

/// Bytes of arguments on the stack that are passed on: UPROBE_JPROBE_STACK.
pub const STACK_BYTES: usize = 256;
/// Where xmm0 is in the area that fxsave writes (SDM volume 1, table 10-2).
const FXSAVE_XMM: u64 = 160;
/// Vector registers that carry arguments: xmm0 to xmm7.
const XMM_BYTES: usize = 8 * 16;

/// What the function finds at its entry.
#[repr(C, align(16))]
struct Arguments {
    /// The function.
    entry: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    r8: u64,
    r9: u64,
    /// al: how many vector registers a variadic call uses.
    rax: u64,
    /// The static chain.
    r10: u64,
    xmm: [u8; XMM_BYTES],
    stack: [u8; STACK_BYTES],
}

global_asm!(
    // i32 uprobe_jprobe_enter(*const Arguments): calls entry with them; 0. Everything an argument may be
    // in is loaded last; r11, which carries none, holds the function.
    ".text",
    ".p2align 4",
    ".globl uprobe_jprobe_enter",
    ".hidden uprobe_jprobe_enter",
    ".type uprobe_jprobe_enter,@function",
    "uprobe_jprobe_enter:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    // rsp is a multiple of 16 now, as it is before a call that has arguments on the stack.
    "sub rsp, {stack_bytes}",
    "mov rax, rdi",
    "lea rsi, [rax + {stack}]",
    "mov rdi, rsp",
    "mov ecx, {stack_bytes} / 8",
    "rep movsq",
    "movups xmm0, [rax + {xmm}]",
    "movups xmm1, [rax + {xmm} + 16]",
    "movups xmm2, [rax + {xmm} + 32]",
    "movups xmm3, [rax + {xmm} + 48]",
    "movups xmm4, [rax + {xmm} + 64]",
    "movups xmm5, [rax + {xmm} + 80]",
    "movups xmm6, [rax + {xmm} + 96]",
    "movups xmm7, [rax + {xmm} + 112]",
    "mov r11, [rax + {entry}]",
    "mov rdi, [rax + {rdi}]",
    "mov rsi, [rax + {rsi}]",
    "mov rdx, [rax + {rdx}]",
    "mov rcx, [rax + {rcx}]",
    "mov r8, [rax + {r8}]",
    "mov r9, [rax + {r9}]",
    "mov r10, [rax + {r10}]",
    "mov rax, [rax + {rax}]",
    "call r11",
    "xor eax, eax",
    "leave",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size uprobe_jprobe_enter, . - uprobe_jprobe_enter",
    stack_bytes = const STACK_BYTES,
    entry = const offset_of!(Arguments, entry),
    rdi = const offset_of!(Arguments, rdi),
    rsi = const offset_of!(Arguments, rsi),
    rdx = const offset_of!(Arguments, rdx),
    rcx = const offset_of!(Arguments, rcx),
    r8 = const offset_of!(Arguments, r8),
    r9 = const offset_of!(Arguments, r9),
    r10 = const offset_of!(Arguments, r10),
    rax = const offset_of!(Arguments, rax),
    xmm = const offset_of!(Arguments, xmm),
    stack = const offset_of!(Arguments, stack),
);

unsafe extern "C" {
    fn uprobe_jprobe_enter(arguments: *const Arguments) -> i32;
}

impl Arguments {
    /// As they are at a function's first instruction. What can't be read is zero.
    fn at(entry: u64, hit: &Hit<'_>) -> Self {
        let Regs { rdi, rsi, rdx, rcx, r8, r9, rax, r10, .. } = *hit.regs;
        let (xmm, stack) = ([0; XMM_BYTES], [0; STACK_BYTES]);
        let mut arguments = Self { entry, rdi, rsi, rdx, rcx, r8, r9, rax, r10, xmm, stack };
        // Our own code has used the registers since: what the kernel saved counts.
        // SAFETY: the frame of this signal.
        let saved = unsafe { hit.context.as_ref() }.map_or(0, |context| context.fpregs as u64);
        if saved != 0 {
            SafeMemory.read(saved + FXSAVE_XMM, &mut arguments.xmm);
        } else if !hit.vectors.is_null() {
            SafeMemory.read(hit.vectors as u64, &mut arguments.xmm);
        }
        // Above the return address; the stack may end before them all.
        SafeMemory.read(hit.regs.rsp.wrapping_add(8), &mut arguments.stack);
        arguments
    }
}

/// Calls the jprobe's function for one hit. Its arguments are copies, and the registers stay as they are.
/// Signal-safe.
pub(super) fn run(
    consumer: &Consumer,
    jp: *mut CUjprobe,
    hit: &mut Hit<'_>,
    thread: &'static ThreadState,
) -> Flow {
    // SAFETY: alive: the struct is registered and unchanged.
    let (entry, nhit) = unsafe { ((*jp).entry as u64, &(*jp).up.nhit) };
    consumer.count_hit(thread, nhit, 1);
    let arguments = Arguments::at(entry, hit);
    let enter = uprobe_jprobe_enter as *const () as usize;
    let before = *hit.regs;
    if guarded(thread, hit.is_trap(), enter, std::ptr::from_ref(&arguments) as usize, 0, 0).is_none() {
        consumer.crashed(jp.cast(), hit, thread);
        *hit.regs = before;
    }
    Flow::Continue
}

/// Ends the jprobe's function that runs in this thread, from any depth of its calls; where none does,
/// does nothing.
///
/// # Safety
/// Nothing between here and the function has to be unwound.
pub unsafe fn leave() {
    let Some(thread) = thread::existing() else { return };
    // SAFETY: a consumer that runs is not freed.
    let running = unsafe { thread.run().consumer().as_ref() };
    if let Some(recovery) = thread.run().recovery()
        && running.is_some_and(|consumer| matches!(consumer.role(), Role::Jump(_)))
    {
        // SAFETY: the cell holds what uprobe_guarded_call has stored, which is still under way.
        unsafe { asm::uprobe_guarded_leave(recovery) };
    }
}
