//! A user's handler called where no signal frame holds the vector registers: whatever it does with
//! them, the program does not see it.
//!
//! Plain moves: an xsave of any form costs ten times as much. How wide they must be is asked once,
//! of XGETBV. The x87 registers hold a `long double` result at most, which balanced code leaves alone;
//! where the processor says that they are in use they are saved, too.

use std::arch::global_asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

/// 0: xmm0-15. 1: ymm0-15. 2: zmm0-31 and the mask registers.
static WIDTH: AtomicU32 = AtomicU32::new(0);
/// 1: XGETBV with rcx = 1 says which state is in use.
static TELLS_USE: AtomicU32 = AtomicU32::new(0);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Asks the processor, once: under a hypervisor each CPUID is a trap. Called before the first return probe is armed and the first jump
/// written.
pub fn start() {
    const AVX: u64 = 0b110;
    const AVX512: u64 = 0b1110_0110;
    const OSXSAVE: u32 = 1 << 27;
    const XGETBV1: u32 = 1 << 2;
    if ASKED.swap(true, AcqRel) || __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return;
    }
    // SAFETY: the system has enabled it, as just asked.
    let enabled = unsafe { enabled_state() };
    let width = match enabled {
        all if all & AVX512 == AVX512 => 2,
        all if all & AVX == AVX => 1,
        _ => 0,
    };
    WIDTH.store(width, Release);
    TELLS_USE.store(u32::from(__cpuid_count(0xD, 1).eax & XGETBV1 != 0), Release);
}

#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) }
}

global_asm!(
    ".text",
    // i64 uprobe_guarded_call_vectors(function, a, b, c, *mut recovery_rsp)
    //   rbp - 8: mxcsr   rbp - 16: whether x87 was saved   rbp - 24..: rbx, r12
    ".p2align 4",
    ".globl uprobe_guarded_call_vectors",
    ".hidden uprobe_guarded_call_vectors",
    ".type uprobe_guarded_call_vectors,@function",
    "uprobe_guarded_call_vectors:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rbx",
    ".cfi_offset rbx, -24",
    "push r12",
    ".cfi_offset r12, -32",
    "sub rsp, 16",
    "stmxcsr [rbp - 24]",
    "xor ebx, ebx",
    "cmp dword ptr [rip + {tells}], 0",
    "je 1f",
    "mov r10, rcx",
    "mov r11, rdx",
    "mov ecx, 1",
    "xgetbv",
    "mov ebx, eax",
    "and ebx, 1",
    "mov rcx, r10",
    "mov rdx, r11",
    "jz 1f",
    "sub rsp, 512",
    "and rsp, -64",
    "fxsave64 [rsp]",
    "1:",
    "mov r12, rsp",
    "mov eax, [rip + {width}]",
    "cmp eax, 1",
    "je 3f",
    "ja 4f",
    "sub rsp, 256",
    "and rsp, -64",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movaps [rsp + 16 * \\n], xmm\\n",
    ".endr",
    "call uprobe_guarded_call",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movaps xmm\\n, [rsp + 16 * \\n]",
    ".endr",
    "jmp 5f",
    "3:",
    "sub rsp, 512",
    "and rsp, -64",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovaps [rsp + 32 * \\n], ymm\\n",
    ".endr",
    "vzeroupper",
    "call uprobe_guarded_call",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovaps ymm\\n, [rsp + 32 * \\n]",
    ".endr",
    "jmp 5f",
    "4:",
    "sub rsp, 64 * 32 + 64",
    "and rsp, -64",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "vmovaps [rsp + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0,1,2,3,4,5,6,7",
    "kmovq [rsp + 2048 + 8 * \\n], k\\n",
    ".endr",
    "vzeroupper",
    "call uprobe_guarded_call",
    ".irp n, 0,1,2,3,4,5,6,7",
    "kmovq k\\n, [rsp + 2048 + 8 * \\n]",
    ".endr",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "vmovaps zmm\\n, [rsp + 64 * \\n]",
    ".endr",
    "5:",
    "test ebx, ebx",
    "jz 6f",
    "fxrstor64 [r12]",
    // It has put xmm0-15 back as they were, low halves only, which is what they are.
    "6:",
    "ldmxcsr [rbp - 24]",
    "lea rsp, [rbp - 16]",
    "pop r12",
    "pop rbx",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size uprobe_guarded_call_vectors, . - uprobe_guarded_call_vectors",
    tells = sym TELLS_USE,
    width = sym WIDTH,
);

unsafe extern "C" {
    /// [`super::asm::uprobe_guarded_call`], with the vector registers as they were.
    pub fn uprobe_guarded_call_vectors(
        function: usize,
        a: usize,
        b: usize,
        c: usize,
        recovery: *mut u64,
    ) -> i64;
}
