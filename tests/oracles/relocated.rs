//! Any bytes as instructions, run on this processor at their place and elsewhere: in a slot, by
//! emulation, and as a relocated run. Registers, flags, memory, x87 and vector state must be the same,
//! and so must be what faults, and where.
//!
//! ```text
//! byte 0   how many instructions      1–8  the state      then the instructions
//! ```

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use uprobe::insn::slot::{self, Boost};
use uprobe::insn::{Code, InsnRefusal, Relocated, RelocatedPc, SlotBytes, SlotPc, Way, classify, relocate};

use super::bytes::Bytes;
use super::harmless::{HOLE, Run};
use crate::insn_native::{
    BEYOND_AT, CODE_AT, DATA_AT, FAR_AT, Fault, MEMORY_AT, MEMORY_LEN, Native, PAD_LEN, Random, State,
    TestMemory,
};

const AT: u64 = CODE_AT + 0x800;
/// Where indirect branches lead.
const PAD: u64 = CODE_AT + 0x1800;
const OPERAND_AT: u64 = DATA_AT + 0x1400;
const SLOT_AT: u64 = FAR_AT + 0x40;
const PLACES: [u64; 2] = [FAR_AT + 0x100, BEYOND_AT + 0x40];

const TRAP_FLAG: u64 = 1 << 8;
const ALIGNMENT_CHECK: u64 = 1 << 18;

/// Instructions that may run here, and the state they may run from.
struct Case {
    bytes: Vec<u8>,
    count: usize,
    state: State,
    /// Where an emulated memory access would be one of the real process.
    in_hole: bool,
}

/// Runs what the bytes say. False: nothing in them may run.
pub fn check(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    pure(bytes.0);
    let control = bytes.byte();
    let Some(case) = case(control, bytes.word(), bytes.0) else { return };
    let mut native = Native::take();
    if case.count == 1 {
        single(&mut native, &case);
    }
    for place in PLACES {
        several(&mut native, &case, place);
    }
}

/// What needs no processor: whatever the bytes, an answer; lengths as another decoder has them.
fn pure(bytes: &[u8]) {
    let Ok(insn) = classify(bytes, AT) else { return };
    let decoded = Decoder::with_ip(64, bytes, AT, DecoderOptions::NONE).decode();
    if !decoded.is_invalid() {
        assert_eq!(usize::from(insn.len), decoded.len(), "{}", insn.text());
    }
    assert_eq!(insn.original(), &bytes[..usize::from(insn.len)]);
    let mut slot = SlotBytes::new();
    if Boost::build(&insn, SLOT_AT, &mut slot).is_ok() {
        assert!(insn.can_run_in_slot());
        assert_eq!(slot::boost_map(&insn, SLOT_AT, SLOT_AT), Some(SlotPc::Before));
    }
}

fn case(control: u8, seed: u64, text: &[u8]) -> Option<Case> {
    let mut state = State::random(&mut Random::new(seed));
    let in_hole = control & 0xe0 == 0xe0;
    let mut run = Run::default();
    let (mut bytes, mut count) = (Vec::new(), 0);
    let mut rest = text;
    while count <= usize::from(control & 7) && !rest.is_empty() {
        let at = AT + bytes.len() as u64;
        let insn = decode(rest, at)?;
        let mut own = rest.get(..insn.len())?.to_vec();
        bring_near(&insn, &mut own, at);
        let insn = decode(&own, at)?;
        if !run.admit(&insn, &mut state.regs, PAD, in_hole) {
            break;
        }
        if matches!(insn.mnemonic(), Mnemonic::Popf | Mnemonic::Popfq) {
            // What it pops is known of the first only. Single-stepping and alignment checks would go on
            // in what runs the test.
            if count > 0 {
                break;
            }
            let flags = state.peek(state.regs.rsp) & !(TRAP_FLAG | ALIGNMENT_CHECK);
            state.poke(state.regs.rsp, flags);
        }
        if matches!(insn.flow_control(), FlowControl::Return) {
            state.poke(state.regs.rsp, PAD);
        }
        if matches!(insn.flow_control(), FlowControl::IndirectBranch | FlowControl::IndirectCall)
            && insn.op0_kind() == OpKind::Memory
        {
            let at = pointer(&insn, &state)?;
            state.poke(at, PAD);
        }
        rest = &rest[insn.len()..];
        bytes.extend(own);
        count += 1;
    }
    // Not into the pad behind the last.
    let end = AT + bytes.len() as u64;
    let into_pad = run.targets.iter().any(|target| (end + 1..end + PAD_LEN).contains(target));
    (count > 0 && !into_pad).then_some(Case { bytes, count, state, in_hole })
}

fn decode(bytes: &[u8], at: u64) -> Option<Instruction> {
    let insn = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
    (!insn.is_invalid()).then_some(insn)
}

/// Makes relative operands lead to the code, or to the data.
fn bring_near(insn: &Instruction, own: &mut [u8], at: u64) {
    let mut decoder = Decoder::with_ip(64, own, at, DecoderOptions::NONE);
    let offsets = {
        let insn = decoder.decode();
        decoder.get_constant_offsets(&insn)
    };
    let len = own.len();
    if matches!(insn.op0_kind(), OpKind::NearBranch64) && offsets.immediate_size() == 4 {
        let field = &mut own[offsets.immediate_offset()..][..4];
        let old = i32::from_le_bytes([field[0], field[1], field[2], field[3]]);
        field.copy_from_slice(&(old % 0x600).to_le_bytes());
    }
    if insn.is_ip_rel_memory_operand() && offsets.displacement_size() == 4 {
        let displacement = OPERAND_AT.wrapping_sub(at + len as u64) as u32;
        own[offsets.displacement_offset()..][..4].copy_from_slice(&displacement.to_le_bytes());
    }
}

