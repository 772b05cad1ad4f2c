//! Return stubs: what a followed call returns to instead of its caller.
//!
//! ```text
//!  stub i, 16 bytes, in the library's text             table entry i, 16 bytes
//!   +0   call *entry.target                             { target, real return address }
//!   +6   call uprobe_ret_common   ◄── the function's ret arrives here
//!   +11  jmp  uprobe_ret_tail                                  rsp there: C
//!
//!  stack      C-16          C-8 = the slot          C
//!  call:                    the real return address
//!  entry:                   stub + 6                   (written by us)
//!  landing:                 stub + 11                  (pushed by the stub's own call)
//!  tail:      real address ──► pushed again, ret
//! ```
//!
//! There is one stub for each pair of return address and target, permanent and never changed. So no
//! return depends on anything that belongs to one call: a frame that returns twice, in any order, on
//! any thread, after a longjmp, in a coroutine, still finds its way. What belongs to one call is in
//! [`super::shadow`], and if it is lost, one event is.
//!
//! Every call has its ret (the function's, the landing's, the tail's), so the processor's return
//! stack stays paired, and the callers above predict as they would without us.
//!
//! One hand-written FDE covers all stubs and gives every unwinder the real return address. Its
//! form is the only one that all of them take: CFA = rsp + 1 (with rsp itself libgcc takes the stub
//! and the frame that catches for one and aborts); the address inside the stub is read from the stack
//! and not from the pc register (LLVM libunwind 13 has none), the table's entry is found by a
//! link-time distance and not by reading code (which a core file lacks).
//!
//! A personality routine that asks for its frame's CFA gets that one, off by one. Those of C++, Rust, C and Ada go by the
//! address of the call and the table for it. LuaJIT's has no table, and goes by the CFA: what its interpreter calls is
//! not followed.

use std::arch::global_asm;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::blocks::{pop_registers, push_registers, restore_flags, restore_xmm, save_xmm};

/// How many there are: 512 KiB of text, and as much zeroed memory, touched where used.
pub const STUBS: usize = 32768;
const STUB_SIZE: u64 = 16;
/// Where a stub's function returns to.
const LANDING: u64 = 6;
/// What the landing pushes.
const LANDED: u64 = 11;

