//! Optimized probes: what runs where a jump stands in place of int3.
//!
//! ```text
//!  program text            detour, near the text                    here, static text
//!  jmp ──────────────────►  -8  &Detour
//!  (inner boundary:          0  lea rsp, [rsp - 128]     red zone
//!   a trap, or kept)         5  call *common ───────────► saves; on_detour(): the consumers
//!                           11  lea rsp, [rsp + 128] ◄──── restores
//!                           19  displaced instructions, relocated
//!  next instruction ◄────────── jmp next
//! ```
//!
//! Where returns are followed, the detour of a function's entry ends differently: it goes through the
//! stub, whose call takes the place of the one that was made.
//!
//! ```text
//!                           11  lea rsp, [rsp + 136]     as before the call
//!                           19  jmp *-24(rsp) ──► stub ──call──► relocated   followed
//!                                             └─► 23                         not followed
//!                           23  lea rsp, [rsp - 8]
//!                               relocated ...
//! ```
//!
//! The call goes by one of a few words that all detours in reach share ([`Calls`]).
//!
//! A thread that is in the five bytes when the jump is written, or branches into them, is at the
//! start of an instruction, where either the original byte was kept or a byte stands that traps; the trap
//! handler sends it to the copy of that instruction ([`inner`]).

mod inside;

use std::arch::global_asm;
use std::borrow::Cow;
use std::sync::atomic::AtomicPtr;

use crate::hit::blocks::{begin_detour, pop_registers, push_registers, restore_flags, restore_xmm, save_xmm};
use crate::hit::compiled::{Action, Compiled, Then};
use crate::hit::consumer::{Consumer, Flow};
use crate::hit::direct::uprobe_detour_direct;
use crate::hit::frame::SignalContext;
use crate::hit::masks::uprobe_detour_restorer;
use crate::hit::point::ProbePoint;
use crate::hit::quick::{Quick, uprobe_detour_quick};
use crate::hit::quick_log::{QuickLog, uprobe_detour_log};
use crate::hit::thread::ThreadState;
use crate::hit::trap::{Hit, run_all};
use crate::hit::{defer, process, returns, thread};
use crate::insn::Relocated;
use crate::regs::Regs;

pub use inside::{InDetour, finish_counting, inner, inner_undefined, locate, publish};

/// Bytes of the head, before the first instruction.
pub const HEAD: usize = 8;
/// Where the call comes back to, from where it begins.
pub(super) const BACK: u64 = 11;
/// Bytes of the call sequence without and with the way through a stub.
pub const PLAIN_LEN: usize = 19;
/// See above.
pub const FOLLOWING_LEN: usize = 28;
/// Where a call that is not followed goes on, in the latter.
const UNFOLLOWED: u64 = 23;
/// Length of the jump that leads here.
pub const JUMP_LEN: usize = 5;
const SHORT_JUMP_LEN: usize = 2;
/// What only counts jumps back over the call, in 127 bytes.
const _: () = assert!(SHORT_JUMP_LEN + FOLLOWING_LEN < 64);

/// One optimized place. Never freed: a thread may sleep in its code. It has nothing that its code in memory
/// tells as well.
#[repr(C)]
pub struct Detour {
    /// Whose.
    pub point: &'static ProbePoint,
    /// The place's only consumer, where that is a pre_handler and this may call it.
    pub sole: AtomicPtr<Consumer>,
    /// The next of those that begin in the same page.
    pub next: AtomicPtr<Detour>,
    /// The displaced instructions, from no place to no other: shared by all that look the same. See
    /// [`Detour::relocated`].
    pub layout: &'static Relocated<JUMP_LEN>,
    /// Where its first instruction is, from the place on: see [`Detour::start`].
    pub distance: i32,
    /// Where hits are counted and nothing else is done: the cell, 0: nowhere. See [`Detour::compiled`].
    pub count: u32,
    /// Where the first of the displaced instructions is, from the start on.
    pub new_at: u16,
    /// Bytes of its code.
    pub len: u16,
    /// Bit k: at offset k stands a byte that traps.
    pub traps: u8,
    /// What it calls.
    pub calls: Calls,
    /// Its ending goes through a stub.
    pub follows: bool,
    /// It is a [`QuickDetour`].
    pub is_quick: bool,
    /// It is not at a function's entry: what counts steps over the red zone.
    pub red_zone: bool,
    /// What counts keeps the flags.
    pub flags: bool,
    /// The five bytes that its jump replaces.
    pub original: [u8; JUMP_LEN],
}

