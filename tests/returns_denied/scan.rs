//! Reads the code of a function and says what it does with its return address and its stack.
//!
//! Registers are followed as distances from the CFA, so that the return address is what lies at −8:
//! rsp, rbp or r10 by the frame description, their copies by following `mov`, `lea`, `push` and `add`
//! up to the next place that something may jump to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register, UsedMemory,
};
use uprobe::addr::LinkAddr;
use uprobe::elf::{BoundsFrom, ElfFile, Function, StdFiles, SymbolSource};
use uprobe::insn::disassemble;

use super::frames::{Base, Frames};

/// Where the return address is, from the CFA.
const SLOT: i64 = -8;

/// What a function does that not every function does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trait {
    /// Loads it, by whatever register.
    ReadsReturnAddress,
    /// Stores to where it is.
    WritesReturnAddress,
    /// Takes it off the stack.
    PopsReturnAddress,
    /// Computes where it is.
    AddressesReturnSlot,
    /// Loads rsp with what is not a place in its own frame.
    SwitchesStack,
    /// No `ret`, and no jump to a function that has one.
    NeverReturns,
    /// What is on top of the stack at its first instruction is no return address.
    NoReturnAddress,
}

impl fmt::Display for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadsReturnAddress => "reads",
            Self::WritesReturnAddress => "writes",
            Self::PopsReturnAddress => "pops",
            Self::AddressesReturnSlot => "addresses",
            Self::SwitchesStack => "switches",
            Self::NeverReturns => "never-returns",
            Self::NoReturnAddress => "no-return-address",
        })
    }
}

/// A function with at least one trait.
#[derive(Debug)]
pub struct Finding {
    pub names: Vec<String>,
    /// In `.dynsym`: others can call it.
    pub is_exported: bool,
    /// Each with the first instruction that shows it.
    pub traits: BTreeMap<Trait, String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:", self.names.join("="), if self.is_exported { "" } else { " (local)" })?;
        for (what, evidence) in &self.traits {
            write!(f, " {what}")?;
            if !evidence.is_empty() {
                write!(f, " [{evidence}]")?;
            }
        }
        Ok(())
    }
}

/// How control leaves a function.
#[derive(Debug, Default)]
struct Exits {
    returns: bool,
    /// To an address that only the running program knows: may return.
    unknown: bool,
    jumps: BTreeSet<u64>,
}

/// All functions of the file that have a trait, in address order.
pub fn scan(file: &ElfFile) -> Vec<Finding> {
    let frames = Frames::of(file);
    let mut found = Vec::new();
    let mut exits: BTreeMap<u64, (u64, Exits)> = BTreeMap::new();
    for function in file.functions(&StdFiles) {
        let names: Vec<String> = file.names(function).map(str::to_owned).collect();
        let Some(insns) = decode(file, extent(file, function)) else { continue };
        let (traits, leaves) = follow(&insns, &frames, function.link.0, file);
        let end = insns.last().map_or(function.link.0, Instruction::next_ip);
        exits.insert(function.link.0, (end, leaves));
        let is_exported = function.source == SymbolSource::Dynsym;
        found.push((function.link.0, Finding { names, is_exported, traits }));
    }
    add_nameless(file, &frames, &mut exits);
    let never = never_return(&exits);
    for (at, finding) in &mut found {
        // The part of a function that is rarely run is no function.
        if finding.names.iter().all(|name| name.ends_with(".cold")) {
            continue;
        }
        if never.contains(at) {
            finding.traits.insert(Trait::NeverReturns, String::new());
        }
        if frames.is_outermost(*at) || !matches!(frames.cfa_at(*at), None | Some((Base::Rsp, 8))) {
            finding.traits.insert(Trait::NoReturnAddress, String::new());
        }
    }
    found.into_iter().map(|(_, finding)| finding).filter(|finding| !finding.traits.is_empty()).collect()
}

/// Where the function begins and ends.
fn extent(file: &ElfFile, function: &Function) -> (u64, u64) {
    let start = function.link.0;
    match function.size {
        0 => (start, file.bounds_at(function.link).map_or(start, |bounds| bounds.end.0)),
        size => (start, start + size),
    }
}

/// The instructions up to the end, or to what can't be decoded.
fn decode(file: &ElfFile, (start, end): (u64, u64)) -> Option<Vec<Instruction>> {
    let bytes = file.bytes_at(LinkAddr(start), (end - start) as usize);
    let decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let insns: Vec<Instruction> = decoder.into_iter().take_while(|insn| !insn.is_invalid()).collect();
    (!insns.is_empty()).then_some(insns)
}

/// Adds the parts without a name that functions jump to: in a stripped file what is rarely run.
fn add_nameless(file: &ElfFile, frames: &Frames, exits: &mut BTreeMap<u64, (u64, Exits)>) {
    let targets: Vec<u64> = exits.values().flat_map(|(_, exit)| exit.jumps.iter().copied()).collect();
    for at in targets {
        if covering(exits, at).is_some() {
            continue;
        }
        let Some(bounds) = file.bounds_at(LinkAddr(at)).filter(|b| b.from == BoundsFrom::Fde) else {
            continue;
        };
        let Some(insns) = decode(file, (bounds.start.0, bounds.end.0)) else { continue };
        let (_, leaves) = follow(&insns, frames, bounds.start.0, file);
        exits.insert(bounds.start.0, (bounds.end.0, leaves));
    }
}