global_asm!(
    ".section .bss.uprobe_stub_table,\"aw\",@nobits",
    ".p2align 4",
    ".globl uprobe_stub_table",
    ".hidden uprobe_stub_table",
    ".type uprobe_stub_table,@object",
    "uprobe_stub_table:",
    ".zero 16 * {stubs}",
    ".size uprobe_stub_table, . - uprobe_stub_table",
    ".text",
    ".p2align 4",
    // The FDE begins one byte early: a pc is looked up less one.
    ".zero 15, 0xCC",
    "uprobe_stub_pad: .byte 0xCC",
    ".globl uprobe_stub_pool",
    ".hidden uprobe_stub_pool",
    ".type uprobe_stub_pool,@function",
    "uprobe_stub_pool:",
    // Stubs and entries have the same size: the distance is the same for all.
    ".rept {stubs}",
    ".byte 0xff, 0x15", // call [rip + distance]
    ".long uprobe_stub_table - . + (. - uprobe_stub_pool) - 6",
    "call uprobe_ret_common",
    ".byte 0xe9",
    ".long uprobe_ret_tail - . - 4",
    ".endr",
    "uprobe_stub_end:",
    ".size uprobe_stub_pool, . - uprobe_stub_pool",
    // The real return address lies at rsp - 16, where the landing left it: in the red zone, where no
    // signal writes.
    ".p2align 4",
    ".type uprobe_ret_tail,@function",
    "uprobe_ret_tail:",
    ".cfi_startproc",
    ".cfi_remember_state",
    // CFA = rsp + 1; rsp = CFA - 1; return address = *(CFA - 17). As for the stubs.
    ".cfi_escape 0x0c, 0x07, 0x01, 0x16, 0x07, 0x02, 0x31, 0x1c, 0x16, 0x10, 0x04, 0x08, 0x11, 0x1c, 0x06",
    "push qword ptr [rsp - 16]",
    ".cfi_restore_state",
    "ret",
    ".cfi_endproc",
    ".size uprobe_ret_tail, . - uprobe_ret_tail",
    // Saves the general registers, the flags and xmm0-15 as Regs has them; calls on_return. Nothing in
    // there executes AVX, so the upper halves stay as they are. [rsp] = stub + 11.
    ".p2align 4",
    ".globl uprobe_ret_slow",
    ".hidden uprobe_ret_slow",
    ".type uprobe_ret_slow,@function",
    "uprobe_ret_slow:",
    ".cfi_startproc",
    "lea rsp, [rsp - 8]", // the cell for the real address; push would do, but it would write there
    ".cfi_adjust_cfa_offset 8",
    "pushfq",
    ".cfi_adjust_cfa_offset 8",
    "push qword ptr [rsp + 16]",
    ".cfi_adjust_cfa_offset 8",
    "push rsp",
    ".cfi_adjust_cfa_offset 8",
    push_registers!(),
    "mov rbx, rsp",
    ".cfi_def_cfa rbx, 160",
    "lea rax, [rsp + 160]",
    "mov [rsp + 120], rax", // Regs::rsp = C
    save_xmm!(),
    "cld",
    "mov rdi, rbx",
    "call {on_return}",
    restore_xmm!(),
    "mov rsp, rbx",
    ".cfi_def_cfa rsp, 160",
    "mov rax, [rsp + 128]", // Regs::rip: where to, into the cell
    "mov [rsp + 144], rax",
    // The flags. popfq is slow, and under a debugger's single step it would set the trap flag that
    // pushfq saw: only where the direction flag is set, which the ABI forbids, and without that flag.
    "mov rcx, [rsp + 136]",
    "test ch, 4",
    "jnz 3f",
    restore_flags!(),
    "2:",
    pop_registers!(),
    "lea rsp, [rsp + 32]", // rsp, rip, flags, the cell
    ".cfi_adjust_cfa_offset -32",
    "ret",
    "3:",
    ".cfi_def_cfa rsp, 160",
    ".cfi_rel_offset rbx, 88",
    ".cfi_rel_offset rbp, 80",
    ".cfi_rel_offset r15, 56",
    ".cfi_rel_offset r14, 48",
    ".cfi_rel_offset r13, 40",
    ".cfi_rel_offset r12, 32",
    "and ch, 0xFE",
    "push rcx",
    ".cfi_adjust_cfa_offset 8",
    "popfq",
    ".cfi_adjust_cfa_offset -8",
    "jmp 2b",
    ".cfi_endproc",
    ".size uprobe_ret_slow, . - uprobe_ret_slow",
    // Written by hand: .cfi_escape can't carry the link-time distance.
    ".section .eh_frame,\"a\",@unwind",
    ".p2align 3",
    "uprobe_stub_cie:",
    ".long uprobe_stub_cie_end - . - 4",
    "uprobe_stub_cie_id:",
    ".long 0",
    ".byte 1",
    ".asciz \"zR\"",
    ".uleb128 1",
    ".sleb128 -8",
    ".byte 16",
    ".uleb128 1",
    ".byte 0x1b",
    ".byte 0x0c, 7, 1", // DW_CFA_def_cfa rsp, 1
    ".p2align 3, 0",
    "uprobe_stub_cie_end:",
    ".long uprobe_stub_fde_end - . - 4",
    "uprobe_stub_fde_cie:",
    ".long uprobe_stub_fde_cie - uprobe_stub_cie",
    ".long uprobe_stub_pad - .",
    ".long uprobe_stub_end - uprobe_stub_pad",
    ".uleb128 0",
    ".byte 0x16, 7, 2, 0x31, 0x1c", // rsp = CFA - 1
    ".byte 0x16, 16, 29",           // return address =
    ".byte 0x39, 0x1c, 0x06",       //   *(CFA - 9): inside the stub
    ".byte 0x09, 0xf0, 0x1a",       //   & -16: its start
    ".byte 0x0f",
    ".quad uprobe_stub_table@GOTOFF",
    ".byte 0x0f",
    ".quad uprobe_stub_pool@GOTOFF",
    ".byte 0x1c, 0x22",       //   + (table - pool): its entry
    ".byte 0x23, 0x08, 0x06", //   + 8, dereferenced
    ".p2align 3, 0",
    "uprobe_stub_fde_end:",
    ".text",
    stubs = const STUBS,
    on_return = sym super::returns::on_return,
);

unsafe extern "C" {
    static uprobe_stub_pool: u8;
    static uprobe_stub_table: [Entry; STUBS];
}

/// A stub's pair. Written once, before anything refers to the stub.
#[repr(C)]
struct Entry {
    target: AtomicU64,
    ra: AtomicU64,
}

/// Cells of the hash: index + 1 of a stub; 0 is empty. Cells are never emptied.
pub(super) static CELLS: [AtomicU32; 2 * STUBS] = [const { AtomicU32::new(0) }; 2 * STUBS];
static USED: AtomicU32 = AtomicU32::new(0);

fn pool() -> u64 {
    &raw const uprobe_stub_pool as u64
}

fn entry(stub: u32) -> &'static Entry {
    // SAFETY: the table is static and zeroed; the index is masked into it.
    unsafe { &uprobe_stub_table[stub as usize % STUBS] }
}

