//! The few routines that can't be Rust: thread-local access, faulting copies, recoverable calls,
//! the signal return, the shim in front of the program's handlers.

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::arch::{asm, global_asm};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use super::run::Run;
use super::thread::ThreadState;

global_asm!(
    // Initial-exec TLS: one load from fs, no __tls_get_addr, nothing allocated.
    ".section .tbss.uprobe,\"awT\",@nobits",
    ".p2align 3",
    ".globl uprobe_tls_thread",
    ".hidden uprobe_tls_thread",
    ".type uprobe_tls_thread,@object",
    ".size uprobe_tls_thread, 8",
    "uprobe_tls_thread:",
    ".zero 8",
    ".globl uprobe_tls_cells",
    ".hidden uprobe_tls_cells",
    ".type uprobe_tls_cells,@object",
    ".size uprobe_tls_cells, 8",
    "uprobe_tls_cells:",
    ".zero 8",
    ".text",
    // usize uprobe_safe_copy(dst, src, n): bytes copied before the first that faulted. The fault
    // handler moves rip from `insn` to `done`; rep movsb keeps rcx exact.
    ".p2align 4",
    ".globl uprobe_safe_copy",
    ".hidden uprobe_safe_copy",
    ".globl uprobe_safe_copy_insn",
    ".hidden uprobe_safe_copy_insn",
    ".globl uprobe_safe_copy_done",
    ".hidden uprobe_safe_copy_done",
    "uprobe_safe_copy:",
    ".cfi_startproc",
    "mov rcx, rdx",
    "uprobe_safe_copy_insn:",
    "rep movsb",
    "uprobe_safe_copy_done:",
    "mov rax, rdx",
    "sub rax, rcx",
    "ret",
    ".cfi_endproc",
    // {value, done} uprobe_safe_load(src): one word; done is 0 where it faulted. The same of a store, which
    // gives back done alone. rax and rdx; the fault handler moves rip to the end, past `done = 1`.
    ".p2align 4",
    ".globl uprobe_safe_load",
    ".hidden uprobe_safe_load",
    ".globl uprobe_safe_load_insn",
    ".hidden uprobe_safe_load_insn",
    ".globl uprobe_safe_load_done",
    ".hidden uprobe_safe_load_done",
    "uprobe_safe_load:",
    ".cfi_startproc",
    "xor edx, edx",
    "uprobe_safe_load_insn:",
    "mov rax, [rdi]",
    "mov edx, 1",
    "uprobe_safe_load_done:",
    "ret",
    ".cfi_endproc",
    ".p2align 4",
    ".globl uprobe_safe_store",
    ".hidden uprobe_safe_store",
    ".globl uprobe_safe_store_insn",
    ".hidden uprobe_safe_store_insn",
    ".globl uprobe_safe_store_done",
    ".hidden uprobe_safe_store_done",
    "uprobe_safe_store:",
    ".cfi_startproc",
    "xor eax, eax",
    "uprobe_safe_store_insn:",
    "mov [rdi], rsi",
    "mov eax, 1",
    "uprobe_safe_store_done:",
    "ret",
    ".cfi_endproc",
    // i64 uprobe_guarded_call(function, a, b, c, *mut recovery_rsp): calls function(a, b, c). A fault
    // inside is turned by the fault handler into a return of i64::MIN from here: rsp from the
    // recovery cell, rip to uprobe_guarded_fault.
    ".p2align 4",
    ".globl uprobe_guarded_call",
    ".hidden uprobe_guarded_call",
    ".globl uprobe_guarded_leave",
    ".hidden uprobe_guarded_leave",
    ".globl uprobe_guarded_fault",
    ".hidden uprobe_guarded_fault",
    "uprobe_guarded_call:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push r8", // the recovery cell
    ".cfi_offset rbx, -24",
    ".cfi_offset r12, -32",
    ".cfi_offset r13, -40",
    ".cfi_offset r14, -48",
    ".cfi_offset r15, -56",
    "lea rax, [rsp + 1]",
    "mov [r8], rax",
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "call rax",
    "movsxd rax, eax",
    "2:",
    "pop r8",
    "mov qword ptr [r8], 0",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    // From any depth of calls, with rsp from the recovery cell: as if the function had returned 0.
    "uprobe_guarded_leave:",
    ".cfi_def_cfa rbp, 16",
    "lea rsp, [rdi - 1]",
    "xor eax, eax",
    "lea rbp, [rsp + 48]",
    "cld",
    "jmp 2b",
    "uprobe_guarded_fault:",
    "mov rax, 0x8000000000000000",
    "lea rbp, [rsp + 48]",
    "cld",
    "jmp 2b",
    ".cfi_endproc",
    // The signal return. Exactly the bytes debuggers and unwinders know, without an FDE of its own.
    ".p2align 4",
    ".globl uprobe_restorer",
    ".hidden uprobe_restorer",
    ".type uprobe_restorer,@function",
    "nop",
    "uprobe_restorer:",
    "mov rax, 15",
    "syscall",
    ".size uprobe_restorer, . - uprobe_restorer",
    // What the kernel calls for every signal the program handles. Interrupted outside hits and slots,
    // which is nearly always: straight to the program's handler, nothing of ours on the stack.
    ".p2align 4",
    ".globl uprobe_signal_shim",
    ".hidden uprobe_signal_shim",
    ".type uprobe_signal_shim,@function",
    "uprobe_signal_shim:",
    ".cfi_startproc",
    "mov rax, [rip + uprobe_tls_thread@GOTTPOFF]",
    "mov rax, fs:[rax]",
    "test rax, rax",
    "jz 6f",
    "cmp dword ptr [rax + {depth}], 0",
    "jne 7f",
    "mov rcx, [rax + {cells}]",
    "test rcx, rcx",
    "jz 8f",
    "cmp qword ptr [rcx + {consumer}], 0",
    "jne 7f",
    "8:",
    "mov rcx, [rax + {blocked}]",
    "or rcx, [rax + {waiting}]",
    "jnz 3f",
    "6:",
    "movsxd rcx, edi",
    "lea rax, [rip + {holds}]",
    "cmp byte ptr [rax + rcx], 0",
    "jne 3f",
    // In a slot or a detour?
    "mov rax, [rdx + 168]", // uc_mcontext.gregs[REG_RIP]
    "mov rcx, rax",
    "sub rax, [rip + {low}]",
    "cmp rax, [rip + {span}]",
    "jb 3f",
    // Or here: the kernel delivers several at once, and this one's frame stands on another's.
    "lea rax, [rip + uprobe_signal_shim]",
    "sub rcx, rax",
    "lea r8, [rip + 3f]",
    "sub r8, rax",
    "cmp rcx, r8",
    "jb 3f",
    "4:",
    "movsxd rcx, edi",
    "lea rax, [rip + {handlers}]",
    "jmp qword ptr [rax + 8 * rcx]",
    // Show the original instruction and the program's own mask, call; put back what the former needs.
    ".globl uprobe_signal_shim_pushes",
    ".hidden uprobe_signal_shim_pushes",
    "uprobe_signal_shim_pushes:",
    "3:",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "sub rsp, {view} + 32",
    "mov [rbp - 8], rdi",
    "mov [rbp - 16], rsi",
    "mov [rbp - 24], rdx",
    "mov rsi, rdx",
    "lea rdx, [rbp - {view} - 24]",
    "call {prepare}",
    "mov rdi, [rbp - 8]",
    "mov rsi, [rbp - 16]",
    "mov rdx, [rbp - 24]",
    "test eax, eax",
    "jnz 5f",
    ".cfi_remember_state",
    "leave",
    ".cfi_def_cfa rsp, 8",
    "jmp 4b",
    "5:",
    ".cfi_restore_state",
    "movsxd rcx, edi",
    "lea rax, [rip + {handlers}]",
    "call qword ptr [rax + 8 * rcx]",
    "mov rdi, [rbp - 24]",
    "lea rsi, [rbp - {view} - 24]",
    "call {leave}",
    "leave",
    ".cfi_def_cfa rsp, 8",
    "ret",
    // Inside a hit: not now. (At a trap the kernel itself keeps signals back.)
    "7:",
    "sub rsp, 8",
    ".cfi_def_cfa_offset 16",
    "call {set_aside}",
    "add rsp, 8",
    ".cfi_def_cfa_offset 8",
    "ret",
    ".cfi_endproc",
    ".size uprobe_signal_shim, . - uprobe_signal_shim",
    // The trap at which what was set aside is delivered; see `defer`.
    ".p2align 4",
    ".globl uprobe_deliver",
    ".hidden uprobe_deliver",
    ".globl uprobe_deliver_site",
    ".hidden uprobe_deliver_site",
    ".type uprobe_deliver,@function",
    "uprobe_deliver:",
    ".cfi_startproc",
    "int3",
    "uprobe_deliver_site:",
    "ret",
    ".cfi_endproc",
    ".size uprobe_deliver, . - uprobe_deliver",
    // usize uprobe_call_on_stack(stack_top, function, a, b, c)
    ".p2align 4",
    ".globl uprobe_call_on_stack",
    ".hidden uprobe_call_on_stack",
    "uprobe_call_on_stack:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "and rdi, -16",
    "mov rsp, rdi",
    "mov rax, rsi",
    "mov rdi, rdx",
    "mov rsi, rcx",
    "mov rdx, r8",
    "call rax",
    "leave",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    low = sym super::slots::LOW,
    span = sym super::slots::SPAN,
    handlers = sym super::actions::HANDLERS,
    view = const super::slots::VIEW_SIZE,
    prepare = sym super::masks::prepare,
    leave = sym super::slots::leave_view,
    set_aside = sym super::defer::set_aside,
    holds = sym super::masks::HOLDS,
    depth = const std::mem::offset_of!(ThreadState, depth),
    cells = const std::mem::offset_of!(ThreadState, cells),
    consumer = const Run::CONSUMER,
    blocked = const std::mem::offset_of!(ThreadState, blocked),
    waiting = const std::mem::offset_of!(ThreadState, waiting),
);