/// How many words there are to call.
pub const TABLE_WORDS: usize = 5;

/// What a detour calls: by the word of this number in a table near it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Calls {
    /// What serves every place.
    Common,
    /// [`super::direct`].
    Direct,
    /// [`super::quick`].
    Quick,
    /// [`super::quick_log`].
    Log,
    /// What looks at a frame that is about to be restored ([`super::masks`]).
    Restorer,
}

impl Calls {
    /// Such a table.
    #[must_use]
    pub fn table() -> [u64; TABLE_WORDS] {
        [
            uprobe_detour_common,
            uprobe_detour_direct,
            uprobe_detour_quick,
            uprobe_detour_log,
            uprobe_detour_restorer,
        ]
        .map(|code| code as *const () as u64)
    }

    /// The word in the table at `table`.
    const fn word_in(self, table: u64) -> u64 {
        table.wrapping_add(self as u64 * 8)
    }
}

/// One that has more: most of all one whose code does without Rust where nothing is unusual, and finds this at the
/// address of the [`Detour`].
#[repr(C)]
pub struct QuickDetour {
    /// As of any place.
    pub detour: Detour,
    /// Where nothing is wanted but number and times.
    pub quick: Quick,
    /// Where nothing is wanted but an event of registers.
    pub log: QuickLog,
    /// What is compiled in front of the displaced instructions, where it does more than to count.
    pub compiled: Option<Compiled>,
}

const _: () = assert!(size_of::<Detour>() <= 64);

impl Detour {
    /// What it is besides, if it is.
    const fn quick_detour(&self) -> Option<&QuickDetour> {
        if !self.is_quick {
            return None;
        }
        // SAFETY: it is the first field of one, which is all that says so.
        Some(unsafe { &*std::ptr::from_ref(self).cast::<QuickDetour>() })
    }

    /// [`QuickDetour::quick`], where there is one.
    #[must_use]
    pub fn quick(&self) -> Option<&Quick> {
        self.quick_detour().map(|detour| &detour.quick).filter(|quick| quick.is_some())
    }

    /// [`QuickDetour::log`], where there is one.
    #[must_use]
    pub fn log(&self) -> Option<&QuickLog> {
        self.quick_detour().map(|detour| &detour.log).filter(|log| log.is_some())
    }

    /// Its first instruction.
    #[inline]
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.point.at.wrapping_add_signed(self.distance as i64)
    }

    /// The displaced instructions. Signal-safe.
    #[must_use]
    pub const fn relocated(&self) -> Relocated<JUMP_LEN> {
        self.layout.at_other(self.point.at, self.new_at())
    }

    /// Where the first of them is.
    #[inline]
    #[must_use]
    pub const fn new_at(&self) -> u64 {
        self.start() + self.new_at as u64
    }

    /// What is compiled in front of the displaced instructions; the call is its way out. Signal-safe.
    #[must_use]
    pub fn compiled(&self) -> Option<Cow<'_, Compiled>> {
        if self.count == 0 {
            return self.quick_detour()?.compiled.as_ref().map(Cow::Borrowed);
        }
        let action = Action { filter: None, then: Then::Count(self.count) };
        Some(Cow::Owned(Compiled { action, red_zone: self.red_zone, flags: self.flags }))
    }

    const fn is_compiled(&self) -> bool {
        self.count != 0
            || match self.quick_detour() {
                Some(detour) => detour.compiled.is_some(),
                None => false,
            }
    }

    /// Where its jump leads: to the first instruction, or into code compiled for its action.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.start()
            + if self.is_compiled() { compiled_entry(self.follows, self.count != 0) as u64 } else { 0 }
    }

    /// First byte behind its code.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start() + self.len as u64
    }

    /// The five bytes of its jump.
    #[must_use]
    pub fn jump(&self) -> [u8; JUMP_LEN] {
        let [a, b, c, d] = (self.entry().wrapping_sub(self.point.at + JUMP_LEN as u64) as u32).to_le_bytes();
        [0xe9, a, b, c, d]
    }
}

// SAFETY: immutable after it is published, but for atomics.
unsafe impl Sync for Detour {}

