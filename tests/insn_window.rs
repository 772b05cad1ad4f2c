//! Windows of five-byte jumps: what they displace, what they refuse, where they may lead; and jumps
//! that were so made, run on the processor, from the place and from each kept instruction.

mod insn_native;

use std::collections::BTreeSet;

use insn_native::{CODE_AT, FAR_AT, Native, Random, State};
use uprobe::insn::{Code, InsnRefusal, Obstacle, TargetRange, Window, WindowRefusal, WindowText, relocate};

const AT: u64 = 0x5555_5555_4320;
const LONG: usize = 64;

fn hex(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// In a long function, with nops behind what is written.
fn plan(code: &str) -> Result<Window, WindowRefusal> {
    let mut bytes = hex(code);
    bytes.resize(32, 0x90);
    Window::plan(&WindowText { bytes: &bytes, at: AT, code_len: LONG, room: LONG, targets: &[] })
}

/// A function of all that is written, and what is behind it.
fn plan_short(code: &str, behind: &str, room: usize) -> Result<Window, WindowRefusal> {
    let (mut bytes, code_len) = (hex(code), hex(code).len());
    bytes.extend(hex(behind));
    Window::plan(&WindowText { bytes: &bytes, at: AT, code_len, room, targets: &[] })
}

fn offsets(window: &Window) -> Vec<u8> {
    window.inner().map(|boundary| boundary.offset).collect()
}

#[test]
fn windows_are_whole_instructions() {
    let rows: [(&str, usize, usize, &[u8]); 9] = [
        ("b8 27 00 00 00", 1, 5, &[]),
        ("48 81 ec 88 00 00 00", 1, 7, &[]),
        ("f3 0f 1e fa 55", 2, 5, &[4]),
        ("f3 0f 1e fa 48 83 ec 08", 2, 8, &[4]),
        ("55 48 89 e5 41 57", 3, 6, &[1, 4]),
        ("41 57 41 56 41 55", 3, 6, &[2, 4]),
        ("31 c0 c3 90 90", 4, 5, &[2, 3, 4]),
        ("50 53 51 52 56", 5, 5, &[1, 2, 3, 4]),
        ("48 8b 05 10 00 00 00", 1, 7, &[]),
    ];
    for (code, insns, len, inner) in rows {
        let window = plan(code).unwrap_or_else(|e| panic!("{code}: {e}"));
        assert_eq!((window.insn_count(), window.displaced_len()), (insns, len), "{code}");
        assert_eq!(offsets(&window), inner, "{code}");
        assert_eq!(window.is_single_insn(), inner.is_empty(), "{code}");
        assert_eq!(window.original()[..], hex(code)[..5], "{code}");
    }
}

#[test]
fn padding_behind_a_short_function_is_used() {
    let nops = plan_short("31 c0 c3", "66 0f 1f 44 00 00", 16).unwrap();
    assert_eq!((nops.insn_count(), nops.displaced_len()), (3, 9));
    assert_eq!(offsets(&nops), [2]);
    let int3s = plan_short("31 c0 c3", "cc cc cc", 16).unwrap();
    assert_eq!((int3s.insn_count(), int3s.displaced_len()), (2, 3));
    assert_eq!(offsets(&int3s), [2]);
    // It runs through the nops into the next function.
    let through = plan_short("31 c0", "90 90 90 90", 16).unwrap();
    assert_eq!((through.insn_count(), through.displaced_len()), (4, 5));

    let short = |room| Err(WindowRefusal::TooShort { room });
    assert_eq!(plan_short("31 c0 c3", "90 90", 4), short(4));
    assert_eq!(plan_short("31 c0 c3", "cc 90", 16), short(3));
    assert_eq!(plan_short("31 c0 c3", "f3 0f 1e fa", 16), short(3));
    assert_eq!(plan_short("31 c0 c3", "48 89 e5", 16), short(3));
    assert_eq!(plan_short("31 c0", "cc cc cc", 16), short(2));
    assert_eq!(plan_short("c3", "90", 16), short(1));
}

#[test]
fn refusals() {
    let not_relocatable = |code: &str, offset: u64, expected: Obstacle| match plan(code).unwrap_err() {
        WindowRefusal::NotRelocatable { at, why: InsnRefusal::Obstructed { obstacle, .. } } => {
            assert_eq!((at, obstacle), (AT + offset, expected), "{code}");
        }
        other => panic!("{code}: {other}"),
    };
    not_relocatable("55 66 e8 00 00 00 00", 1, Obstacle::BranchOperandSize);
    not_relocatable("48 89 e5 ff d4", 0, Obstacle::CallThroughStack);
    not_relocatable("74 02 48 89 e5", 0, Obstacle::BranchIntoItself);
    not_relocatable("90 48 cf 90 90", 1, Obstacle::InterruptReturn);
    let at = AT + 3;
    let why = InsnRefusal::Breakpoint;
    assert_eq!(plan("48 89 e5 cc 90"), Err(WindowRefusal::NotRelocatable { at, why }));
    assert!(matches!(plan("55 06"), Err(WindowRefusal::NotRelocatable { .. })));
    let cut = plan_short("55 48 89", "e5 90 90", 16);
    assert_eq!(cut, Err(WindowRefusal::CutShort { at: AT + 1 }));
}

#[test]
fn known_branch_targets_are_kept_or_refused() {
    let bytes = hex("55 48 89 e5 41 57 90 90");
    let with = |offset| {
        let targets = [AT + offset];
        Window::plan(&WindowText { bytes: &bytes, at: AT, code_len: LONG, room: LONG, targets: &targets })
    };
    let must_keep = |window: Window| window.inner().map(|boundary| boundary.must_keep).collect::<Vec<_>>();
    assert_eq!(must_keep(with(0).unwrap()), [false, false]);
    assert_eq!(must_keep(with(1).unwrap()), [true, false]);
    assert_eq!(must_keep(with(4).unwrap()), [false, true]);
    assert_eq!(must_keep(with(5).unwrap()), [false, false]);
    assert_eq!(with(2), Err(WindowRefusal::BranchTarget { target: AT + 2 }));
    // A call returns to the original.
    assert_eq!(must_keep(plan("ff d0 48 89 e5").unwrap()), [true]);
    assert_eq!(must_keep(plan("89 e5 ff d0 90").unwrap()), [false, true]);
}

#[test]
fn reach_is_that_of_all_operands() {
    let (low, high) = plan("48 8b 05 00 00 00 10").unwrap().reach();
    let operand = AT + 7 + 0x1000_0000;
    assert!(low > operand - 0x8000_0000 && low < operand - 0x7fff_0000, "{low:x}");
    assert!(high < operand + 0x8000_0000 && high > operand + 0x7fff_0000, "{high:x}");
    let call = plan("ff 15 00 00 00 10").unwrap();
    assert_eq!(call.reach(), (low - 1, high - 1));
    assert_eq!(plan("55 e9 00 00 00 00").unwrap().reach(), (0x1_0000, 0x7fff_ffff_efff));
    for range in plan("50 48 8b 05 00 00 00 78").unwrap().candidates() {
        assert!(range.first_from(0).is_some());
    }
}

#[test]
fn candidates_come_in_order_of_preference() {
    let window = plan("55 48 89 e5 41 57").unwrap();
    let all: Vec<TargetRange> = window.candidates().collect();
    assert_eq!(all.len(), 400);
    let head: Vec<_> = all[..4].iter().map(|range| (range.fixed(), range.free(), range.traps())).collect();
    let kept = 0x00e5_8948;
    assert_eq!(head[0], (0x4100_0000 | kept, 0, 0));
    assert_eq!(head[1], (0xcc00_0000 | kept, 0, 0b1_0000));
    assert_eq!(head[2], (0x0600_0000 | kept, 0, 0b1_0000));
    assert_eq!(head[3], (0x0700_0000 | kept, 0, 0b1_0000));
    assert_eq!((all[20].fixed(), all[20].free()), (0x4100_00cc, 0x00ff_ff00));
    assert_eq!((all[21].fixed(), all[21].free()), (0xcc00_00cc, 0x00ff_ff00));
    let different: BTreeSet<_> = all.iter().map(|range| (range.fixed(), range.free())).collect();
    assert_eq!(different.len(), all.len());

    let single = plan("b8 27 00 00 00").unwrap();
    let whole: Vec<TargetRange> = single.candidates().collect();
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].free(), whole[0].traps()), (u32::MAX, 0));
}

