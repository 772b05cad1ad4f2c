use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::filter::{HALF, MOST_COMPARISONS, emit_comparison};
use super::*;
use crate::fetch::{Condition, Next, Relation};
use crate::regs::Reg;

const PLACE: Place = Place { entry: 0x10_0000, call: 0xf_ffe0 };

fn value(reg: Reg, shift: u8, mask: u64, signed_bits: Option<u8>) -> RegisterValue {
    RegisterValue { reg, shift, mask, signed_bits }
}

fn comparison(value: RegisterValue, condition: Condition) -> Comparison {
    Comparison { value, condition, if_true: Next::Accept, if_false: Next::Reject }
}

/// `a == 1 && b > 5 || c & 4`, and each comparison of it alone.
fn filters() -> Vec<Option<Box<Filter>>> {
    let chain = [
        Comparison {
            if_true: Next::Step(1),
            if_false: Next::Step(2),
            ..comparison(value(Reg::Rdi, 0, u64::MAX, None), Condition::Unsigned(Relation::Equal, 1 << 40))
        },
        Comparison {
            if_false: Next::Step(2),
            ..comparison(value(Reg::Rax, 0, 0xffff, Some(16)), Condition::Signed(Relation::Greater, -5))
        },
        comparison(value(Reg::Rsp, 3, 0x1f, None), Condition::AnyBit(4)),
    ];
    let alone = chain.iter().map(|one| vec![comparison(one.value, one.condition)]);
    let all: Vec<Vec<Comparison>> = alone.chain([chain.to_vec()]).collect();
    let alive = Some(std::ptr::from_ref(&ALIVE));
    let filter = |comparisons: Vec<Comparison>, alive| {
        Some(Box::new(Filter { comparisons: comparisons.into(), cell: 4711, alive }))
    };
    let mut filters = vec![None];
    filters.extend(all.iter().flat_map(|all| [filter(all.clone(), None), filter(all.clone(), alive)]));
    filters
}

static ALIVE: AtomicBool = AtomicBool::new(true);

fn every() -> Vec<Compiled> {
    let mut all = Vec::new();
    for filter in filters() {
        let measure = Measure { value: value(Reg::Rax, 8, 0xff, Some(8)), first: 5000, hits: 4709 };
        for then in [Then::Call, Then::Count(4709), Then::Histogram(Box::new(measure))] {
            for (red_zone, flags) in [(false, false), (true, false), (false, true), (true, true)] {
                let action = Action { filter: filter.clone(), then: then.clone() };
                all.push(Compiled { action, red_zone, flags });
            }
        }
    }
    all
}

/// What an instruction does to the stack, as a decoder sees it.
fn after(insn: &Instruction, mut state: StackState) -> StackState {
    match insn.mnemonic() {
        Mnemonic::Push => {
            state.below += 8;
            state.rax = state.rax.or(Some(state.below));
        }
        Mnemonic::Pop => {
            state.rax = state.rax.filter(|depth| *depth != state.below);
            state.below -= 8;
        }
        Mnemonic::Lea if insn.op0_register() == Register::RSP => {
            state.below = state.below.wrapping_sub(insn.memory_displacement64());
        }
        // The program's rax comes back.
        Mnemonic::Xchg => state.rax = None,
        _ => {}
    }
    state
}

/// Walks every way through the code with a decoder, and compares what it says of the stack at each
/// instruction with `stack_at`.
#[test]
fn the_stack_is_known_at_every_instruction() {
    for compiled in every() {
        let built = compiled.build(PLACE).expect("code");
        let code = built.bytes();
        let end = PLACE.entry + code.len() as u64;
        let common = code.windows(8).position(|word| word == (detour::common() as u64).to_le_bytes());
        let mut ways = vec![(PLACE.entry, StackState::default())];
        let (mut ends, mut calls, mut common_calls) = (0, 0, 0);
        let mut seen = std::collections::BTreeSet::new();
        while let Some((mut at, mut state)) = ways.pop() {
            loop {
                if at == end || at == PLACE.call {
                    assert_eq!(state, StackState::default(), "{compiled:?} at the end");
                    *(if at == end { &mut ends } else { &mut calls }) += 1;
                    break;
                }
                assert_eq!(compiled.stack_at(at - PLACE.entry), state, "{compiled:?} {at:x}");
                if !seen.insert(at) {
                    break;
                }
                let rest = &code[(at - PLACE.entry) as usize..];
                let insn = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
                assert_ne!(insn.mnemonic(), Mnemonic::INVALID, "{compiled:?} {at:x}");
                state = after(&insn, state);
                match insn.flow_control() {
                    FlowControl::UnconditionalBranch => {
                        at = insn.near_branch_target();
                        continue;
                    }
                    FlowControl::ConditionalBranch => ways.push((insn.near_branch_target(), state)),
                    FlowControl::IndirectBranch => {
                        // To the common code, with what the call would have pushed.
                        assert_eq!(insn.ip_rel_memory_address() - PLACE.entry, common.expect("it") as u64);
                        assert_eq!(state, StackState { below: 136, rax: None });
                        common_calls += 1;
                        break;
                    }
                    _ => {}
                }
                at = insn.next_ip();
            }
        }
        let (is_call, filters) = (compiled.action.then == Then::Call, compiled.action.filter.is_some());
        assert_eq!(ends > 0, !is_call || filters, "{compiled:?}");
        assert_eq!((calls > 0, common_calls > 0), (true, is_call && filters), "{compiled:?}");
    }
}

