//! What a seccomp filter says of a system call: the classic BPF machine over `struct seccomp_data`
//! (seccomp(2), linux/filter.h, linux/seccomp.h). Pure; a program that can't be followed is an error.

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// `BPF_MAXINSNS`.
pub const MOST_INSNS: usize = 4096;

/// `struct seccomp_data`: the number, the architecture, where the instruction is, six arguments.
pub struct Call {
    words: [u32; 16],
}

/// `AUDIT_ARCH_X86_64` (linux/audit.h).
const ARCH: u32 = 0xC000_003E;

impl Call {
    /// A call of number `number` made by 64-bit code at `at`.
    #[must_use]
    pub fn new(number: i64, at: u64, args: &[usize; 6]) -> Self {
        let mut words = [0; 16];
        (words[0], words[1]) = (number as u32, ARCH);
        let long = std::iter::once(at).chain(args.iter().map(|arg| *arg as u64));
        for (pair, value) in words[2..].chunks_exact_mut(2).zip(long) {
            (pair[0], pair[1]) = (value as u32, (value >> 32) as u32);
        }
        Self { words }
    }
}

/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;

/// Runs the filter; what it returns: an action in the upper half, its data in the lower. `None`: it is no
/// filter the kernel would have taken.
#[must_use]
pub fn run(program: &[Insn], call: &Call) -> Option<u32> {
    let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
    let mut at = 0_usize;
    loop {
        let insn = program.get(at)?;
        at += 1;
        let k = insn.k;
        match insn.code {
            // Loads: ld [k], ld len, ldx len, ld #k, ldx #k, ld M[k], ldx M[k].
            0x20 if k.is_multiple_of(4) => a = *call.words.get(k as usize / 4)?,
            0x80 => a = DATA_SIZE,
            0x81 => x = DATA_SIZE,
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = *memory.get(k as usize)?,
            0x61 => x = *memory.get(k as usize)?,
            // Stores, and between the registers.
            0x02 => *memory.get_mut(k as usize)? = a,
            0x03 => *memory.get_mut(k as usize)? = x,
            0x07 => x = a,
            0x87 => a = x,
            // ret #k, ret a.
            0x06 => return Some(k),
            0x16 => return Some(a),
            // ja.
            0x05 => at = at.checked_add(k as usize)?,
            // Arithmetic: 4, the operation, 8 for X.
            0x84 => a = a.wrapping_neg(),
            code if code & 7 == 4 => a = compute(code & 0xF0, a, if code & 8 == 0 { k } else { x })?,
            // Jumps: 5, the comparison, 8 for X.
            code if code & 7 == 5 => {
                let with = if code & 8 == 0 { k } else { x };
                let is_true = match code & 0xF0 {
                    0x10 => a == with,
                    0x20 => a > with,
                    0x30 => a >= with,
                    0x40 => a & with != 0,
                    _ => return None,
                };
                at += usize::from(if is_true { insn.jump_true } else { insn.jump_false });
            }
            _ => return None,
        }
    }
}

fn compute(operation: u16, a: u32, with: u32) -> Option<u32> {
    Some(match operation {
        0x00 => a.wrapping_add(with),
        0x10 => a.wrapping_sub(with),
        0x20 => a.wrapping_mul(with),
        // The kernel takes no program that divides by the constant 0, and by X = 0 returns 0 at once.
        0x30 => a.checked_div(with)?,
        0x40 => a | with,
        0x50 => a & with,
        0x60 => a.wrapping_shl(with),
        0x70 => a.wrapping_shr(with),
        0xA0 => a ^ with,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = 0x7FFF_0000;
    const KILL: u32 = 0x8000_0000;

    const fn insn(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Insn {
        Insn { code, jump_true, jump_false, k }
    }

    fn says(program: &[Insn], number: i64, args: [usize; 6]) -> Option<u32> {
        run(program, &Call::new(number, 0x1234_5678_9ABC, &args))
    }

    #[test]
    fn a_list_of_numbers() {
        let program = [
            insn(0x20, 0, 0, 4),
            insn(0x15, 1, 0, ARCH),
            insn(0x06, 0, 0, KILL),
            insn(0x20, 0, 0, 0),
            insn(0x15, 2, 0, 1),
            insn(0x15, 1, 0, 231),
            insn(0x06, 0, 0, KILL),
            insn(0x06, 0, 0, ALLOW),
        ];
        for (number, action) in [(0, KILL), (1, ALLOW), (2, KILL), (231, ALLOW), (232, KILL)] {
            assert_eq!(says(&program, number, [0; 6]), Some(action), "{number}");
        }
    }

    #[test]
    fn arguments_and_the_place_are_two_halves_each() {
        for (at, expected) in [(8, 0x5678_9ABC), (12, 0x1234), (16, 7), (20, 9), (56, 5), (60, 0)] {
            let program = [insn(0x20, 0, 0, at), insn(0x16, 0, 0, 0)];
            assert_eq!(says(&program, 3, [9 << 32 | 7, 0, 0, 0, 0, 5]), Some(expected), "{at}");
        }
    }

    #[test]
    fn arithmetic_memory_and_jumps() {
        let program = [
            insn(0x00, 0, 0, 12),
            insn(0x02, 0, 0, 3),
            insn(0x61, 0, 0, 3),
            insn(0x24, 0, 0, 10),
            insn(0x1C, 0, 0, 0),
            insn(0x74, 0, 0, 2),
            insn(0x05, 0, 0, 1),
            insn(0x06, 0, 0, KILL),
            insn(0x25, 0, 1, 26),
            insn(0x16, 0, 0, 0),
            insn(0x06, 0, 0, 1),
        ];
        assert_eq!(says(&program, 0, [0; 6]), Some(27));
    }

    #[test]
    fn what_the_kernel_would_not_take_is_nothing() {
        let ret = insn(0x06, 0, 0, ALLOW);
        for program in [
            &[][..],
            &[insn(0x20, 0, 0, 64), ret],
            &[insn(0x20, 0, 0, 2), ret],
            &[insn(0x28, 0, 0, 0), ret],
            &[insn(0x34, 0, 0, 0), ret],
            &[insn(0x02, 0, 0, 16), ret],
            &[insn(0x05, 0, 0, u32::MAX), ret],
            &[insn(0x15, 9, 9, 0), ret],
        ] {
            assert_eq!(says(program, 0, [0; 6]), None, "{program:?}");
        }
    }
}
