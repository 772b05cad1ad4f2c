//! Each run of instructions of `insn_relocate.txt` runs at its own place and relocated, 1.5 GiB
//! and 12 GiB away, on the processor, from the same random states and from each of its
//! instructions: registers, flags, memory, x87 and vector state and where it ends must be the same.
//!
//! A row is `bytes | state`, and below it what it becomes near and far. Among the bytes, P8 and P32
//! stand for the distance to a pad above, N8 to one below, M32 to the data (`+1`: one more byte
//! follows in the instruction). `state` sets registers and words in memory, PAD being an address of
//! a pad. `UPDATE=1` writes the code anew.

mod insn_native;

use std::fmt::Write as _;

use insn_native::{BEYOND_AT, CODE_AT, DATA_AT, FAR_AT, Native, Random, State};
use uprobe::insn::{Code, InsnRefusal, Obstacle, Relocated, RelocatedPc, boundaries, disassemble, relocate};

const ROWS: &str = include_str!("insn_relocate.txt");
const ROWS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/insn_relocate.txt");
const AT: u64 = CODE_AT + 0x800;
/// Pads that code at [`AT`] can reach.
const PAD: u64 = AT + 0x60;
const PAD_BELOW: u64 = AT - 0x60;
/// Goes from [`AT`] to the copies, for branches back to the start.
const BACK: u64 = CODE_AT + 0x400;
const OPERAND_AT: u64 = DATA_AT + 0x1400;
const PLACES: [u64; 2] = [FAR_AT + 0x40, BEYOND_AT + 0x40];
const STATES: u64 = 8;

struct Row {
    head: &'static str,
    bytes: Vec<u8>,
    count: usize,
    state: &'static str,
}

fn rows() -> Vec<Row> {
    let heads = ROWS.lines().filter(|line| !line.starts_with(' '));
    heads
        .map(|head| {
            let (code, state) = head.split_once('|').unwrap_or_else(|| panic!("{head}"));
            let bytes = assemble(code);
            let count = boundaries(&bytes, AT).count();
            Row { head, bytes, count, state }
        })
        .collect()
}

fn assemble(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for word in text.split_whitespace() {
        let here = AT + bytes.len() as u64;
        let (name, more) =
            word.split_once('+').map_or((word, 0), |(name, more)| (name, more.parse().unwrap()));
        let mut field = |len: u64, target: u64| {
            let relative = target.wrapping_sub(here + len + more);
            bytes.extend(&relative.to_le_bytes()[..len as usize]);
        };
        match name {
            "P8" => field(1, PAD),
            "N8" => field(1, PAD_BELOW),
            "P32" => field(4, PAD),
            "M32" => field(4, OPERAND_AT),
            byte => bytes.push(u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{text}: {byte}"))),
        }
    }
    bytes
}

/// A copy: instructions, and the data that a far jump and a call have behind them.
fn code_text(code: &[u8], at: u64) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = code;
    while !rest.is_empty() {
        let here = at + (code.len() - rest.len()) as u64;
        let pushed_next = parts.iter().any(|part| part.starts_with("push"));
        let behind_far_jump = code[..code.len() - rest.len()].ends_with(&[0xff, 0x25, 0, 0, 0, 0]);
        if behind_far_jump || (pushed_next && rest.len() == 8) {
            let (word, behind) = rest.split_at(8);
            parts.push(format!(".quad {:#x}", u64::from_le_bytes(word.try_into().unwrap())));
            rest = behind;
        } else {
            parts.push(disassemble(rest, here));
            let len = uprobe::insn::decode_len(rest).unwrap_or_else(|| panic!("{code:02x?}: {rest:02x?}"));
            rest = &rest[len..];
        }
    }
    parts.join(" | ")
}

fn expected(row: &Row) -> String {
    let mut text = format!("{}\n", row.head);
    let originals: Vec<String> = boundaries(&row.bytes, AT)
        .map(|(at, len)| disassemble(&row.bytes[(at - AT) as usize..][..len], at))
        .collect();
    let _ = writeln!(text, "  as is: {}", originals.join(" ; "));
    for (name, place) in ["near", "far"].into_iter().zip(PLACES) {
        let mut code = Code::new(place);
        let relocated = match relocate(&row.bytes, AT, row.count, &mut code) {
            Ok(relocated) => relocated,
            Err(refusal) => {
                assert!(code.is_empty());
                let _ = writeln!(text, "  {name:>5}: {refusal}");
                continue;
            }
        };
        let ends =
            relocated.copies().iter().skip(1).map(|copy| usize::from(copy.new)).chain([relocated.len()]);
        let copies: Vec<String> = (relocated.copies().iter().zip(ends))
            .map(|(copy, end)| {
                let start = usize::from(copy.new);
                code_text(&code.bytes()[start..end], place + start as u64)
            })
            .collect();
        let _ = writeln!(text, "  {name:>5}: {}", copies.join(" ; "));
    }
    text
}