/// The stub's landing: what stands in the slot of a followed call.
#[inline]
#[must_use]
pub fn landing(stub: u32) -> u64 {
    pool() + u64::from(stub) * STUB_SIZE + LANDING
}

/// The stub's first instruction, which calls its target.
#[inline]
#[must_use]
pub fn start(stub: u32) -> u64 {
    pool() + u64::from(stub) * STUB_SIZE
}

/// Whether `word`, found in a slot, says that the frame is still to return there: it is the landing, or
/// what the landing has pushed in its place on the way to [`super::returns::on_return`].
#[inline]
#[must_use]
pub fn holds(word: u64, stub: u32) -> bool {
    let landing = landing(stub);
    word == landing || word == landing + (LANDED - LANDING)
}

/// The real return address behind a stub.
#[inline]
#[must_use]
pub fn real(stub: u32) -> u64 {
    entry(stub).ra.load(Relaxed)
}

/// The stub in which `pc` lies.
#[inline]
#[must_use]
pub fn containing(pc: u64) -> Option<u32> {
    let offset = pc.wrapping_sub(pool());
    (offset < STUBS as u64 * STUB_SIZE).then_some((offset / STUB_SIZE) as u32)
}

/// The stub whose landing is `address`, where it is one.
#[must_use]
pub fn of_landing(address: u64) -> Option<u32> {
    containing(address).filter(|stub| landing(*stub) == address)
}

/// The stub that has pushed `address` on its way to [`super::returns::on_return`].
#[inline]
#[must_use]
pub fn landed(address: u64) -> u32 {
    debug_assert_eq!((address - pool()) % STUB_SIZE, LANDED);
    ((address - pool()) / STUB_SIZE) as u32
}

/// The real return address, where `pc` lies in a stub in use. For whoever walks stacks.
#[must_use]
pub fn real_return(pc: u64) -> Option<u64> {
    containing(pc).map(real).filter(|real| *real != 0)
}

/// The stub for a return to `ra` of a function that goes on at `target` (0: not entered through the
/// stub). Made where there is none yet, provided `ra` is code that takes one for its callee. `None`: it isn't, or all
/// stubs are taken. Signal-safe; lock-free.
#[must_use]
pub fn find(ra: u64, target: u64) -> Option<u32> {
    let mask = CELLS.len() - 1;
    let mut cell = (ra ^ target.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 40 & mask;
    let mut mine = None;
    for _ in 0..CELLS.len() {
        let found = CELLS[cell].load(Acquire);
        if found == 0 {
            let stub = match mine {
                Some(stub) => stub,
                None => make(ra, target)?,
            };
            mine = Some(stub);
            match CELLS[cell].compare_exchange(0, stub + 1, AcqRel, Acquire) {
                Ok(_) => return Some(stub),
                // Another thread was first: look at what it put there. Ours is wasted.
                Err(_) => continue,
            }
        }
        let known = entry(found - 1);
        if known.ra.load(Relaxed) == ra && known.target.load(Relaxed) == target {
            return Some(found - 1);
        }
        cell = (cell + 1) & mask;
    }
    None
}

fn make(ra: u64, target: u64) -> Option<u32> {
    if !is_code(ra) || super::stack::catches_by_address(ra) {
        return None;
    }
    // Not fetch_add: a counter that ran on would wrap one day.
    let stub = USED.fetch_update(AcqRel, Relaxed, |used| (used < STUBS as u32).then_some(used + 1)).ok()?;
    entry(stub).target.store(target, Relaxed);
    entry(stub).ra.store(ra, Relaxed);
    Some(stub)
}

/// Executable ranges that something has returned to; the newest replaces the oldest where there are too
/// many.
struct Range {
    start: AtomicU64,
    end: AtomicU64,
}
static RANGES: [Range; 256] = [const { Range { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; 256];
static RANGE_COUNT: AtomicUsize = AtomicUsize::new(0);

fn note_code(start: u64, end: u64) {
    let range = &RANGES[RANGE_COUNT.fetch_add(1, AcqRel) % RANGES.len()];
    range.end.store(0, Release);
    range.start.store(start, Release);
    range.end.store(end, Release);
}

/// Whether a return address can be one: the word at rsp of `_start` is argc, that of a resolver is data.
/// Asked once for each stub.
fn is_code(address: u64) -> bool {
    let is_known = |range: &Range| {
        let end = range.end.load(Acquire);
        range.start.load(Acquire) <= address && address < end
    };
    if RANGES.iter().any(is_known) {
        return true;
    }
    let mut is_code = false;
    super::ranges::read(|start, end| {
        if (start..end).contains(&address) {
            is_code = true;
            note_code(start, end);
        }
    });
    is_code
}