fn listing(code: &[u8]) -> Vec<String> {
    Decoder::new(64, code, DecoderOptions::NONE).iter().map(|insn| insn.to_string()).collect()
}

#[test]
fn comparisons_are_encoded_as_they_read() {
    use Condition::{AnyBit, Signed, Unsigned};
    let rows: [(RegisterValue, Condition, &[&str]); 10] = [
        (value(Reg::Rdi, 0, u64::MAX, None), Unsigned(Relation::Greater, 5), &["cmp $5,%rdi"]),
        (value(Reg::Rsi, 0, HALF, Some(32)), Signed(Relation::Less, -5), &["cmp $0xFFFFFFFB,%esi"]),
        (value(Reg::R9, 0, u64::MAX, None), Signed(Relation::Equal, -1), &["cmp $0xFFFFFFFFFFFFFFFF,%r9"]),
        (value(Reg::Rdx, 0, u64::MAX, None), AnyBit(0x10), &["test $0x10,%rdx"]),
        (value(Reg::R12, 0, HALF, None), AnyBit(0xffff_ff00), &["test $0xFFFFFF00,%r12d"]),
        (value(Reg::R12, 0, HALF, None), Unsigned(Relation::Equal, HALF), &["cmp $0xFFFFFFFF,%r12d"]),
        (
            value(Reg::R8, 0, u64::MAX, None),
            Unsigned(Relation::Equal, 1 << 40),
            &["movabs $0x10000000000,%rax", "cmp %rax,%r8"],
        ),
        (
            value(Reg::Rdi, 0, HALF, None),
            Signed(Relation::Less, 5),
            &["mov %rdi,%rax", "mov %eax,%eax", "cmp $5,%rax"],
        ),
        (
            value(Reg::R13, 8, 0xff, Some(8)),
            Signed(Relation::Less, 0),
            &["mov %r13,%rax", "shr $8,%rax", "movzbl %al,%eax", "movsbq %al,%rax", "cmp $0,%rax"],
        ),
        (
            value(Reg::Rbx, 3, 0x1f, None),
            Unsigned(Relation::Less, 9),
            &["mov %rbx,%rax", "shr $3,%rax", "and $0x1F,%eax", "cmp $9,%rax"],
        ),
    ];
    for (value, condition, expected) in rows {
        let mut code = Emitter::new(usize::MAX);
        emit_comparison(&mut code, &comparison(value, condition)).expect("code");
        assert_eq!(listing(code.finish().expect("code")), expected);
    }
}

#[test]
fn what_has_no_code_is_refused() {
    let refused = |value, condition| {
        emit_comparison(&mut Emitter::new(usize::MAX), &comparison(value, condition)).is_none()
    };
    assert!(refused(value(Reg::Rip, 0, u64::MAX, None), Condition::AnyBit(1)));
    assert!(refused(value(Reg::Rdi, 0, HALF, Some(32)), Condition::Signed(Relation::Less, 1 << 40)));
    assert!(refused(value(Reg::Rdi, 0, HALF, None), Condition::Unsigned(Relation::Less, 1 << 40)));
    assert!(refused(value(Reg::Rdi, 8, 0xff_ffff_ffff, None), Condition::AnyBit(1)));
    let one = comparison(value(Reg::Rdi, 0, u64::MAX, None), Condition::AnyBit(1));
    let chain = vec![one; MOST_COMPARISONS + 1];
    assert!(emit_filter(&mut Emitter::new(usize::MAX), &chain).is_none());
}

/// The longest there is fits.
#[test]
fn as_many_comparisons_as_may_be_fit() {
    let one = comparison(
        value(Reg::Rax, 8, 0x1ff_ffff, None),
        Condition::Unsigned(Relation::LessOrEqual, 0x1ff_ffff),
    );
    let mut all = vec![Comparison { if_true: Next::Reject, if_false: Next::Accept, ..one }; MOST_COMPARISONS];
    all[MOST_COMPARISONS - 1] = one;
    for alive in [None, Some(std::ptr::from_ref(&ALIVE))] {
        let filter = Some(Box::new(Filter { comparisons: all.clone().into(), cell: 1, alive }));
        let action = Action { filter, then: Then::Call };
        let built = Compiled { action, red_zone: true, flags: true }.build(PLACE);
        assert!(built.is_some());
    }
}

/// A thread interrupted between the two goes on behind them; nobody else does.
#[test]
fn the_second_half_of_counting_is_found() {
    for compiled in every() {
        let built = compiled.build(PLACE).expect("code");
        let (from, to) = built.halves;
        let Then::Histogram(measure) = &compiled.action.then else {
            assert_eq!((from, to), (0, 0));
            continue;
        };
        let insns: Vec<Instruction> =
            Decoder::with_ip(64, &built.bytes()[..to], 0, DecoderOptions::NONE).iter().collect();
        let [.., first, load, second] = insns.as_slice() else { panic!("{compiled:?}") };
        for (insn, cell) in [(first, measure.first), (second, measure.hits)] {
            assert_eq!(insn.mnemonic(), Mnemonic::Inc, "{compiled:?}");
            assert_eq!(insn.memory_displacement64(), u64::from(cell) * 8);
            assert_eq!((insn.op0_kind(), insn.memory_base()), (OpKind::Memory, Register::RAX));
        }
        assert_eq!((load.ip(), second.next_ip()), (from as u64, to as u64), "{compiled:?}");
    }
}
