//! memcpy and its kin, hidden inside the library.
//!
//! The compiler calls these by name wherever it likes. Resolved to libc's they would be places the
//! user may have probed, reached from inside a hit, and libc's versions use AVX registers. Hidden
//! definitions of our own satisfy every reference from our code and std's, and nobody else's.

use std::arch::global_asm;

global_asm!(
    ".text",
    ".p2align 4",
    ".globl memcpy",
    ".hidden memcpy",
    ".type memcpy,@function",
    "memcpy:",
    "mov rax, rdi",
    "cmp rdx, 16",
    "jb 3f",
    "cmp rdx, 512",
    "ja 2f",
    // 16..=512: whole 16-byte pieces, then the last 16 bytes, overlapping.
    "movups xmm1, [rsi + rdx - 16]",
    "lea r8, [rdi + rdx - 16]",
    "1:",
    "movups xmm0, [rsi]",
    "movups [rdi], xmm0",
    "add rsi, 16",
    "add rdi, 16",
    "cmp rdi, r8",
    "jb 1b",
    "movups [r8], xmm1",
    "ret",
    "2:",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "3:",
    "cmp rdx, 8",
    "jb 4f",
    "mov rcx, [rsi]",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], r8",
    "ret",
    "4:",
    "test rdx, rdx",
    "jz 6f",
    // Forwards, as memmove relies on it.
    "xor r8d, r8d",
    "5:",
    "movzx ecx, byte ptr [rsi + r8]",
    "mov [rdi + r8], cl",
    "inc r8",
    "cmp r8, rdx",
    "jb 5b",
    "6:",
    "ret",
    ".size memcpy, . - memcpy",
    ".p2align 4",
    ".globl memmove",
    ".hidden memmove",
    ".type memmove,@function",
    "memmove:",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jae memcpy",
    // Overlap with the destination above: backwards.
    "mov rax, rdi",
    "7:",
    "test rdx, rdx",
    "jz 8f",
    "movzx ecx, byte ptr [rsi + rdx - 1]",
    "mov [rdi + rdx - 1], cl",
    "dec rdx",
    "jmp 7b",
    "8:",
    "ret",
    ".size memmove, . - memmove",
    ".p2align 4",
    ".globl memset",
    ".hidden memset",
    ".type memset,@function",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".size memset, . - memset",
);

// Under libFuzzer, whose own watch the comparisons.
#[cfg(not(fuzzing))]
global_asm!(
    ".text",
    ".p2align 4",
    ".globl memcmp",
    ".hidden memcmp",
    ".type memcmp,@function",
    ".globl bcmp",
    ".hidden bcmp",
    ".type bcmp,@function",
    "memcmp:",
    "bcmp:",
    "xor ecx, ecx",
    "9:",
    "cmp rcx, rdx",
    "je 10f",
    "movzx eax, byte ptr [rdi + rcx]",
    "movzx r8d, byte ptr [rsi + rcx]",
    "inc rcx",
    "sub eax, r8d",
    "je 9b",
    "ret",
    "10:",
    "xor eax, eax",
    "ret",
    ".size memcmp, . - memcmp",
);

global_asm!(
    ".text",
    ".p2align 4",
    ".globl strlen",
    ".hidden strlen",
    ".type strlen,@function",
    "strlen:",
    "xor eax, eax",
    "11:",
    "cmp byte ptr [rdi + rax], 0",
    "je 12f",
    "inc rax",
    "jmp 11b",
    "12:",
    "ret",
    ".size strlen, . - strlen",
);

#[cfg(test)]
mod tests {
    #[test]
    fn copies_of_every_length_and_overlap() {
        let source: Vec<u8> = (0..2000_u32).map(|i| (i * 7 + 3) as u8).collect();
        for len in (0..600).chain([1000, 1999]) {
            let mut copy = vec![0_u8; len];
            copy.copy_from_slice(&source[..len]);
            assert!(copy.iter().zip(&source).all(|(a, b)| a == b), "{len}");
            for shift in [0_usize, 1, 7, 16, 100] {
                if len + shift > source.len() {
                    continue;
                }
                let mut up = source.clone();
                up.copy_within(..len, shift);
                assert_eq!(up[shift..shift + len], source[..len]);
                let mut down = source.clone();
                down.copy_within(shift..shift + len, 0);
                assert_eq!(down[..len], source[shift..shift + len]);
            }
            assert_eq!(vec![5_u8; len], (0..len).map(|_| 5).collect::<Vec<u8>>());
        }
    }
}