unsafe extern "C" {
    /// Copies, stopping at the first byte that faults; the number copied.
    pub fn uprobe_safe_copy(dst: usize, src: usize, n: usize) -> usize;
    static uprobe_safe_copy_insn: u8;
    static uprobe_safe_copy_done: u8;
    /// The word at an address, where it can be read.
    pub fn uprobe_safe_load(src: usize) -> LoadedWord;
    static uprobe_safe_load_insn: u8;
    static uprobe_safe_load_done: u8;
    /// Writes a word; 1 where that was possible.
    pub fn uprobe_safe_store(dst: usize, word: u64) -> u64;
    static uprobe_safe_store_insn: u8;
    static uprobe_safe_store_done: u8;
    /// Calls `function(a, b, c)`; `i64::MIN` where it faulted.
    pub fn uprobe_guarded_call(function: usize, a: usize, b: usize, c: usize, recovery: *mut u64) -> i64;
    /// Ends the [`uprobe_guarded_call`] under way with result 0; `recovery` is the value in its cell.
    pub fn uprobe_guarded_leave(recovery: u64) -> !;
    static uprobe_guarded_fault: u8;
    /// Our own sigreturn trampoline.
    pub fn uprobe_restorer();
    /// The kernel-registered handler of every signal the program handles itself.
    pub fn uprobe_signal_shim();
    static uprobe_signal_shim_pushes: u8;
    static uprobe_deliver_site: u8;
}