/// Below 2 GiB a negative displacement may lead below zero: such candidates are left out.
#[test]
fn candidates_lie_in_the_address_space() {
    let bytes = hex("f3 0f 1e fa 55 90 90 90");
    let at = 0x40_1000;
    let window =
        Window::plan(&WindowText { bytes: &bytes, at, code_len: LONG, room: LONG, targets: &[] }).unwrap();
    let all: Vec<TargetRange> = window.candidates().collect();
    assert!(all.iter().all(|range| range.fixed() < 0x8000_0000), "{all:x?}");
    assert_eq!(all.len(), 14);
}

/// Not d5, c4, c5, 62, f1, 82; those that may need the next page only where there is none.
#[test]
fn trap_bytes_are_the_proven_ones() {
    let trap_bytes = |at| {
        let bytes = hex("50 b8 27 00 00 00 90 90");
        let text = WindowText { bytes: &bytes, at, code_len: LONG, room: LONG, targets: &[] };
        let window = Window::plan(&text).unwrap();
        let traps = window.candidates().filter(|range| range.traps() != 0);
        traps.map(|range| range.fixed() as u8).collect::<BTreeSet<u8>>()
    };
    let far = trap_bytes(0x7000_0000_0000);
    let anywhere: BTreeSet<u8> = hex("06 07 0e 16 17 1e 1f 27 2f 37 3f 60 61 cc ce d6").into_iter().collect();
    let fetched: BTreeSet<u8> = [0x9a, 0xd4, 0xea].into();
    assert_eq!(far, &anywhere | &fetched);
    assert_eq!(trap_bytes(0x7000_0000_0ff0 - 2), &anywhere | &fetched);
    assert_eq!(trap_bytes(0x7000_0000_0ff2), anywhere);
}

