//! Bytes, their disassembly, and how they run when displaced: `insn_table.txt`, checked against
//! `classify` and `build`. `UPDATE=1` writes it anew; read the difference before you commit it.
//!
//! The instruction lies at 0x400000, its slot at 0x10500000. A slot row whose bytes change with
//! the address shows the copy; it must refer to the same address as the original.

use std::fmt::Write as _;

use iced_x86::{Decoder, DecoderOptions};
use uprobe::error::Refusal;
use uprobe::insn::slot::{Boost, Step, boost_map, step_map};
use uprobe::insn::{
    Boundaries, InsnRefusal, Obstacle, SlotBytes, SlotKind, SlotPc, Way, boundaries, classify, decode_len,
    disassemble,
};

const TABLE: &str = include_str!("insn_table.txt");
const TABLE_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/insn_table.txt");
const AT: u64 = 0x40_0000;
const SLOT_AT: u64 = 0x1050_0000;

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}

/// The address the instruction refers to relative to its own.
fn referred(bytes: &[u8], at: u64) -> u64 {
    let insn = Decoder::with_ip(64, bytes, at, DecoderOptions::MPX).decode();
    assert_eq!(insn.len(), bytes.len());
    if insn.is_ip_rel_memory_operand() { insn.ip_rel_memory_address() } else { insn.near_branch_target() }
}

/// The third column.
fn verdict(bytes: &[u8]) -> String {
    let insn = match classify(bytes, AT) {
        Ok(insn) => insn,
        Err(refusal) => return format!("refused {}", Refusal::from(refusal)),
    };
    assert_eq!(insn.original(), bytes, "{}", insn.text());
    let mut slot = SlotBytes::new();
    let built = Boost::build(&insn, SLOT_AT, &mut slot);
    let way = match insn.way {
        Way::Emulate(emulation) => {
            let name = format!("{emulation:?}");
            return format!("emulate {}", name.split([' ', '{']).next().unwrap());
        }
        Way::Slot(SlotKind::Plain) => "slot",
        Way::Slot(SlotKind::Syscall) => "slot, syscall",
        Way::Slot(SlotKind::Blocking) => "slot, blocking",
    };
    built.unwrap_or_else(|e| panic!("{}: {e}", insn.text()));
    let copy = &slot.code()[..bytes.len()];
    if copy == bytes {
        way.to_owned()
    } else {
        assert_eq!(referred(bytes, AT), referred(copy, SLOT_AT), "{}", insn.text());
        format!("{way}, at {SLOT_AT:#x} {}", to_hex(copy))
    }
}

#[test]
fn every_row_is_as_expected() {
    let mut expected = String::new();
    for line in TABLE.lines() {
        if line.starts_with('#') {
            let _ = writeln!(expected, "{line}");
            continue;
        }
        let bytes = hex(line.split('|').next().unwrap());
        let _ = writeln!(expected, "{} | {} | {}", to_hex(&bytes), disassemble(&bytes, AT), verdict(&bytes));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(TABLE_PATH, &expected).unwrap();
        return;
    }
    for (expected, found) in expected.lines().zip(TABLE.lines()) {
        assert_eq!(expected, found, "insn_table.txt");
    }
}

#[test]
fn heads_of_the_table_say_what_happens() {
    let mut head = "";
    for line in TABLE.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            head = text.split(':').next().unwrap();
            continue;
        }
        let verdict = line.split('|').nth(2).unwrap().trim();
        let kept = match head {
            "emulated" => verdict.starts_with("emulate "),
            "slot" => verdict.starts_with("slot"),
            "refused" => verdict.starts_with("refused "),
            other => panic!("head '{other}'"),
        };
        assert!(kept, "under '{head}': {line}");
    }
}