#[test]
fn rows_show_what_they_become() {
    let text: String = rows().iter().map(expected).collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(ROWS_PATH, &text).unwrap();
    } else {
        assert!(text == ROWS, "insn_relocate.txt: run with UPDATE=1");
    }
}

/// Sets what the row asks for.
fn apply(settings: &str, state: &mut State) {
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').unwrap();
        let value = match value {
            "PAD" => PAD,
            "DATA" => DATA_AT,
            number => number.parse().unwrap(),
        };
        let (base, word) = name
            .split_once('@')
            .map_or((name, None), |(base, offset)| (base, Some(offset.parse::<i64>().unwrap())));
        let register = match base {
            "rax" => &mut state.regs.rax,
            "rbx" => &mut state.regs.rbx,
            "rcx" => &mut state.regs.rcx,
            "rdx" => &mut state.regs.rdx,
            "rbp" => &mut state.regs.rbp,
            "rsp" => &mut state.regs.rsp,
            "r11" => &mut state.regs.r11,
            "r12" => &mut state.regs.r12,
            "data" => &mut DATA_AT.clone(),
            "M" => {
                state.poke(OPERAND_AT, value);
                continue;
            }
            other => panic!("unknown setting {other}"),
        };
        match word {
            None => *register = value,
            Some(offset) => {
                let at = register.wrapping_add_signed(offset);
                state.poke(at, value);
            }
        }
    }
}

/// Runs the instructions at [`AT`], and their copies, from the one that begins `from` bytes in.
fn run_both(
    native: &mut Native,
    bytes: &[u8],
    (code, relocated): (&Code, &Relocated),
    from: usize,
    state: &State,
) -> (State, State) {
    let next = AT + bytes.len() as u64;
    native.write(AT, bytes);
    native.write_pad(next);
    let original = native.run(AT + from as u64, state);

    native.write(code.at(), code.bytes());
    native.write(AT, &vec![0xcc; bytes.len()]);
    // Who goes to the first displaced one meets the probe: here a jump.
    if bytes.len() >= 5 {
        let (mut to_back, mut back) = (Code::new(AT), Code::new(BACK));
        to_back.append_jump(BACK).unwrap();
        back.append_jump(relocated.new_at()).unwrap();
        native.write(AT, to_back.bytes());
        native.write(BACK, back.bytes());
    }
    let displaced = native.run(relocated.new_address(from).unwrap(), state);
    (original, displaced)
}

#[test]
fn copies_do_what_the_originals_do() {
    let mut native = Native::take();
    native.write_pad(PAD);
    native.write_pad(PAD_BELOW);
    let mut random = Random::new(1);
    let (mut ran, mut failed) = (0, String::new());
    for row in rows() {
        if row.bytes.starts_with(&[0x62]) && !std::is_x86_feature_detected!("avx512f") {
            println!("no AVX-512: {}", row.head);
            continue;
        }
        for place in PLACES {
            let mut code = Code::new(place);
            let relocated = match relocate(&row.bytes, AT, row.count, &mut code) {
                Ok(relocated) => relocated,
                Err(InsnRefusal::OutOfReach { .. }) if place == BEYOND_AT + 0x40 => continue,
                Err(InsnRefusal::Breakpoint) => continue,
                Err(other) => panic!("{}: {other}", row.head),
            };
            code.append_jump(relocated.next()).unwrap();
            ran += 1;
            for _ in 0..STATES {
                let mut state = State::random(&mut random);
                apply(row.state, &mut state);
                let (original, displaced) = run_both(&mut native, &row.bytes, (&code, &relocated), 0, &state);
                if original != displaced {
                    let _ =
                        writeln!(failed, "{} at {place:#x}\n{}", row.head, original.differences(&displaced));
                    break;
                }
            }
        }
    }
    assert!(failed.is_empty(), "original, displaced:\n{failed}");
    assert!(ran > 130, "only {ran} ran");
}

/// A thread that stands at an inner instruction goes on at its copy.
#[test]
fn copies_can_be_entered_at_each_instruction() {
    let mut native = Native::take();
    native.write_pad(PAD);
    let mut random = Random::new(2);
    let bytes = assemble("48 ff c0 48 01 d8 74 02 ff c1 48 8b 15 M32 0f 92 c1 e8 P32 90");
    for from in [0, 3, 6, 8, 10, 17, 20, 25] {
        let mut code = Code::new(PLACES[0]);
        let relocated = relocate(&bytes, AT, 8, &mut code).unwrap();
        code.append_jump(relocated.next()).unwrap();
        for _ in 0..STATES {
            let state = State::random(&mut random);
            let (original, displaced) = run_both(&mut native, &bytes, (&code, &relocated), from, &state);
            assert!(original == displaced, "from +{from}:\n{}", original.differences(&displaced));
        }
    }
}