/// Where the pointer of an indirect branch lies, if in the memory.
fn pointer(insn: &Instruction, state: &State) -> Option<u64> {
    let at = insn.virtual_address(0, 0, |register, _, _| {
        Some(super::harmless::whole(register).map_or(0, |reg| state.regs.get(reg)))
    })?;
    // Not in the word that the call itself writes, which relocation assumes nobody does.
    let in_dead_word = at.wrapping_sub(state.regs.rsp.wrapping_sub(15)) < 15;
    (!in_dead_word && (MEMORY_AT..MEMORY_AT + MEMORY_LEN as u64 - 8).contains(&at)).then_some(at)
}

/// Traps wherever nothing is, the instructions, and a pad behind them.
fn prepare(native: &mut Native, case: &Case, with_code: bool) {
    native.write(CODE_AT, &[0xcc; 0x2000]);
    native.write_pad(PAD);
    native.write_pad(AT + case.bytes.len() as u64);
    if with_code {
        native.write(AT, &case.bytes);
    }
}

fn text(case: &Case) -> String {
    let mut text = format!("{:02x?}:", case.bytes);
    for (at, len) in uprobe::insn::boundaries(&case.bytes, AT) {
        let own = &case.bytes[(at - AT) as usize..][..len];
        text.push_str(&format!(" {} ;", uprobe::insn::disassemble(own, at)));
    }
    text
}

/// A branch may lead into the middle of an instruction, and what that is back again.
fn is_endless(result: &(State, Option<Fault>)) -> bool {
    result.1.is_some_and(|fault| fault.signal == Fault::ENDLESS)
}

fn single(native: &mut Native, case: &Case) {
    let Ok(insn) = classify(&case.bytes, AT) else { return };
    prepare(native, case, true);
    let original = native.run_caught(AT, &case.state);
    if is_endless(&original) {
        return;
    }
    let mut slot = SlotBytes::new();
    let is_branch = original.1.is_none() && original.0.regs.rip != insn.next();
    if !is_branch && Boost::build(&insn, SLOT_AT, &mut slot).is_ok() {
        prepare(native, case, false);
        native.write(SLOT_AT, slot.padded());
        let (mut displaced, fault) = native.run_caught(SLOT_AT, &case.state);
        let fault = fault.map(|fault| match slot::boost_map(&insn, SLOT_AT, fault.rip) {
            Some(SlotPc::Before) => Fault { rip: AT, ..fault },
            _ => fault,
        });
        if let Some(fault) = fault {
            displaced.regs.rip = fault.rip;
        }
        same("slot", case, &original, &(displaced, fault));
    }
    if let Way::Emulate(emulation) = insn.way {
        if case.in_hole && original.1.is_some_and(|fault| fault.signal == libc::SIGBUS) {
            return;
        }
        let mut emulated = case.state.clone();
        emulated.regs.rip = AT;
        let memory = TestMemory(std::cell::RefCell::new(emulated.memory.clone()));
        let result = emulation.run(&mut emulated.regs, &memory, insn.next());
        emulated.memory = memory.0.into_inner();
        emulated.vectors.clone_from(&original.0.vectors);
        match (result, original.1) {
            // The trap is behind the byte that was reached.
            (Ok(()), Some(fault)) if fault.signal == libc::SIGTRAP => emulated.regs.rip += 1,
            (Ok(()), None) => {}
            // A target that is no address: the branch faults, here or there.
            (Ok(()), Some(_)) => return,
            (Err(fault), native) => {
                assert!(native.is_some(), "{}: {fault:x?}", text(case));
                assert!(fault.address >= HOLE, "{}: {fault:x?}", text(case));
                emulated.regs.rip = AT;
            }
        }
        same("emulated", case, &original, &(emulated, original.1));
    }
}

fn several(native: &mut Native, case: &Case, place: u64) {
    let mut code = Code::new(place);
    let relocated = match relocate(&case.bytes, AT, case.count, &mut code) {
        Ok(relocated) => relocated,
        Err(refusal) => {
            assert!(code.is_empty());
            let far = matches!(refusal, InsnRefusal::OutOfReach { .. });
            assert!(!far || place == PLACES[1], "{}: {refusal}", text(case));
            return;
        }
    };
    if code.append_jump(relocated.next()).is_err() {
        return;
    }
    prepare(native, case, true);
    let original = native.run_caught(AT, &case.state);
    if is_endless(&original) {
        return;
    }
    prepare(native, case, false);
    native.write(place, code.bytes());
    let (mut displaced, fault) = native.run_caught(relocated.new_at(), &case.state);
    let fault = fault.map(|fault| shown(&relocated, fault, &mut displaced));
    if let Some(fault) = fault {
        displaced.regs.rip = fault.rip;
    }
    same("relocated", case, &original, &(displaced, fault));
}

/// The fault as the program is shown it.
fn shown(relocated: &Relocated, fault: Fault, displaced: &mut State) -> Fault {
    match relocated.map(fault.rip) {
        Some(RelocatedPc::At(rip)) => Fault { rip, ..fault },
        Some(RelocatedPc::Pushed(rip)) => {
            displaced.regs.rsp = displaced.regs.rsp.wrapping_add(8);
            Fault { rip, ..fault }
        }
        _ => fault,
    }
}

fn same(what: &str, case: &Case, original: &(State, Option<Fault>), other: &(State, Option<Fault>)) {
    assert!(
        original == other,
        "{what} {}\noriginal {:x?}, {what} {:x?}\n{}from {:x?}",
        text(case),
        original.1,
        other.1,
        original.0.differences(&other.0),
        case.state.regs
    );
}