/// Byte-exact slots: name, bytes, slot, boost, step.
#[test]
fn slots_are_built_to_the_byte() {
    let rows: &[(&str, u64, &str, &str)] = &[
        ("48 89 07", 0x41_0000, "48 89 07 e9 fb ff fe ff", "48 89 07 cc"),
        ("48 8b 05 00 10 00 00", 0x3f_0000, "48 8b 05 00 10 01 00 e9 fb ff 00 00", "48 8b 05 00 10 01 00 cc"),
        // syscall: rcx gets the original's next address.
        ("0f 05", 0x41_0000, "0f 05 48 b9 02 00 40 00 00 00 00 00 e9 f1 ff fe ff", "0f 05 cc"),
        // Beyond 2 GiB the way back is an absolute jump.
        (
            "0f 05",
            0x7f00_0000_0000,
            "0f 05 48 b9 02 00 40 00 00 00 00 00 ff 25 00 00 00 00 02 00 40 00 00 00 00 00",
            "0f 05 cc",
        ),
        ("f3 a4", 0x7f00_0000_0000, "f3 a4 ff 25 00 00 00 00 02 00 40 00 00 00 00 00", "f3 a4 cc"),
        // A 32-bit address is the same from anywhere.
        (
            "67 8b 05 00 00 00 00",
            0x7f00_0000_0000,
            "67 8b 05 00 00 40 00 ff 25 00 00 00 00 07 00 40 00 00 00 00 00",
            "67 8b 05 00 00 40 00 cc",
        ),
        // The abort target of a transaction.
        ("c7 f8 00 01 00 00", 0x41_0000, "c7 f8 00 01 ff ff e9 fb ff fe ff", "c7 f8 00 01 ff ff cc"),
    ];
    for &(bytes, slot_at, boost, step) in rows {
        let insn = classify(&hex(bytes), AT).unwrap();
        let mut slot = SlotBytes::new();
        Boost::build(&insn, slot_at, &mut slot).unwrap();
        assert_eq!(to_hex(slot.code()), boost, "{bytes} boosted at {slot_at:#x}");
        assert!(slot.padded()[slot.code().len()..].iter().all(|byte| *byte == 0xcc));
        Step::build(&insn, slot_at, &mut slot).unwrap();
        assert_eq!(to_hex(slot.code()), step, "{bytes} stepped at {slot_at:#x}");
        assert!(slot.code().len() <= Step::SIZE);
    }
}

#[test]
fn reach_ends_at_two_gib() {
    let operand = |at, slot_at| {
        let insn = classify(&hex("48 8b 05 00 00 00 00"), at).unwrap();
        Step::build(&insn, slot_at, &mut SlotBytes::new())
    };
    let base = 0x7f00_0000_0000;
    assert_eq!(operand(base, base + 0x8000_0000), Ok(()));
    assert_eq!(operand(base, base - 0x7fff_ffff), Ok(()));
    let out_of_reach = |slot| Err(InsnRefusal::OutOfReach { target: base + 7, slot });
    assert_eq!(operand(base, base + 0x8000_0001), out_of_reach(base + 0x8000_0001));
    assert_eq!(operand(base, base - 0x8000_0000), out_of_reach(base - 0x8000_0000));
    assert_eq!(operand(base, 0x1000), out_of_reach(0x1000));
    let error = operand(base, 0x1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no-slot-in-reach: 0x7f0000000007 is more than 2 GiB from the slot at 0x1000"
    );
    assert_eq!(Refusal::from(error), Refusal::NoSlotInReach);
}

#[test]
fn branches_and_calls_have_no_slot() {
    for bytes in ["eb 00", "74 00", "e2 00", "e3 00", "e8 00 00 00 00", "ff d0", "ff 15 00 00 00 00", "ff 10"]
    {
        let insn = classify(&hex(bytes), AT).unwrap();
        assert!(!insn.can_run_in_slot(), "{bytes}");
        let mut slot = SlotBytes::new();
        let emulated_only = Err(InsnRefusal::EmulatedOnly { insn: insn.text() });
        assert_eq!(Boost::build(&insn, SLOT_AT, &mut slot), emulated_only);
        assert_eq!(Step::build(&insn, SLOT_AT, &mut slot), emulated_only);
    }
    // These may, where emulating them met a fault.
    for bytes in ["c3", "50", "58", "c9", "ff e0", "ff 25 00 00 00 00", "ff 20", "90", "48 8d 05 00 00 00 00"]
    {
        let insn = classify(&hex(bytes), AT).unwrap();
        assert!(insn.can_run_in_slot(), "{bytes}");
        Boost::build(&insn, SLOT_AT, &mut SlotBytes::new()).unwrap();
    }
}