/// The start of the function that covers `at`.
fn covering(exits: &BTreeMap<u64, (u64, Exits)>, at: u64) -> Option<u64> {
    let (start, (end, _)) = exits.range(..=at).next_back()?;
    (at < *end).then_some(*start)
}

/// Those that neither return nor jump to what does.
fn never_return(exits: &BTreeMap<u64, (u64, Exits)>) -> BTreeSet<u64> {
    let mut never: BTreeSet<u64> =
        exits.iter().filter(|(_, (_, e))| !e.returns && !e.unknown).map(|(at, _)| *at).collect();
    loop {
        let before = never.len();
        let keep = |at: &u64| {
            let (_, exit) = &exits[at];
            exit.jumps.iter().all(|to| covering(exits, *to).is_some_and(|to| never.contains(&to)))
        };
        let still: BTreeSet<u64> = never.iter().copied().filter(keep).collect();
        never = still;
        if never.len() == before {
            return never;
        }
    }
}

/// What is known of the registers: distance from the CFA.
#[derive(Default)]
struct Known(HashMap<Register, i64>);

impl Known {
    fn get(&self, register: Register) -> Option<i64> {
        self.0.get(&register).copied()
    }

    fn set(&mut self, register: Register, distance: Option<i64>) {
        match distance {
            Some(distance) => self.0.insert(register, distance),
            None => self.0.remove(&register),
        };
    }

    /// `base + displacement`, if that is a distance.
    fn address(&self, base: Register, index: Register, displacement: u64) -> Option<i64> {
        (index == Register::None)
            .then(|| self.get(base))
            .flatten()
            .map(|distance| distance.wrapping_add(displacement.cast_signed()))
    }

    /// What the frame description says holds at this instruction.
    fn take(&mut self, cfa: Option<(Base, i64)>) {
        let register = match cfa {
            Some((Base::Rsp, _)) => Register::RSP,
            Some((Base::Rbp, _)) => Register::RBP,
            Some((Base::R10, _)) => Register::R10,
            Some((Base::Other, _)) | None => return,
        };
        self.set(register, cfa.map(|(_, offset)| -offset));
    }
}

fn follow(
    insns: &[Instruction],
    frames: &Frames,
    start: u64,
    file: &ElfFile,
) -> (BTreeMap<Trait, String>, Exits) {
    let end = insns.last().map_or(start, Instruction::next_ip);
    let is_inside = |at: u64| (start..end).contains(&at);
    let targets: BTreeSet<u64> = insns.iter().filter_map(branch_target).collect();
    let saved: Vec<&Instruction> = insns.iter().filter(|insn| saves_rsp(insn)).collect();
    let mut factory = InstructionInfoFactory::new();
    let mut known = Known::default();
    let mut traits = BTreeMap::new();
    let mut exits = Exits::default();
    if frames.cfa_at(start).is_none() {
        known.set(Register::RSP, Some(SLOT));
    }
    for insn in insns {
        let cfa = frames.cfa_at(insn.ip());
        if targets.contains(&insn.ip()) && cfa.is_some() {
            known.0.clear();
        }
        known.take(cfa);
        let mut note = |what: Trait| {
            let len = insn.len();
            let text = || disassemble(file.bytes_at(LinkAddr(insn.ip()), len), insn.ip());
            traits.entry(what).or_insert_with(|| format!("+{:#x} {}", insn.ip() - start, text()));
        };
        let info = factory.info(insn);
        for memory in info.used_memory() {
            for what in touches_slot(insn, memory, &known) {
                note(what);
            }
        }
        if is_stack_switch(insn, &known) && !saved.iter().any(|save| restores(insn, save)) {
            note(Trait::SwitchesStack);
        }
        let addresses = insn.mnemonic() == Mnemonic::Lea && insn.op0_register() != Register::RSP;
        if addresses && lea(insn, &known) == Some(SLOT) {
            note(Trait::AddressesReturnSlot);
        }
        let writes: Vec<Register> = info
            .used_registers()
            .iter()
            .filter(|used| !matches!(used.access(), OpAccess::Read | OpAccess::CondRead))
            .map(|used| used.register().full_register())
            .collect();
        step(insn, &writes, &mut known);
        match insn.flow_control() {
            FlowControl::Return => exits.returns = true,
            FlowControl::IndirectBranch => exits.unknown = true,
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                exits.jumps.extend(branch_target(insn).filter(|to| !is_inside(*to)));
            }
            _ => {}
        }
        if matches!(
            insn.flow_control(),
            FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
        ) {
            known.0.clear();
        }
    }
    exits.jumps.extend(insns.last().filter(|last| falls_through(last)).map(|_| end));
    (traits, exits)
}