/// Where compiled code begins, from the start: behind the call and a jump past it, a short one past what only counts.
#[must_use]
pub const fn compiled_entry(follows: bool, only_counts: bool) -> usize {
    let jump = if only_counts { SHORT_JUMP_LEN } else { JUMP_LEN };
    jump + if follows { FOLLOWING_LEN } else { PLAIN_LEN }
}

/// The address of the code that every call can lead to.
pub(super) fn common() -> usize {
    uprobe_detour_common as *const () as usize
}

/// What stands before its first instruction. The code of the call finds it from where it comes back to; so do
/// unwinders, by the place's address, which [`Detour`] begins with.
#[must_use]
pub fn head(detour: &Detour) -> [u8; HEAD] {
    (std::ptr::from_ref(detour) as u64).to_le_bytes()
}

const _: () = assert!(std::mem::offset_of!(Detour, point) == 0 && std::mem::offset_of!(ProbePoint, at) == 0);

/// The code up to the relocated instructions, for a detour at `start` with a table within 2 GiB.
#[must_use]
pub fn call_sequence(follows: bool, start: u64, calls: Calls, table: u64) -> ([u8; FOLLOWING_LEN], usize) {
    const DISPLACEMENT: usize = BACK as usize - 4;
    let mut code = FOLLOWING;
    let len = if follows { FOLLOWING_LEN } else { PLAIN_LEN };
    if !follows {
        code[..PLAIN_LEN].copy_from_slice(&PLAIN);
    }
    let displacement = calls.word_in(table).wrapping_sub(start + BACK) as u32;
    code[DISPLACEMENT..DISPLACEMENT + 4].copy_from_slice(&displacement.to_le_bytes());
    (code, len)
}

/// `lea rsp, [rsp - 128]; call [rip + word]; lea rsp, [rsp + 128]`
const PLAIN: [u8; PLAIN_LEN] = [
    0x48, 0x8d, 0x64, 0x24, 0x80, // lea rsp, [rsp - 128]
    0xff, 0x15, 0, 0, 0, 0, // call [rip + word]
    0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0, // lea rsp, [rsp + 128]
];

/// The same with the way through a stub.
const FOLLOWING: [u8; FOLLOWING_LEN] = [
    0x48, 0x8d, 0x64, 0x24, 0x80, // lea rsp, [rsp - 128]
    0xff, 0x15, 0, 0, 0, 0, // call [rip + word]
    0x48, 0x8d, 0xa4, 0x24, 0x88, 0, 0, 0, // lea rsp, [rsp + 136]
    0xff, 0x64, 0x24, 0xe8, // jmp [rsp - 24]
    0x48, 0x8d, 0x64, 0x24, 0xf8, // lea rsp, [rsp - 8]
];

global_asm!(
    ".text",
    ".p2align 4",
    ".globl uprobe_detour_common",
    ".hidden uprobe_detour_common",
    ".type uprobe_detour_common,@function",
    // [rsp] = back.
    "uprobe_detour_common:",
    begin_detour!(),
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "lea rsp, [rsp - 16]", // Regs::rip, Regs::rsp
    ".cfi_adjust_cfa_offset 16",
    push_registers!(),
    "mov rbx, rsp",
    ".cfi_def_cfa rbx, 280",
    "lea rax, [rsp + 280]",
    "mov [rsp + 120], rax", // Regs::rsp
    "mov rsi, [rsp + 144]", // back
    "mov rsi, [rsi - 19]",
    "mov rax, [rsi]",
    "mov rax, [rax]",
    "mov [rsp + 128], rax", // Regs::rip
    save_xmm!(),
    "cld",
    "mov rdi, rbx",
    "mov rdx, rsp",
    "call {on_detour}",
    restore_xmm!(),
    "test eax, eax",
    "jnz 4f",
    "mov rsp, rbx",
    ".cfi_def_cfa rsp, 280",
    "mov rcx, [rsp + 136]",
    "test ch, 4",
    "jnz 3f",
    restore_flags!(),
    "2:",
    pop_registers!(),
    "lea rsp, [rsp + 24]",
    ".cfi_adjust_cfa_offset -24",
    "ret",
    "3:",
    ".cfi_def_cfa rsp, 280",
    ".cfi_rel_offset rbx, 88",
    ".cfi_rel_offset rbp, 80",
    ".cfi_rel_offset r15, 56",
    ".cfi_rel_offset r14, 48",
    ".cfi_rel_offset r13, 40",
    ".cfi_rel_offset r12, 32",
    // The trap flag is a debugger's, and not for here.
    "and ch, 0xFE",
    "push rcx",
    ".cfi_adjust_cfa_offset 8",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "jmp 2b",
    // rip was changed: only the kernel can set all registers at once. rbx = Regs.
    "4:",
    ".cfi_def_cfa rbx, 280",
    ".globl uprobe_detour_resume",
    ".hidden uprobe_detour_resume",
    "uprobe_detour_resume:",
    "int3",
    "ud2",
    ".cfi_endproc",
    ".size uprobe_detour_common, . - uprobe_detour_common",
    on_detour = sym on_detour,
);