unsafe extern "C-unwind" {
    /// Traps, with rip at [`deliver_site`].
    pub fn uprobe_deliver();
    /// Calls `function(a, b, c)` on another stack.
    pub fn uprobe_call_on_stack(stack_top: usize, function: usize, a: usize, b: usize, c: usize) -> usize;
}

/// What [`uprobe_safe_load`] gives back.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LoadedWord {
    /// The word.
    pub value: u64,
    /// 0: it can't be read.
    pub done: u64,
}

/// Where a fault at `rip` goes on, if that is in [`uprobe_safe_copy`] or its kin.
#[must_use]
pub fn safe_access_recovery(rip: u64) -> Option<u64> {
    let accesses = [
        (&raw const uprobe_safe_copy_insn, &raw const uprobe_safe_copy_done),
        (&raw const uprobe_safe_load_insn, &raw const uprobe_safe_load_done),
        (&raw const uprobe_safe_store_insn, &raw const uprobe_safe_store_done),
    ];
    accesses.iter().find(|(insn, _)| *insn as u64 == rip).map(|(_, done)| *done as u64)
}

/// Whether a thread at `rip` is about to call a handler, with the stack as the kernel has left it and the
/// frame's context in rdx.
#[must_use]
pub fn is_in_shim(rip: u64) -> bool {
    let start = uprobe_signal_shim as *const () as u64;
    (start..&raw const uprobe_signal_shim_pushes as u64).contains(&rip)
}

