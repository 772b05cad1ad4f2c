//! Direct branches of a function that lead into a part of it.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};

use super::decode::decode_len;

/// Where direct branches and calls in `text`, which lies at the runtime address `at`, lead inside
/// `window`; sorted, each once.
///
/// Decodes from the first byte on, and behind bytes that are no instruction from the next. What is
/// between instructions (jump tables) is taken for code: a target too many may be found, and one too
/// few only where an instruction was missed behind such bytes. `text` must hold the program's own bytes: a
/// breakpoint hides the branch it stands on. Runs at registration.
#[must_use]
pub fn branch_targets_into(text: &[u8], at: u64, window: Range<u64>) -> Vec<u64> {
    let mut targets = Vec::new();
    let mut decoder = Decoder::with_ip(64, text, at, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    while decoder.can_decode() {
        let position = decoder.position();
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            // Hints of newer processors are nops.
            let len = text.get(position..).and_then(decode_len).unwrap_or(1);
            if decoder.set_position(position + len).is_err() {
                break;
            }
            decoder.set_ip(at.wrapping_add((position + len) as u64));
            continue;
        }
        if matches!(insn.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch16) {
            let target = insn.near_branch_target();
            if window.contains(&target) {
                targets.push(target);
            }
        }
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use super::branch_targets_into;

    const AT: u64 = 0x5555_5555_4320;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
    }

    #[test]
    fn branches_and_calls_of_all_lengths() {
        let rows: [(&str, &[u64]); 12] = [
            ("55 48 89 e5 5d c3", &[]),
            ("90 90 eb fd", &[1]),
            ("90 90 75 ff 90", &[3]),
            ("55 48 89 e5 e9 f8 ff ff ff", &[1]),
            ("55 48 89 e5 0f 84 f7 ff ff ff", &[1]),
            ("55 48 89 e5 e8 f7 ff ff ff c3", &[0]),
            ("90 90 90 e2 fb", &[0]),
            ("90 90 90 e3 fc", &[1]),
            ("90 90 90 c7 f8 f9 ff ff ff", &[2]),
            // Past the end, and the same twice.
            ("eb 7f eb fe eb fc eb fa", &[2]),
            // A byte that is no instruction, then a branch; a hint that is new.
            ("90 06 90 eb fb", &[0]),
            ("90 0f 1e 00 eb fb", &[1]),
        ];
        for (code, offsets) in rows {
            let expected: Vec<u64> = offsets.iter().map(|offset| AT + offset).collect();
            assert_eq!(branch_targets_into(&hex(code), AT, AT..AT + 5), expected, "{code}");
        }
    }

    #[test]
    fn only_the_window_counts() {
        let code = hex("90 90 90 eb fb eb fa eb f9");
        assert_eq!(branch_targets_into(&code, AT, AT + 1..AT + 5), [AT + 1, AT + 2]);
        assert_eq!(branch_targets_into(&code, AT, AT..AT + 5), [AT, AT + 1, AT + 2]);
        assert!(branch_targets_into(&code, AT, AT..AT).is_empty());
        assert!(branch_targets_into(&[], AT, AT..AT + 5).is_empty());
    }
}
