//! Bytes by the million: whatever they are, classifying and building never panic, lengths agree
//! with the decoder's and with objdump's, and of real code next to nothing is refused.

#[path = "insn_native/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::process::Command;

use iced_x86::{Decoder, DecoderOptions};
use random::Random;
use uprobe::insn::slot::{Boost, Step};
use uprobe::insn::{
    Code, DisplacedInsn, InsnRefusal, JUMP_LEN, MAX_INSN_LEN, RelocatedPc, SlotBytes, WINDOW_TEXT, Window,
    WindowText, boundaries, classify, relocate,
};

const AT: u64 = 0x7f12_3456_7000;
const SLOT_AT: u64 = AT - 0x1234_5678;

/// Everything we do at registration, on any bytes; whether they could be displaced.
fn exercise(bytes: &[u8]) -> bool {
    let real = Decoder::with_ip(64, bytes, AT, DecoderOptions::NONE).decode();
    let insn = match classify(bytes, AT) {
        Ok(insn) => insn,
        Err(InsnRefusal::Undecodable { bytes }) => {
            assert!(real.is_invalid(), "{bytes:02x?}");
            return false;
        }
        Err(_) => return false,
    };
    let len = usize::from(insn.len);
    assert!((1..=MAX_INSN_LEN).contains(&len) && insn.original() == &bytes[..len]);
    assert!(real.is_invalid() || real.len() == len, "{bytes:02x?}: {len}, decoder {}", real.len());
    let mut slot = SlotBytes::new();
    for built in [Boost::build(&insn, SLOT_AT, &mut slot), Step::build(&insn, SLOT_AT, &mut slot)] {
        match built {
            Ok(()) => assert!(insn.can_run_in_slot()),
            Err(InsnRefusal::EmulatedOnly { .. }) => assert!(!insn.can_run_in_slot()),
            // A displacement near the ends of its range, and prefixed syscalls far away.
            Err(InsnRefusal::OutOfReach { .. }) => {}
            Err(other) => panic!("{bytes:02x?}: {other}"),
        }
    }
    // One in four, for time: by a byte that no test chooses.
    if bytes.last().is_some_and(|last| last % 4 == 0) {
        relocated(bytes, &insn);
    }
    true
}

/// The same bytes as a run of one, near and far.
fn relocated(bytes: &[u8], insn: &DisplacedInsn) {
    for at in [SLOT_AT, SLOT_AT - (1 << 40)] {
        let mut code = Code::new(at);
        match relocate(bytes, AT, 1, &mut code) {
            Ok(relocated) => {
                assert_eq!(relocated.displaced_len(), usize::from(insn.len));
                assert!(code.len() == relocated.len() && relocated.next() == insn.next());
                assert_eq!(relocated.map(at), Some(RelocatedPc::At(AT)));
            }
            Err(InsnRefusal::OutOfReach { .. }) => assert!(code.is_empty()),
            // Displacements that don't fit, branches into themselves, calls through rsp.
            Err(InsnRefusal::Obstructed { .. }) => assert!(!insn.can_run_in_slot() || code.is_empty()),
            Err(other) => panic!("{bytes:02x?}: {other}"),
        }
    }
}

/// Windows over any bytes: what is planned covers a jump, and every candidate has a target.
#[test]
fn windows_over_random_bytes() {
    let mut random = Random::new(5);
    let (mut bytes, mut planned) = ([0; WINDOW_TEXT], 0);
    for _ in 0..300_000 {
        bytes.fill_with(|| random.byte());
        let (code_len, room) = (random.below(12) as usize + 1, random.below(24) as usize);
        let text = WindowText { bytes: &bytes, at: AT, code_len, room, targets: &[] };
        let Ok(window) = Window::plan(&text) else { continue };
        planned += 1;
        assert!(
            window.displaced_len() >= JUMP_LEN
                || bytes[window.displaced_len()..JUMP_LEN].iter().all(|b| *b == 0xcc)
        );
        let lens: Vec<usize> = boundaries(&bytes, AT).map(|(_, len)| len).take(window.insn_count()).collect();
        assert_eq!(lens.iter().sum::<usize>(), window.displaced_len());
        let (low, _) = window.reach();
        for range in window.candidates().take(50) {
            let target = range.first_from(low).unwrap();
            let jump = range.jump_to(target).unwrap();
            for inner in window.inner().filter(|inner| range.traps() >> inner.offset & 1 == 0) {
                let kept = usize::from(inner.offset)..JUMP_LEN.min(usize::from(inner.offset + inner.len));
                assert_eq!(jump[kept.clone()], bytes[kept]);
            }
        }
    }
    assert!(planned > 20_000, "{planned}");
}

#[test]
fn random_bytes() {
    let mut random = Random::new(1);
    let mut bytes = [0; MAX_INSN_LEN];
    let mut displaced = 0;
    for _ in 0..2_000_000 {
        bytes.fill_with(|| random.byte());
        displaced += u32::from(exercise(&bytes));
    }
    assert!(displaced > 1_000_000, "{displaced}");
}