/// Whether what follows the function's last instruction is run: some functions of assembly run into
/// the next. A call there never returns, and a system call there ends something.
fn falls_through(last: &Instruction) -> bool {
    matches!(last.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch)
        && !matches!(last.mnemonic(), Mnemonic::Hlt | Mnemonic::Syscall)
}

/// `mov %rsp, SOMEWHERE`.
fn saves_rsp(insn: &Instruction) -> bool {
    insn.mnemonic() == Mnemonic::Mov && insn.op1_register() == Register::RSP
}

/// Whether `insn` loads rsp from where `save` stored it: how arrays of variable size are left.
fn restores(insn: &Instruction, save: &Instruction) -> bool {
    if insn.mnemonic() != Mnemonic::Mov || insn.op1_kind() != save.op0_kind() {
        return false;
    }
    match insn.op1_kind() {
        OpKind::Register => insn.op1_register() == save.op0_register(),
        OpKind::Memory => {
            (insn.memory_base(), insn.memory_index(), insn.memory_displacement64())
                == (save.memory_base(), save.memory_index(), save.memory_displacement64())
        }
        _ => false,
    }
}

fn branch_target(insn: &Instruction) -> Option<u64> {
    (insn.op0_kind() == OpKind::NearBranch64 && insn.flow_control() != FlowControl::Call)
        .then(|| insn.near_branch64())
}

/// What an access to memory means, if it is to the return address.
fn touches_slot(insn: &Instruction, memory: &UsedMemory, known: &Known) -> Vec<Trait> {
    let size = memory.memory_size().size() as i64;
    let Some(from) = known.address(memory.base(), memory.index(), memory.displacement()) else {
        return Vec::new();
    };
    if from + size <= SLOT || from >= 0 || insn.flow_control() == FlowControl::Return {
        return Vec::new();
    }
    // `call` pushes the return address of what it calls.
    if matches!(insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall) && from < SLOT {
        return Vec::new();
    }
    let is_pop = insn.mnemonic() == Mnemonic::Pop && memory.base() == Register::RSP;
    match memory.access() {
        OpAccess::Read | OpAccess::CondRead if is_pop => vec![Trait::PopsReturnAddress],
        OpAccess::Read | OpAccess::CondRead => vec![Trait::ReadsReturnAddress],
        OpAccess::Write | OpAccess::CondWrite => vec![Trait::WritesReturnAddress],
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
            vec![Trait::ReadsReturnAddress, Trait::WritesReturnAddress]
        }
        OpAccess::None | OpAccess::NoMemAccess => Vec::new(),
    }
}

fn lea(insn: &Instruction, known: &Known) -> Option<i64> {
    known.address(insn.memory_base(), insn.memory_index(), insn.memory_displacement64())
}

/// Whether rsp becomes something that is no place in the function's frame.
fn is_stack_switch(insn: &Instruction, known: &Known) -> bool {
    if insn.op_count() == 0 || insn.op0_kind() != OpKind::Register {
        return false;
    }
    let into_rsp = insn.op0_register() == Register::RSP;
    match insn.mnemonic() {
        Mnemonic::Mov if into_rsp => {
            let from = insn.op1_register();
            // A frame pointer that no description names is one nevertheless.
            from != Register::RBP && (from == Register::None || known.get(from).is_none())
        }
        Mnemonic::Lea if into_rsp => {
            !matches!(insn.memory_base(), Register::RSP | Register::RBP) && lea(insn, known).is_none()
        }
        Mnemonic::Pop => into_rsp,
        Mnemonic::Xchg => into_rsp || insn.op1_register() == Register::RSP,
        _ => false,
    }
}

/// The instruction's effect on what is known.
fn step(insn: &Instruction, writes: &[Register], known: &mut Known) {
    let rsp = known.get(Register::RSP);
    let into = if insn.op_count() > 0 { insn.op0_register() } else { Register::None };
    let immediate = |insn: &Instruction| match insn.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(insn.immediate(1).cast_signed()),
        _ => None,
    };
    let distance = match insn.mnemonic() {
        Mnemonic::Mov if insn.op1_kind() == OpKind::Register => known.get(insn.op1_register()),
        Mnemonic::Lea => lea(insn, known),
        Mnemonic::Add => known.get(into).zip(immediate(insn)).map(|(at, by)| at.wrapping_add(by)),
        Mnemonic::Sub => known.get(into).zip(immediate(insn)).map(|(at, by)| at.wrapping_sub(by)),
        _ => None,
    };
    let rsp_after = match insn.mnemonic() {
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Pushfq | Mnemonic::Popfq => {
            rsp.map(|at| at + i64::from(insn.stack_pointer_increment()))
        }
        Mnemonic::Call => rsp,
        _ if into == Register::RSP => distance,
        _ if writes.contains(&Register::RSP) => None,
        _ => rsp,
    };
    for register in writes {
        known.set(*register, None);
    }
    if matches!(insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
        use Register::{R8, R9, R10, R11, RAX, RCX, RDI, RDX, RSI};
        for register in [RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11] {
            known.set(register, None);
        }
    }
    if into != Register::None && into.is_gpr64() && writes.contains(&into) {
        known.set(into, distance);
    }
    known.set(Register::RSP, rsp_after);
}
