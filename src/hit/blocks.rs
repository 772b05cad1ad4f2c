//! Blocks of instructions that several routines of this directory have in common.

/// What unwinders are told at the start of a routine that detours call: its caller is the probed place itself, with its
/// own rsp; the detour is not code that they know. [rsp] = back; the Detour is at back - 19, and leads to the place's
/// address.
macro_rules! begin_detour {
    () => {
        concat!(
            ".cfi_startproc\n",
            ".cfi_signal_frame\n",
            ".cfi_def_cfa rsp, 136\n",
            // rip = **(*(*(CFA - 136) - 19))
            ".cfi_escape 0x16, 0x10, 0x0b, 0x0a, 0x88, 0x00, 0x1c, 0x06, 0x08, 0x13, 0x1c, 0x06, 0x06, 0x06\n",
        )
    };
}

/// The general registers, as [`Regs`](crate::regs::Regs) has them, below rip and rsp. Told to unwinders.
macro_rules! push_registers {
    () => {
        push_registers!("")
    };
    // With something to be done once rax is saved, that changes nothing else.
    ($with_rax:literal) => {
        concat!(
            "push rcx; .cfi_adjust_cfa_offset 8\n",
            "push rax; .cfi_adjust_cfa_offset 8\n",
            $with_rax,
            "\n",
            "push rdx; .cfi_adjust_cfa_offset 8\n",
            "push rbx; .cfi_adjust_cfa_offset 8; .cfi_rel_offset rbx, 0\n",
            "push rbp; .cfi_adjust_cfa_offset 8; .cfi_rel_offset rbp, 0\n",
            "push rsi; .cfi_adjust_cfa_offset 8\n",
            "push rdi; .cfi_adjust_cfa_offset 8\n",
            "push r15; .cfi_adjust_cfa_offset 8; .cfi_rel_offset r15, 0\n",
            "push r14; .cfi_adjust_cfa_offset 8; .cfi_rel_offset r14, 0\n",
            "push r13; .cfi_adjust_cfa_offset 8; .cfi_rel_offset r13, 0\n",
            "push r12; .cfi_adjust_cfa_offset 8; .cfi_rel_offset r12, 0\n",
            "push r11; .cfi_adjust_cfa_offset 8\n",
            "push r10; .cfi_adjust_cfa_offset 8\n",
            "push r9; .cfi_adjust_cfa_offset 8\n",
            "push r8; .cfi_adjust_cfa_offset 8\n",
        )
    };
}

/// And back.
macro_rules! pop_registers {
    () => {
        concat!(
            "pop r8; .cfi_adjust_cfa_offset -8\n",
            "pop r9; .cfi_adjust_cfa_offset -8\n",
            "pop r10; .cfi_adjust_cfa_offset -8\n",
            "pop r11; .cfi_adjust_cfa_offset -8\n",
            "pop r12; .cfi_adjust_cfa_offset -8; .cfi_restore r12\n",
            "pop r13; .cfi_adjust_cfa_offset -8; .cfi_restore r13\n",
            "pop r14; .cfi_adjust_cfa_offset -8; .cfi_restore r14\n",
            "pop r15; .cfi_adjust_cfa_offset -8; .cfi_restore r15\n",
            "pop rdi; .cfi_adjust_cfa_offset -8\n",
            "pop rsi; .cfi_adjust_cfa_offset -8\n",
            "pop rbp; .cfi_adjust_cfa_offset -8; .cfi_restore rbp\n",
            "pop rbx; .cfi_adjust_cfa_offset -8; .cfi_restore rbx\n",
            "pop rdx; .cfi_adjust_cfa_offset -8\n",
            "pop rax; .cfi_adjust_cfa_offset -8\n",
            "pop rcx; .cfi_adjust_cfa_offset -8\n",
        )
    };
}

/// Those that a routine without Rust uses; rax is 48 above rsp then.
macro_rules! push_scratch {
    () => {
        concat!(
            "push rax; .cfi_adjust_cfa_offset 8\n",
            "push rcx; .cfi_adjust_cfa_offset 8\n",
            "push rdx; .cfi_adjust_cfa_offset 8\n",
            "push rsi; .cfi_adjust_cfa_offset 8\n",
            "push rdi; .cfi_adjust_cfa_offset 8\n",
            "push r8; .cfi_adjust_cfa_offset 8\n",
            "push r9; .cfi_adjust_cfa_offset 8\n",
        )
    };
}

/// And back.
macro_rules! pop_scratch {
    () => {
        concat!(
            "pop r9; .cfi_adjust_cfa_offset -8\n",
            "pop r8; .cfi_adjust_cfa_offset -8\n",
            "pop rdi; .cfi_adjust_cfa_offset -8\n",
            "pop rsi; .cfi_adjust_cfa_offset -8\n",
            "pop rdx; .cfi_adjust_cfa_offset -8\n",
            "pop rcx; .cfi_adjust_cfa_offset -8\n",
            "pop rax; .cfi_adjust_cfa_offset -8\n",
        )
    };
}

/// xmm0 to xmm15 below rsp, which is aligned and lowered. What has wider vectors keeps their upper halves: Rust
/// here executes no AVX.
macro_rules! save_xmm {
    () => {
        concat!(
            "sub rsp, 256\n",
            "and rsp, -16\n",
            "movaps [rsp + 0], xmm0\n",
            "movaps [rsp + 16], xmm1\n",
            "movaps [rsp + 32], xmm2\n",
            "movaps [rsp + 48], xmm3\n",
            "movaps [rsp + 64], xmm4\n",
            "movaps [rsp + 80], xmm5\n",
            "movaps [rsp + 96], xmm6\n",
            "movaps [rsp + 112], xmm7\n",
            "movaps [rsp + 128], xmm8\n",
            "movaps [rsp + 144], xmm9\n",
            "movaps [rsp + 160], xmm10\n",
            "movaps [rsp + 176], xmm11\n",
            "movaps [rsp + 192], xmm12\n",
            "movaps [rsp + 208], xmm13\n",
            "movaps [rsp + 224], xmm14\n",
            "movaps [rsp + 240], xmm15\n",
        )
    };
}

/// And back; rsp stays.
macro_rules! restore_xmm {
    () => {
        concat!(
            "movaps xmm0, [rsp + 0]\n",
            "movaps xmm1, [rsp + 16]\n",
            "movaps xmm2, [rsp + 32]\n",
            "movaps xmm3, [rsp + 48]\n",
            "movaps xmm4, [rsp + 64]\n",
            "movaps xmm5, [rsp + 80]\n",
            "movaps xmm6, [rsp + 96]\n",
            "movaps xmm7, [rsp + 112]\n",
            "movaps xmm8, [rsp + 128]\n",
            "movaps xmm9, [rsp + 144]\n",
            "movaps xmm10, [rsp + 160]\n",
            "movaps xmm11, [rsp + 176]\n",
            "movaps xmm12, [rsp + 192]\n",
            "movaps xmm13, [rsp + 208]\n",
            "movaps xmm14, [rsp + 224]\n",
            "movaps xmm15, [rsp + 240]\n",
        )
    };
}

/// The arithmetic flags from an image of rflags in rcx; rax is clobbered. Not the direction flag: popfq is slow,
/// and where a debugger steps it would set the trap flag that pushfq saw.
macro_rules! restore_flags {
    () => {
        concat!("xor eax, eax\n", "bt ecx, 11\n", "setc al\n", "mov ah, cl\n", "add al, 127\n", "sahf\n",)
    };
}

pub(super) use {
    begin_detour, pop_registers, pop_scratch, push_registers, push_scratch, restore_flags, restore_xmm,
    save_xmm,
};
