//! Masks around the program's handlers of the signals that are not ours.
//!
//! The kernel calls and ends these handlers by itself, with masks that never contain our five. Where the
//! program believes some of them blocked, what it sees in `uc_sigmask` and gets by `sa_mask` is put right
//! before the handler runs; and what it leaves in `uc_sigmask` is read where the handler returns: at a
//! restorer of our own, since a handler that blocks SIGTRAP there would otherwise have the kernel do so.
//!
//! ```text
//!   interrupted code       kernel             here                        the program
//!   ───── signal ────────► frame ───────────► shim: prepare() ──────────► handler
//!                                                                           │ ret
//!   goes on ◄───────────── rt_sigreturn ◄──── restorer: leave_handler() ◄───┘
//! ```
//!
//! Where none of the five is blocked, which is nearly always, neither of the two is called. A handler that was called
//! then may block some all the same, in `uc_sigmask` or for its own time: so libc's restorer, which it returns to, has a
//! jump of ours, which looks at both and goes to our restorer where it must.

use std::arch::global_asm;
use std::sync::atomic::{AtomicU8, Ordering::*};

use crate::hit::actions::{self, SIGNALS};
use crate::hit::blocks::begin_detour;
use crate::hit::consumer::Flow;
use crate::hit::frame::SignalContext;
use crate::hit::memory::SafeMemory;
use crate::hit::point::{self, STEP_OFFSET};
use crate::hit::slots::{self, InSlot, View};
use crate::hit::thread::{self, PROTECTED_MASK, ThreadState};
use crate::hit::trap::Hit;
use crate::hit::{asm, dispatch, pending, process};
use crate::insn::{MAX_INSN_LEN, SlotPc};
use crate::regs::Memory;
use crate::sys;

/// By signal: 1 where the program's `sa_mask` blocks some of our five. Read by the shim.
pub static HOLDS: [AtomicU8; SIGNALS] = [const { AtomicU8::new(0) }; SIGNALS];

/// Notes what `sa_mask` of a handler says about our five: whether it blocks some.
pub fn note(signal: i32, mask: u64) -> bool {
    let holds = mask & PROTECTED_MASK != 0;
    HOLDS[signal as usize].store(u8::from(holds), Release);
    holds
}

/// Whether `sa_mask` of the handler blocks some of our five: the kernel then blocks all others while it is called.
#[must_use]
pub fn holds(signal: i32) -> bool {
    HOLDS[signal as usize].load(Acquire) != 0
}

/// `mov rax, 15` and `mov eax, 15`: before a `syscall`, what every restorer is.
const RESTORERS: [&[u8]; 2] = [&[0x48, 0xC7, 0xC0, 15, 0, 0, 0], &[0xB8, 15, 0, 0, 0]];
const SYSCALL: &[u8] = &[0x0F, 0x05];

/// Whether the code at `at` does nothing but return from a signal.
#[must_use]
pub fn is_plain_restorer(at: u64) -> bool {
    RESTORERS.iter().any(|load| is_instruction(at, load) && is_instruction(at + load.len() as u64, SYSCALL))
}

/// Whether the program's instruction at `at` is this one, under a probe or not.
fn is_instruction(at: u64, expected: &[u8]) -> bool {
    let mut bytes = [0; MAX_INSN_LEN];
    let bytes = &mut bytes[..expected.len()];
    match point::lookup(at) {
        Some(found) => *found.insn.original() == *expected,
        None => SafeMemory.read(at, bytes) == bytes.len() && *bytes == *expected,
    }
}

/// Called by the shim where there is something to do before a handler of the program's: the interrupted code's mask
/// as the program sees it goes into the frame, and the handler's own is in force; the frame shows the program's
/// instruction. Whether [`slots::leave_view`] must follow.
///
/// # Safety
/// `context` is the frame of this signal, `view` the shim's scratch.
pub unsafe extern "C" fn prepare(signal: i32, context: *mut SignalContext, view: *mut View) -> i32 {
    let holds = holds(signal);
    // SAFETY: the caller's promise.
    let is_stacked = asm::is_in_shim(unsafe { (*context).regs.rip });
    let masked = |thread: &ThreadState| (thread.blocked.load(Relaxed) | thread.waiting.load(Relaxed)) != 0;
    // SAFETY: the caller's promise.
    let mut in_force = unsafe { (*context).mask };
    if holds || is_stacked || thread::existing().is_some_and(masked) {
        process::check_fork();
        if let Some(thread) = thread::current() {
            settle(thread);
            // SAFETY: the caller's promise.
            in_force = unsafe { enter(thread, signal, context) };
        }
    }
    // SAFETY: the caller's promise.
    let from = unsafe { (*context).regs.rip };
    // SAFETY: the caller's promise.
    let viewed = unsafe { slots::enter_view(context, view) };
    if signal == libc::SIGSYS {
        // SAFETY: the caller's promise.
        unsafe { dispatch::show_place(context, from) };
    }
    if holds {
        // The kernel has blocked everything: a handler that runs upon this one sees the five in its mask.
        let mask = in_force | actions::mask_during(&actions::believed(signal), signal);
        sys::set_signal_mask(mask & !PROTECTED_MASK);
    }
    viewed
}