/// The rip of the trap in [`uprobe_deliver`].
#[inline]
#[must_use]
pub fn deliver_site() -> u64 {
    &raw const uprobe_deliver_site as u64
}

/// Where a fault inside [`uprobe_guarded_call`] goes on.
#[must_use]
pub fn guarded_fault() -> u64 {
    &raw const uprobe_guarded_fault as u64
}

/// The calling thread's cell; one load.
#[inline]
#[must_use]
pub fn thread_pointer() -> *mut ThreadState {
    let state: *mut ThreadState;
    // SAFETY: reads our own initial-exec TLS word.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + uprobe_tls_thread@GOTTPOFF]",
            "mov {0}, qword ptr fs:[{0}]",
            out(reg) state,
            options(nostack, readonly, preserves_flags)
        );
    }
    state
}

/// Sets the calling thread's cell.
pub fn set_thread_pointer(state: *mut ThreadState) {
    // SAFETY: writes our own initial-exec TLS word.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + uprobe_tls_thread@GOTTPOFF]",
            "mov qword ptr fs:[{0}], {1}",
            out(reg) _,
            in(reg) state,
            options(nostack, preserves_flags)
        );
    }
}

/// Says where compiled code counts for the calling thread; null: it must not.
#[inline]
pub fn set_cells(cells: *mut AtomicU64) {
    // SAFETY: writes our own initial-exec TLS word.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + uprobe_tls_cells@GOTTPOFF]",
            "mov qword ptr fs:[{0}], {1}",
            out(reg) _,
            in(reg) cells,
            options(nostack, preserves_flags)
        );
    }
}

/// Where [`set_cells`] writes, from fs: the same in every thread.
#[must_use]
pub fn cells_offset() -> i32 {
    let offset: i64;
    // SAFETY: reads what the linker has stored.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + uprobe_tls_cells@GOTTPOFF]",
            out(reg) offset,
            options(nostack, readonly, preserves_flags)
        );
    }
    offset as i32
}

/// The thread pointer (glibc keeps its own address at fs:0).
#[inline]
#[must_use]
pub fn thread_base() -> u64 {
    let base: u64;
    // SAFETY: the x86-64 TLS ABI puts the thread pointer at fs:0.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) base, options(nostack, readonly, preserves_flags)) };
    base
}

/// Whether the processor has rdpid.
static HAS_RDPID: AtomicBool = AtomicBool::new(false);

/// Looks at what the processor can do. Called once at start.
pub fn start() {
    const RDPID: u32 = 1 << 22;
    let has_leaf = __cpuid(0).eax >= 7;
    HAS_RDPID.store(has_leaf && __cpuid_count(7, 0).ecx & RDPID != 0, Relaxed);
}

/// Whether the processor has rdpid.
#[must_use]
pub fn has_rdpid() -> bool {
    HAS_RDPID.load(Relaxed)
}

/// Processor and time stamp counter's neighbour: the cpu number Linux keeps in TSC_AUX.
#[inline]
#[must_use]
pub fn cpu_number() -> u32 {
    if has_rdpid() {
        let aux: u64;
        // SAFETY: the processor has it. It reads TSC_AUX, and nothing but that.
        unsafe { asm!("rdpid {}", out(reg) aux, options(nostack, nomem, preserves_flags)) };
        return aux as u32 & 0xFFF;
    }
    let aux: u32;
    // SAFETY: rdtscp exists on every x86-64 Linux machine of the last fifteen years; checked at start.
    unsafe { asm!("rdtscp", out("eax") _, out("edx") _, out("ecx") aux, options(nostack, nomem)) };
    aux & 0xFFF
}
