//! Any bytes as the text at a place: a jump that is planned there displaces whole instructions, and
//! leaves a byte that traps, or the instruction itself, wherever a thread may stand.
//!
//! ```text
//! bytes 0–7   the address      8  code_len    9  room    10  how many targets, 11..: their offsets
//! then 8 bytes: where a target is sought; then the text
//! ```

use iced_x86::{Decoder, DecoderOptions};
use uprobe::insn::{
    Code, InnerBoundary, JUMP_LEN, Planner, Surroundings, TargetRange, Window, WindowText,
    branch_targets_into, relocate,
};

use super::bytes::Bytes;

/// Opcodes that raise SIGILL (one: SIGTRAP) whatever follows, each run on a processor once.
const TRAPS: [u8; 19] = [
    0xcc, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x9a, 0xce, 0xd4,
    0xd6, 0xea,
];
/// Those that do so only where the bytes after them can be fetched.
const FETCHED: [u8; 3] = [0x9a, 0xd4, 0xea];
/// Candidates looked at of one window.
const CANDIDATES: usize = 64;

/// Plans, and takes the plan at its word.
pub fn check(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let at = bytes.word() >> 17;
    let (code_len, room) = (bytes.below(72), bytes.below(72));
    let targets: Vec<u64> = {
        let count = bytes.below(4);
        let mut targets: Vec<u64> = (0..count).map(|_| at.wrapping_add(bytes.below(32) as u64)).collect();
        targets.sort_unstable();
        targets
    };
    let sought = bytes.word() >> 17;
    let text = &bytes.0[..bytes.0.len().min(64)];
    let code_len = code_len.min(text.len());
    let room = room.max(code_len);
    let plan = Window::plan(&WindowText { bytes: text, at, code_len, room, targets: &targets });
    match plan {
        Ok(window) => {
            is_whole(&window, text, code_len, &targets);
            for range in window.candidates().take(CANDIDATES) {
                leads_right(&window, &range, text, sought);
            }
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
    planner(text, at, code_len, room);
}

/// What the planner says of a function is what a window over its own branches says.
fn planner(text: &[u8], at: u64, code_len: usize, room: usize) {
    let around = Surroundings { function: at, text, code_len, room };
    let planned = Planner::default().plan(text, at, Some(&around));
    let targets = branch_targets_into(text, at, at..at.saturating_add(text.len() as u64));
    let direct = Window::plan(&WindowText { bytes: text, at, code_len, room, targets: &targets });
    assert_eq!(planned, direct);
    if let Ok(window) = planned {
        is_whole(&window, text, code_len, &targets);
    }
}

/// The displaced bytes are whole instructions by another reading, and the boundaries those between them.
fn is_whole(window: &Window, text: &[u8], code_len: usize, targets: &[u64]) {
    let len = window.displaced_len();
    let mut decoder = Decoder::with_ip(64, text, window.at(), DecoderOptions::NONE);
    let mut starts = Vec::new();
    let mut at = 0;
    while at < len {
        starts.push(at);
        let insn = decoder.decode();
        // Nops of newer processors, which this decoder names invalid without its options.
        let step = if insn.is_invalid() {
            uprobe::insn::decode_len(&text[at..]).expect("decodes")
        } else {
            insn.len()
        };
        at += step;
        decoder.set_position(at).expect("inside");
        decoder.set_ip(window.at().wrapping_add(at as u64));
    }
    assert_eq!(at, len, "the last instruction is cut");
    assert_eq!(starts.len(), window.insn_count());
    if len < JUMP_LEN {
        assert!(len >= code_len && text[len..JUMP_LEN].iter().all(|byte| *byte == 0xcc), "{text:x?}");
    }
    let expected: Vec<u8> = starts
        .iter()
        .filter(|start| (1..JUMP_LEN.min(code_len)).contains(*start))
        .map(|start| *start as u8)
        .collect();
    let inner: Vec<u8> = window.inner().map(|boundary| boundary.offset).collect();
    assert_eq!(inner, expected);
    for target in targets {
        let offset = target.wrapping_sub(window.at());
        if (1..JUMP_LEN as u64).contains(&offset) && offset < len as u64 {
            let boundary = window.inner().find(|boundary| u64::from(boundary.offset) == offset);
            assert!(boundary.is_some_and(|boundary| boundary.must_keep), "{target:#x}");
        }
    }
    assert_eq!(window.original()[..], text[..JUMP_LEN]);
}

/// Jumps to the lowest target at all, the lowest from `sought` on, and the highest that is tried.
fn leads_right(window: &Window, range: &TargetRange, text: &[u8], sought: u64) {
    let (low, high) = window.reach();
    let lowest = range.first_from(low).expect("a candidate has a target in reach");
    assert!(lowest <= high);
    for from in [low, sought.clamp(low, high), window.at().wrapping_add(0x1000)] {
        let Some(target) = range.first_from(from) else { continue };
        assert!(target >= from && is_target(window, range, target), "{target:#x} from {from:#x}");
        assert!(range.contains(target));
        // Nothing that would do was passed over.
        for nearer in [from, target - (target - from) / 2, target.saturating_sub(1)] {
            if (from..target).contains(&nearer) {
                assert!(!is_target(window, range, nearer), "{nearer:#x} before {target:#x}");
                assert_eq!(range.jump_to(nearer), None);
            }
        }
        let jump = range.jump_to(target).expect("contained");
        is_safe(window, range, &jump, text);
        if (low..=high).contains(&target) {
            runs_there(window, target, text);
        }
    }
}

/// Whether the displacement has the fixed bits.
fn is_target(window: &Window, range: &TargetRange, target: u64) -> bool {
    let displacement = target.wrapping_sub(window.at().wrapping_add(JUMP_LEN as u64)) as i64;
    i32::try_from(displacement)
        .is_ok_and(|displacement| displacement as u32 & !range.free() == range.fixed() & !range.free())
}

fn is_safe(window: &Window, range: &TargetRange, jump: &[u8; JUMP_LEN], text: &[u8]) {
    assert_eq!(jump[0], 0xe9);
    let mut after = text.to_vec();
    after[..JUMP_LEN].copy_from_slice(jump);
    let mut traps = 0;
    for boundary in window.inner() {
        let InnerBoundary { offset, len, must_keep, .. } = boundary;
        let (offset, end) = (usize::from(offset), usize::from(offset + len));
        let is_kept = after.get(offset..end) == text.get(offset..end);
        let byte = after[offset];
        let is_trap = TRAPS.contains(&byte);
        assert!(is_kept || (is_trap && !must_keep), "{byte:#x} at +{offset} of {text:x?}");
        if range.traps() >> offset & 1 == 1 {
            assert!(is_trap);
            let in_page = window.at().wrapping_add(offset as u64) % 4096 <= 4096 - 15;
            assert!(in_page || !FETCHED.contains(&byte));
            traps |= 1 << offset;
        } else {
            assert!(is_kept, "+{offset} of {text:x?} is neither kept nor known to trap");
        }
    }
    assert_eq!(traps, range.traps());
}

/// The displaced instructions have a form at the target.
fn runs_there(window: &Window, target: u64, text: &[u8]) {
    let mut code = Code::new(target);
    let relocated = relocate(text, window.at(), window.insn_count(), &mut code).expect("in reach");
    assert_eq!(relocated.displaced_len(), window.displaced_len());
    assert_eq!(relocated.next(), window.at().wrapping_add(window.displaced_len() as u64));
    assert_eq!(relocated.len(), code.len());
    for boundary in window.inner() {
        let copy = relocated.new_address(usize::from(boundary.offset)).expect("a copy of each");
        assert!((target..target.wrapping_add(code.len() as u64)).contains(&copy));
    }
}