#[test]
fn what_has_no_exact_form_is_refused() {
    let refused =
        |text: &str, count| relocate(&assemble(text), AT, count, &mut Code::new(PLACES[0])).unwrap_err();
    let obstacle = |text: &str, count| match refused(text, count) {
        InsnRefusal::Obstructed { obstacle, .. } => obstacle,
        other => panic!("{text}: {other}"),
    };
    assert_eq!(obstacle("66 e8 00 00 00 00", 1), Obstacle::BranchOperandSize);
    assert_eq!(obstacle("66 74 10", 1), Obstacle::BranchOperandSize);
    assert_eq!(obstacle("ff d4", 1), Obstacle::CallThroughStack);
    assert_eq!(obstacle("ff 54 24 f8", 1), Obstacle::CallThroughStack);
    assert_eq!(obstacle("ff 54 24 f1", 1), Obstacle::CallThroughStack);
    assert_eq!(obstacle("ff 54 24 ff", 1), Obstacle::CallThroughStack);
    assert_eq!(obstacle("ff 94 24 fc ff ff 7f", 1), Obstacle::CallThroughStack);
    assert_eq!(obstacle("74 01 48 89 c3", 2), Obstacle::BranchIntoItself);
    assert_eq!(obstacle("64 ff 10", 1), Obstacle::SegmentedBranch);
    assert_eq!(obstacle("90 48 cf", 2), Obstacle::InterruptReturn);
    assert_eq!(obstacle("90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90 90", 17), Obstacle::NoRoom);
    assert_eq!(refused("90 cc", 2), InsnRefusal::Breakpoint);
    assert!(matches!(refused("90", 2), InsnRefusal::Undecodable { .. }));
    assert!(matches!(refused("06", 1), InsnRefusal::Undecodable { .. }));
}

#[test]
fn xbegin_aborts_to_the_original_or_to_a_copy() {
    let near = |text: &str, count| {
        let mut code = Code::new(PLACES[0]);
        relocate(&assemble(text), AT, count, &mut code).map(|_| code_text(code.bytes(), PLACES[0]))
    };
    assert_eq!(near("c7 f8 P32", 1).unwrap(), format!("xbegin {PAD:#x}"));
    let inside = near("c7 f8 01 00 00 00 90 90", 3).unwrap();
    assert_eq!(inside, format!("xbegin {:#x} | nop | nop", PLACES[0] + 7));
    let far = relocate(&assemble("c7 f8 P32"), AT, 1, &mut Code::new(PLACES[1]));
    assert!(matches!(far, Err(InsnRefusal::OutOfReach { target: PAD, .. })), "{far:?}");
}

#[test]
fn a_full_code_is_left_unchanged() {
    let mut code = Code::new(PLACES[0]);
    code.append(&[0x90; uprobe::insn::CODE_CAPACITY - 4]).unwrap();
    let refusal = relocate(&assemble("90 48 89 e5 90"), AT, 3, &mut code).unwrap_err();
    assert!(matches!(refusal, InsnRefusal::Obstructed { obstacle: Obstacle::NoRoom, .. }), "{refusal}");
    assert_eq!(code.len(), uprobe::insn::CODE_CAPACITY - 4);
    assert!(code.append_jump(AT).is_err());
    code.append(&[0x90; 4]).unwrap();
}

#[test]
fn every_rip_among_the_copies_has_a_meaning() {
    let map = |text: &str, place: u64| {
        let bytes = assemble(text);
        let mut code = Code::new(place);
        let relocated = relocate(&bytes, AT, 1, &mut code).unwrap();
        assert_eq!(relocated.map(place - 1), None);
        assert_eq!(relocated.map(place + code.len() as u64 + 1), None);
        assert_eq!(relocated.map(place + code.len() as u64), Some(RelocatedPc::At(AT + bytes.len() as u64)));
        let known =
            (0..code.len() as u64).filter_map(|offset| Some((offset, relocated.map(place + offset)?)));
        known.collect::<Vec<_>>()
    };
    use RelocatedPc::{At, Branching, Pushed, Returned};
    let [near, far] = PLACES;
    assert_eq!(map("48 89 e5", near), [(0, At(AT))]);
    assert_eq!(map("74 P8", near), [(0, At(AT))]);
    assert_eq!(map("74 P8", far), [(0, At(AT)), (2, Branching)]);
    assert_eq!(map("67 e2 P8", near), [(0, At(AT)), (3, Branching), (5, Branching)]);
    assert_eq!(map("e8 P32", near), [(0, At(AT)), (6, Pushed(AT))]);
    assert_eq!(map("ff d0", far), [(0, At(AT)), (6, Pushed(AT))]);
    assert_eq!(map("ff 53 18", far), [(0, At(AT)), (3, Pushed(AT)), (8, At(AT)), (14, Pushed(AT))]);
    assert_eq!(map("0f 05", far), [(0, At(AT)), (2, Returned(AT + 2))]);
    assert_eq!(map("2e 0f 05", far), [(0, At(AT)), (1, At(AT)), (3, Returned(AT + 3))]);
    assert_eq!(map("cd 80", far), [(0, At(AT))]);
}