#[test]
fn aligned_eights() {
    let bytes = hex("b8 27 00 00 00");
    let fits = |at| {
        let text = WindowText { bytes: &bytes, at, code_len: LONG, room: LONG, targets: &[] };
        Window::plan(&text).unwrap().fits_aligned_8()
    };
    let found: Vec<bool> = (0..8).map(|offset| fits(AT + offset)).collect();
    assert_eq!(found, [true, true, true, true, false, false, false, false]);
}

/// Whatever stands at the inner boundaries, the jump does what the original does, and so does an
/// instruction that was kept.
#[test]
fn punned_jumps_run() {
    const PLACE: u64 = CODE_AT + 0x800;
    let mut native = Native::take();
    let mut random = Random::new(5);
    let (mut ran, mut entered) = (0, 0);
    let codes = [
        "b8 27 00 00 00 48 ff c0",
        "f3 0f 1e fa 55 48 89 e5",
        "55 48 89 e5 41 57 90",
        "41 57 41 56 41 55 90",
        "50 53 51 52 56 57",
        "48 ff c0 48 01 d8 90",
        "48 ff c0 74 03 48 89 d8",
    ];
    for code in codes {
        let bytes = hex(code);
        let text =
            WindowText { bytes: &bytes, at: PLACE, code_len: bytes.len(), room: bytes.len(), targets: &[] };
        let window = Window::plan(&text).unwrap_or_else(|e| panic!("{code}: {e}"));
        // Few are kept from an inner boundary to the end: take more of these.
        let chosen = |(index, range): &(usize, TargetRange)| *index < 60 || range.traps() >> 4 == 0;
        for (_, range) in window.candidates().take(4000).enumerate().filter(chosen) {
            // Above the arena; not in the far page, which is mapped already.
            let Some(target) = range.first_from(0x2000_0000).filter(|target| target >> 12 != FAR_AT >> 12)
            else {
                continue;
            };
            let Some(jump) = range.jump_to(target) else { panic!("{code}: {target:x}") };
            if target % 0x1000 > 0xf00 {
                continue;
            }
            let mut copy = Code::new(target);
            let relocated = relocate(&bytes, PLACE, window.insn_count(), &mut copy).unwrap();
            copy.append_jump(relocated.next()).unwrap();
            native.with_page(target & !0xfff, |native| {
                native.write(target, copy.bytes());
                let kept = window.inner().filter(|inner| range.traps() >> inner.offset & 1 == 0);
                for from in kept.map(|inner| u64::from(inner.offset)).chain([0]) {
                    let state = State::random(&mut random);
                    native.write(PLACE, &bytes);
                    native.write_pad(PLACE + bytes.len() as u64);
                    let original = native.run(PLACE + from, &state);
                    native.write(PLACE, &jump);
                    let starts_at_trap = runs_into_trap(&window, &range, from);
                    if starts_at_trap {
                        continue;
                    }
                    let jumped = native.run(PLACE + from, &state);
                    assert!(
                        original == jumped,
                        "{code} +{from} {jump:02x?}\n{}",
                        original.differences(&jumped)
                    );
                    ran += 1;
                    entered += u32::from(from > 0);
                }
            });
        }
    }
    println!("{ran} jumps ran, {entered} of them from inside");
    assert!(ran > 200 && entered > 50, "{ran} {entered}");
}

/// From a kept instruction on to one that is a trap.
fn runs_into_trap(window: &Window, range: &TargetRange, from: u64) -> bool {
    from > 0
        && window
            .inner()
            .any(|inner| u64::from(inner.offset) > from && range.traps() >> inner.offset & 1 == 1)
}