/// Puts the masks right as far as our five go. The mask that was in force before, of all signals.
///
/// # Safety
/// `context` is the frame of this signal.
unsafe fn enter(thread: &ThreadState, signal: i32, context: *mut SignalContext) -> u64 {
    // SAFETY: the caller's promise; nobody else touches the frame.
    let context = unsafe { &mut *context };
    let added = actions::mask_during(&actions::believed(signal), signal);
    if *return_address(context) == uprobe_handler_restorer as *const () as u64 {
        // One that stood upon it has completed it; what its handler left is in force.
        let in_force = thread.blocked.load(Relaxed) | context.mask;
        if holds(signal) {
            thread.set_mask(in_force | added);
        }
        return in_force;
    }
    // SAFETY: the frames of handlers that are still to be called.
    let lowest = unsafe { complete_stack(thread, context) };
    let is_stacked = !std::ptr::eq(lowest, context);
    let in_force = match thread.waiting_mask() {
        Some(waiting) if !is_stacked => waiting,
        _ => context.mask,
    };
    thread.end_wait();
    thread.set_mask(in_force | added);
    in_force
}

/// The kernel delivers several signals at once: their frames stand one upon the other, the handler of the uppermost
/// runs first, and the masks in all of them are of this moment, whatever that one does to its own. Gives back the lowest.
///
/// # Safety
/// `context` is the uppermost frame, and nobody else touches them.
unsafe fn complete_stack(thread: &ThreadState, context: &mut SignalContext) -> *const SignalContext {
    let mut frames = 1;
    let mut lowest = std::ptr::from_mut(context);
    // SAFETY: in the shim rdx is the context of the handler that was to be called.
    while asm::is_in_shim(unsafe { (*lowest).regs.rip }) {
        // SAFETY: the same.
        lowest = unsafe { (*lowest).regs.rdx } as *mut SignalContext;
        frames += 1;
    }
    // SAFETY: the caller's promise.
    wait_anew(thread, unsafe { &mut *lowest });
    // SAFETY: the same.
    thread.reconcile(unsafe { (*lowest).mask });
    let blocked = thread.blocked.load(Relaxed);
    // Where they end a wait, its mask was that of all but the lowest, which goes on with the thread's own.
    let waiting = thread.waiting_mask().unwrap_or(blocked) & PROTECTED_MASK;
    let mut at = std::ptr::from_mut(context);
    for below in (0..frames).rev() {
        // SAFETY: the caller's promise.
        let frame = unsafe { &mut *at };
        frame.mask |= if below == 0 { blocked } else { waiting };
        return_to_us(frame);
        at = frame.regs.rdx as *mut SignalContext;
    }
    lowest
}

/// The kernel's `struct rt_sigframe`: the return address is the word below the context.
fn return_address(context: &mut SignalContext) -> &mut u64 {
    // SAFETY: as above, the frame being the borrowed one's.
    unsafe { &mut *std::ptr::from_mut(context).cast::<u64>().sub(1) }
}

/// The handler returns to our restorer and not to the program's, which does the same but for masks. Only
/// where there is something to do: the program sees it in a backtrace.
fn return_to_us(context: &mut SignalContext) {
    let returns_to = return_address(context);
    if is_plain_restorer(*returns_to) {
        *returns_to = uprobe_handler_restorer as *const () as u64;
    }
}

/// A system call that was about to wait, and has not been made: this handler does not end the wait, as it
/// would not have before it. The call goes through its gate once more.
pub fn wait_anew(thread: &ThreadState, context: &mut SignalContext) {
    if thread.waiting.load(Relaxed) == 0 {
        return;
    }
    let found = slots::locate(context.regs.rip);
    if let Some(InSlot { point, stepping: true, pc: SlotPc::Before }) = found {
        thread.end_wait();
        context.regs.rip = point.at;
        thread.drop_step(point.slot() + STEP_OFFSET);
    }
}

/// Called by the restorer: what the handler left in the frame is the mask from here on; what that lets
/// through is delivered on top of the interrupted code. May be left by longjmp.
///
/// # Safety
/// `context` is the frame that is about to be restored.
pub unsafe extern "C-unwind" fn leave_handler(context: *mut SignalContext) {
    // Until sigreturn.
    sys::set_signal_mask(!PROTECTED_MASK);
    process::check_fork();
    // SAFETY: the caller's promise.
    let mask = unsafe { (*context).mask };
    // SAFETY: as above.
    unsafe { (*context).mask = mask & !PROTECTED_MASK };
    let Some(thread) = thread::current() else { return };
    settle(thread);
    thread.set_mask(mask);
    // SAFETY: the caller's promise.
    unsafe { pending::deliver(thread, context, mask) };
}

