//! Code that nothing describes: hand-written assembler, generated code, calls of a wild pointer.

use super::{Frame, RBP, RIP, RSP, World};

/// Longest call instruction that ends before a return address (`call [base + index + disp32]` with REX).
const LONGEST_CALL: usize = 8;
/// Largest frame that a chain of rbp is followed over, bytes.
const LARGEST_FRAME: u64 = 1 << 20;

/// The caller by what looks like a return address: on top of the stack where the code is where the thread
/// was (it may be at its entry), else above what rbp points to.
pub(super) fn caller(frame: &Frame, world: &impl World) -> Option<Frame> {
    let mut caller = *frame;
    caller.is_exact = false;
    if frame.is_exact
        && let Some(address) = world.read_u64(frame.rsp()).filter(|&to| is_return_address(to, world))
    {
        caller.regs[RIP] = address;
        caller.regs[RSP] = frame.rsp().wrapping_add(8);
        return Some(caller);
    }
    let rbp = frame.regs[RBP];
    if !rbp.is_multiple_of(8) || rbp.checked_sub(frame.rsp())? > LARGEST_FRAME {
        return None;
    }
    caller.regs[RBP] = world.read_u64(rbp)?;
    caller.regs[RIP] = world.read_u64(rbp.wrapping_add(8)).filter(|&to| is_return_address(to, world))?;
    caller.regs[RSP] = rbp.wrapping_add(16);
    Some(caller)
}

/// Whether a call ends at `address`.
fn is_return_address(address: u64, world: &impl World) -> bool {
    if world.real_return(address).is_some() {
        return true;
    }
    let mut code = [0; LONGEST_CALL];
    let from = address.wrapping_sub(LONGEST_CALL as u64);
    if address < from || world.read(from, &mut code) != code.len() {
        return false;
    }
    is_call(&code)
}

/// Whether the last bytes are a call: direct, or indirect (opcode FF, /2) through a register or memory of any
/// form. A probed one begins with int3.
fn is_call(code: &[u8; LONGEST_CALL]) -> bool {
    let direct = matches!(code[LONGEST_CALL - 5], 0xe8 | 0xcc);
    let indirect = [2, 3, 4, 6, 7].into_iter().any(|len| {
        let (opcode, modrm) = (code[LONGEST_CALL - len], code[LONGEST_CALL - len + 1]);
        matches!(opcode, 0xff | 0xcc) && modrm >> 3 & 7 == 2 && indirect_len(modrm) == len
    });
    direct || indirect
}

/// Length of `FF modrm` with SIB and displacement (Intel SDM volume 2, table 2-2); a SIB byte without a
/// base register, which has a displacement of its own, is nothing calls are made of.
fn indirect_len(modrm: u8) -> usize {
    let sib = usize::from(modrm & 7 == 4);
    match modrm >> 6 {
        0 if modrm & 7 == 5 => 6,
        0 => 2 + sib,
        1 => 3 + sib,
        2 => 6 + sib,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_bytes() {
        let rows: [(&[u8], bool); 14] = [
            (&[0xe8, 1, 2, 3, 4], true),             // call rel32
            (&[0xff, 0xd0], true),                   // call rax
            (&[0x41, 0xff, 0xd4], true),             // call r12
            (&[0xff, 0x15, 1, 2, 3, 4], true),       // call [rip + disp32]
            (&[0xff, 0x50, 0x18], true),             // call [rax + 0x18]
            (&[0x41, 0xff, 0x54, 0x24, 0x10], true), // call [r12 + 0x10]
            (&[0xff, 0x14, 0xc3], true),             // call [rbx + 8*rax]
            (&[0xff, 0x94, 0xc3, 1, 2, 3, 4], true), // call [rbx + 8*rax + disp32]
            (&[0xff, 0x93, 1, 2, 3, 4], true),       // call [rbx + disp32]
            (&[0xcc, 1, 2, 3, 4], true),             // a probed call rel32
            (&[0xff, 0xe0], false),                  // jmp rax
            (&[0xff, 0x25, 1, 2, 3, 4], false),      // jmp [rip + disp32]
            (&[0xff, 0x30], false),                  // push [rax]
            (&[0xe9, 1, 2, 3, 4], false),            // jmp rel32
        ];
        for (bytes, expected) in rows {
            let mut code = [0x90; LONGEST_CALL];
            code[LONGEST_CALL - bytes.len()..].copy_from_slice(bytes);
            assert_eq!(is_call(&code), expected, "{bytes:x?}");
        }
    }
}