#[test]
fn random_bytes_behind_vector_prefixes() {
    let mut random = Random::new(2);
    let mut bytes = [0; MAX_INSN_LEN];
    let mut displaced = 0;
    for _ in 0..300_000 {
        bytes.fill_with(|| random.byte());
        bytes[0] = random.pick(&[0xc4, 0xc5, 0x62, 0x8f, 0x0f]);
        // Maps and opcodes that exist, memory operands relative to rip.
        bytes[1] = bytes[1] & 0xf0 | random.pick(&[1, 2, 3, 8, 9]);
        bytes[5] = bytes[5] & 0x38 | 5;
        displaced += u32::from(exercise(&bytes));
    }
    assert!(displaced > 50_000, "{displaced}");
}

#[test]
fn every_opcode_of_one_and_two_bytes() {
    let mut random = Random::new(3);
    let prefixes: [&[u8]; 12] = [
        &[],
        &[0x0f],
        &[0x0f, 0x38],
        &[0x0f, 0x3a],
        &[0x66, 0x0f],
        &[0xf2, 0x0f],
        &[0xf3, 0x0f],
        &[0x48],
        &[0x66],
        &[0x67],
        &[0xf0],
        &[0x64],
    ];
    for prefix in prefixes {
        for opcode in 0..=u16::MAX {
            let mut bytes = [0; MAX_INSN_LEN];
            bytes.fill_with(|| random.byte());
            bytes[..prefix.len()].copy_from_slice(prefix);
            bytes[prefix.len()..prefix.len() + 2].copy_from_slice(&opcode.to_le_bytes());
            exercise(&bytes);
        }
    }
}

#[test]
fn cut_short_at_every_length() {
    let mut random = Random::new(4);
    for _ in 0..20_000 {
        let mut bytes = [0; MAX_INSN_LEN];
        bytes.fill_with(|| random.byte());
        let Ok(whole) = classify(&bytes, AT) else { continue };
        for len in 0..MAX_INSN_LEN {
            match classify(&bytes[..len], AT) {
                Ok(insn) => assert!(insn == whole && len >= usize::from(whole.len), "{bytes:02x?} {len}"),
                Err(InsnRefusal::Undecodable { .. }) => assert!(len < usize::from(whole.len)),
                Err(other) => panic!("{bytes:02x?} {len}: {other}"),
            }
        }
    }
}

/// One executable section as objdump sees it: its instructions by address, and its bytes.
struct Disassembly {
    insns: Vec<(u64, Vec<u8>, String)>,
}

/// `.text` of libc, or of the file that `INSN_SWEEP` names; `None` where there is no objdump.
fn libc_text() -> Option<Disassembly> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.split_whitespace().find(|word| word.ends_with("/libc.so.6")).expect("the tests use glibc");
    let path = std::env::var("INSN_SWEEP").unwrap_or_else(|_| libc.to_owned());
    let args = ["-d", "-w", "-j", ".text", "--insn-width=15", path.as_str()];
    let output = Command::new("objdump").args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let insns = text.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        let at = u64::from_str_radix(columns.next()?.trim().strip_suffix(':')?, 16).ok()?;
        let bytes = columns.next()?.split_whitespace().map(|byte| u8::from_str_radix(byte, 16));
        Some((at, bytes.collect::<Result<_, _>>().ok()?, columns.next().unwrap_or("").to_owned()))
    });
    Some(Disassembly { insns: insns.collect() })
}

#[test]
fn lengths_agree_with_objdump_on_libc() {
    let Some(Disassembly { insns }) = libc_text() else {
        println!("no objdump");
        return;
    };
    assert!(insns.len() > 100_000, "only {} instructions", insns.len());
    let differing: Vec<String> = insns
        .iter()
        .filter(|(at, bytes, _)| boundaries(bytes, *at).map(|(_, len)| len).ne([bytes.len()]))
        .map(|(at, bytes, text)| format!("{at:x}: {bytes:02x?} {text}"))
        .collect();
    println!("{} instructions, {} differ", insns.len(), differing.len());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn libc_is_displaced_but_for_a_handful() {
    let Some(Disassembly { insns }) = libc_text() else {
        println!("no objdump");
        return;
    };
    let mut refused = BTreeMap::new();
    let mut ways = BTreeMap::new();
    for (at, bytes, _) in &insns {
        match classify(bytes, *at) {
            Ok(insn) => {
                let way = format!("{:?}", insn.way);
                *ways.entry(way.split(['(', ' ', '{']).next().unwrap().to_owned()).or_insert(0) += 1;
                assert!(exercise(bytes));
            }
            Err(refusal) => *refused.entry(refusal.to_string()).or_insert(0) += 1,
        }
    }
    println!("{} instructions: {ways:?}, refused: {refused:#?}", insns.len());
    let count: usize = refused.values().sum();
    assert!(count * 10_000 < insns.len(), "refused: {refused:#?}");
}