#[test]
fn a_rip_in_a_slot_has_a_meaning() {
    const BEFORE: Option<SlotPc> = Some(SlotPc::Before);
    const AFTER: Option<SlotPc> = Some(SlotPc::After { fix_rcx: false });
    const FIX_RCX: Option<SlotPc> = Some(SlotPc::After { fix_rcx: true });
    // What each offset means in the boost and the step slot; all others mean nothing.
    type Meaning = [(u64, Option<SlotPc>)];
    let rows: [(&str, &Meaning, &Meaning); 5] = [
        ("48 89 07", &[(0, BEFORE), (3, AFTER)], &[(0, BEFORE), (3, AFTER), (4, AFTER)]),
        ("f3 a4", &[(0, BEFORE), (2, AFTER)], &[(0, BEFORE), (2, AFTER), (3, AFTER)]),
        ("0f 05", &[(0, BEFORE), (2, FIX_RCX), (12, AFTER)], &[(0, BEFORE), (2, FIX_RCX), (3, FIX_RCX)]),
        // A restarted system call goes back by two bytes, whatever its length.
        (
            "48 0f 05",
            &[(0, BEFORE), (1, BEFORE), (3, FIX_RCX), (13, AFTER)],
            &[(0, BEFORE), (1, BEFORE), (3, FIX_RCX), (4, FIX_RCX)],
        ),
        ("cd 80", &[(0, BEFORE), (2, AFTER)], &[(0, BEFORE), (2, AFTER), (3, AFTER)]),
    ];
    for (bytes, boost, step) in rows {
        let insn = classify(&hex(bytes), AT).unwrap();
        for offset in 0..40 {
            let expected = |row: &Meaning| row.iter().find(|(at, _)| *at == offset).and_then(|(_, pc)| *pc);
            assert_eq!(
                boost_map(&insn, SLOT_AT, SLOT_AT + offset),
                expected(boost),
                "{bytes} boost +{offset}"
            );
            assert_eq!(step_map(&insn, SLOT_AT, SLOT_AT + offset), expected(step), "{bytes} step +{offset}");
        }
        assert_eq!(boost_map(&insn, SLOT_AT, SLOT_AT - 1), None);
    }
}

#[test]
fn refusals_are_named() {
    let obstacle = |bytes: &str| match classify(&hex(bytes), AT) {
        Err(InsnRefusal::Obstructed { obstacle, .. }) => obstacle,
        other => panic!("{bytes}: {other:?}"),
    };
    let rows = [
        ("cb", Obstacle::FarTransfer),
        ("48 cf", Obstacle::InterruptReturn),
        ("0f 07", Obstacle::SystemTransfer),
        ("cd 03", Obstacle::TrapOfTheProgram),
        ("8e d0", Obstacle::StackSegment),
        ("66 e9 00 00 00 00", Obstacle::BranchOperandSize),
        ("f2 e1 00", Obstacle::RepeatedLoop),
        ("64 ff 20", Obstacle::SegmentedBranch),
        ("f3 0f 01 ec", Obstacle::UserInterrupts),
        ("0f 01 d7", Obstacle::Enclave),
        ("f2 0f 38 f8 00", Obstacle::Enqueue),
        ("66 c7 f8 34 12", Obstacle::ShortTransaction),
    ];
    for (bytes, expected) in rows {
        assert_eq!(obstacle(bytes), expected, "{bytes}");
    }
    assert_eq!(classify(&[0xcc], AT), Err(InsnRefusal::Breakpoint));
    assert_eq!(classify(&[0x06], AT), Err(InsnRefusal::Undecodable { bytes: vec![6] }));
}

#[test]
fn boundaries_follow_the_code() {
    let code = hex("f3 0f 1e fa 55 48 89 e5 06 90");
    let mut walk: Boundaries<'_> = boundaries(&code, AT);
    let found: Vec<_> = walk.by_ref().collect();
    assert_eq!(found, [(AT, 4), (AT + 4, 1), (AT + 5, 3)]);
    assert_eq!(walk.stopped_at(), Some(AT + 8));
    assert_eq!(walk.next(), None);

    let mut whole = boundaries(&code[..8], AT);
    assert_eq!(whole.by_ref().count(), 3);
    assert_eq!(whole.stopped_at(), None);
    let mut cut = boundaries(&code[..7], AT);
    assert_eq!(cut.by_ref().count(), 2);
    assert_eq!(cut.stopped_at(), Some(AT + 5));
    assert_eq!(decode_len(&code), Some(4));
    assert_eq!(decode_len(&[]), None);
}