/// An internal consumer on libc's restorer.
pub fn on_restorer(hit: &mut Hit<'_>) -> Flow {
    const MASK: u64 = std::mem::offset_of!(SignalContext, mask) as u64;
    let mask = SafeMemory.read_u64(hit.regs.rsp.wrapping_add(MASK)).unwrap_or(0);
    let blocked = thread::existing().map_or(0, |thread| thread.blocked.load(Relaxed));
    if (mask | blocked) & PROTECTED_MASK == 0 {
        return Flow::Continue;
    }
    hit.regs.rip = uprobe_handler_restorer as *const () as u64;
    Flow::RipChanged
}

/// What a vfork child does to its masks is kept apart.
fn settle(thread: &ThreadState) {
    thread.settle_borrower();
    thread.lend_if_borrowed();
}

/// Goes to `$target` where one of the five is blocked in the mask of the ucontext at rsp + `$ucontext`, or for the
/// thread. Spoils rax, rcx and the flags.
macro_rules! go_if_any_blocked {
    ($ucontext:literal, $target:literal) => {
        concat!(
            "mov rcx, [rsp + ",
            $ucontext,
            " + 296]\n",
            "and rcx, {protected}\n",
            "mov rax, [rip + uprobe_tls_thread@GOTTPOFF]\n",
            "mov rax, fs:[rax]\n",
            "test rax, rax\n",
            "jz 2f\n",
            "or rcx, [rax + {blocked}]\n",
            "2:\n",
            "test rcx, rcx\n",
            "jnz ",
            $target,
            "\n",
        )
    };
}

global_asm!(
    ".text",
    // The signal return of the program's own handlers. rsp = the ucontext; its uc_sigmask is at 296. Unwinders
    // are told what they are told of libc's (DW_CFA_expression: each register is where the frame has it), and
    // the nop is for those who look at the return address minus one.
    ".p2align 4",
    ".globl uprobe_handler_restorer",
    ".hidden uprobe_handler_restorer",
    ".type uprobe_handler_restorer,@function",
    ".cfi_startproc",
    ".cfi_signal_frame",
    ".cfi_escape 0x0f, 0x04, 0x77, 0xa0, 0x01, 0x06",
    ".cfi_escape 0x10, 0x08, 0x02, 0x77, 0x28",
    ".cfi_escape 0x10, 0x09, 0x02, 0x77, 0x30",
    ".cfi_escape 0x10, 0x0a, 0x02, 0x77, 0x38",
    ".cfi_escape 0x10, 0x0b, 0x03, 0x77, 0xc0, 0x00",
    ".cfi_escape 0x10, 0x0c, 0x03, 0x77, 0xc8, 0x00",
    ".cfi_escape 0x10, 0x0d, 0x03, 0x77, 0xd0, 0x00",
    ".cfi_escape 0x10, 0x0e, 0x03, 0x77, 0xd8, 0x00",
    ".cfi_escape 0x10, 0x0f, 0x03, 0x77, 0xe0, 0x00",
    ".cfi_escape 0x10, 0x05, 0x03, 0x77, 0xe8, 0x00",
    ".cfi_escape 0x10, 0x04, 0x03, 0x77, 0xf0, 0x00",
    ".cfi_escape 0x10, 0x06, 0x03, 0x77, 0xf8, 0x00",
    ".cfi_escape 0x10, 0x03, 0x03, 0x77, 0x80, 0x01",
    ".cfi_escape 0x10, 0x01, 0x03, 0x77, 0x88, 0x01",
    ".cfi_escape 0x10, 0x00, 0x03, 0x77, 0x90, 0x01",
    ".cfi_escape 0x10, 0x02, 0x03, 0x77, 0x98, 0x01",
    ".cfi_escape 0x10, 0x07, 0x03, 0x77, 0xa0, 0x01",
    ".cfi_escape 0x10, 0x10, 0x03, 0x77, 0xa8, 0x01",
    "nop",
    "uprobe_handler_restorer:",
    go_if_any_blocked!("0", "4f"),
    "3:",
    "mov rax, 15",
    "syscall",
    "4:",
    "mov rdi, rsp",
    "call {leave}",
    "jmp 3b",
    ".cfi_endproc",
    ".size uprobe_handler_restorer, . - uprobe_handler_restorer",
    // What the detour of libc's restorer calls where nobody else listens there: `on_restorer`, and next to nothing of the
    // stack, which may be a small one. [rsp] = back, and 128 bytes below the ucontext. rax, rcx and the flags come from the
    // frame. For unwinders as uprobe_detour_common.
    ".p2align 4",
    ".globl uprobe_detour_restorer",
    ".hidden uprobe_detour_restorer",
    ".type uprobe_detour_restorer,@function",
    "uprobe_detour_restorer:",
    begin_detour!(),
    go_if_any_blocked!("136", "uprobe_detour_common"),
    "ret",
    ".cfi_endproc",
    ".size uprobe_detour_restorer, . - uprobe_detour_restorer",
    protected = const PROTECTED_MASK as i32,
    blocked = const std::mem::offset_of!(ThreadState, blocked),
    leave = sym leave_handler,
);

unsafe extern "C" {
    /// What handlers of the program's return to.
    pub fn uprobe_handler_restorer();
    /// What the detour of libc's restorer calls.
    pub fn uprobe_detour_restorer();
}
