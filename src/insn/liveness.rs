//! Whether the flags matter to the code that follows.

use iced_x86::{Decoder, DecoderOptions, FlowControl, RflagsBits};

/// The flags that arithmetic sets.
const STATUS: u32 =
    RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF;

/// Whether the code that begins with `text` certainly sets all status flags before it looks at any: what
/// they are at its beginning is then of no importance. Beyond a branch nothing is certain; but where
/// `at_entry` says that a function begins here, they mean nothing to what it calls nor, when it
/// returns, to its caller (System V ABI, 3.2.1).
#[must_use]
pub fn flags_are_dead(text: &[u8], at: u64, at_entry: bool) -> bool {
    let mut open = STATUS;
    for insn in &mut Decoder::with_ip(64, text, at, DecoderOptions::NONE) {
        if insn.is_invalid() || insn.rflags_read() & open != 0 {
            return false;
        }
        // A shift by zero changes none: iced counts what may be changed.
        let is_certain = !matches!(
            insn.mnemonic(),
            iced_x86::Mnemonic::Shl
                | iced_x86::Mnemonic::Shr
                | iced_x86::Mnemonic::Sar
                | iced_x86::Mnemonic::Rol
                | iced_x86::Mnemonic::Ror
                | iced_x86::Mnemonic::Rcl
                | iced_x86::Mnemonic::Rcr
                | iced_x86::Mnemonic::Shld
                | iced_x86::Mnemonic::Shrd
        ) && !insn.has_rep_prefix()
            && !insn.has_repne_prefix();
        if is_certain {
            // What the manual calls undefined may be what it was.
            open &= !(insn.rflags_written() | insn.rflags_cleared() | insn.rflags_set());
        }
        if open == 0 {
            return true;
        }
        match insn.flow_control() {
            FlowControl::Next => {}
            FlowControl::Return | FlowControl::Call | FlowControl::IndirectCall => return at_entry,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::flags_are_dead;

    #[test]
    fn prologues_and_others() {
        let entries: &[(&[u8], bool)] = &[
            (&[0x8d, 0x04, 0x37, 0xc3], true),  // lea; ret
            (&[0x50, 0xe8, 0, 0, 0, 0], true),  // push; call
            (&[0x0f, 0x92, 0xc0, 0xc3], false), // setb al; ret
            (&[0x50, 0xeb, 0x10], false),       // push; jmp
        ];
        for (text, expected) in entries {
            assert_eq!(flags_are_dead(text, 0x1000, true), *expected, "{text:02x?}");
        }
        let cases: &[(&[u8], bool)] = &[
            (&[0x48, 0x83, 0xec, 0x18], true),                          // sub rsp, 24
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x85, 0xff], false), // endbr64; push rbp; test: AF stays
            (&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10], true),  // push; mov; sub
            (&[0x48, 0x11, 0xf7], false),                               // adc rdi, rsi
            (&[0x8d, 0x04, 0x37, 0xc3], false),                         // lea; ret
            (&[0xff, 0xc7, 0x72, 0x00], false),                         // inc keeps CF; jb reads it
            (&[0xd3, 0xe0, 0x72, 0x00], false),                         // shl eax, cl may change nothing
            (&[0x9c], false),                                           // pushfq
            (&[0x06], false),
        ];
        for (text, expected) in cases {
            assert_eq!(flags_are_dead(text, 0x1000, false), *expected, "{text:02x?}");
        }
    }
}