unsafe extern "C" {
    fn uprobe_detour_common();
    static uprobe_detour_resume: u8;
}

/// What `uprobe_detour_common` does next.
pub(super) const GO_ON: u32 = 0;
pub(super) const RESUME: u32 = 1;

/// Called by `uprobe_detour_common`. `regs` is the image it restores, `vectors` where xmm0-15 are.
///
/// # Safety
/// By that caller only.
unsafe extern "C-unwind" fn on_detour(regs: *mut Regs, detour: *const Detour, vectors: *const u8) -> u32 {
    // SAFETY: detours are never freed.
    let detour = unsafe { &*detour };
    if !regs.is_aligned() {
        // SAFETY: the caller's own image.
        return unsafe { on_crooked_stack(regs, detour, vectors) };
    }
    // SAFETY: the caller's own image.
    handle(unsafe { &mut *regs }, detour, vectors)
}

/// The stack of the code between a function's entry and its return may be aligned to nothing.
///
/// # Safety
/// `regs` can be read and written.
#[cold]
unsafe fn on_crooked_stack(regs: *mut Regs, detour: &'static Detour, vectors: *const u8) -> u32 {
    // SAFETY: the caller's promise.
    let mut image = unsafe { regs.read_unaligned() };
    let result = handle(&mut image, detour, vectors);
    // SAFETY: as above.
    unsafe { regs.write_unaligned(image) };
    result
}

fn handle(regs: &mut Regs, detour: &'static Detour, vectors: *const u8) -> u32 {
    let slot = regs.rsp;
    let mut next = detour.start() + UNFOLLOWED;
    let mut result = GO_ON;
    process::check_fork();
    if let Some(thread) = thread::current() {
        thread.enter();
        let flow = hit(regs, detour, vectors, thread, &mut next);
        thread.leave();
        defer::finish(thread);
        if flow != Flow::Continue {
            result = RESUME;
        }
    }
    if detour.follows {
        // Below the stack pointer of a function's first instruction nothing is alive.
        // SAFETY: 16 bytes below it, inside what the caller's very frame has skipped.
        unsafe { ((slot - 16) as *mut u64).write_unaligned(next) };
    }
    result
}

fn hit(
    regs: &mut Regs,
    detour: &'static Detour,
    vectors: *const u8,
    thread: &'static ThreadState,
    next: &mut u64,
) -> Flow {
    let Some(listeners) = detour.point.consumers.load() else { return Flow::Continue };
    let mut hit = Hit::at_jump(regs, detour.point, vectors);
    if detour.follows {
        hit.target = detour.new_at();
    }
    let flow = run_all(&listeners, &mut hit, thread);
    if let Some(stub) = returns::follow(&mut hit, thread, flow) {
        *next = stub;
    }
    flow
}

/// Whether `rip` is behind the int3 of `uprobe_detour_common`.
#[must_use]
pub fn is_resume_site(rip: u64) -> bool {
    rip == &raw const uprobe_detour_resume as u64 + 1
}

/// The trap of `uprobe_detour_common` where rip was changed: whether `rip`, behind an int3, is it. The
/// thread goes on with the registers of the image.
///
/// # Safety
/// `context` is the frame of this signal.
pub unsafe fn resume(context: *mut SignalContext) -> bool {
    // SAFETY: the kernel's frame.
    let regs = unsafe { &mut (*context).regs };
    if !is_resume_site(regs.rip) {
        return false;
    }
    /// The trap flag, which a debugger's step leaves in the image.
    const TRAP_FLAG: u64 = 1 << 8;
    // SAFETY: rbx points to the image at this very instruction.
    *regs = unsafe { (regs.rbx as *const Regs).read_unaligned() };
    regs.rflags &= !TRAP_FLAG;
    true
}
