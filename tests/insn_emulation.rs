//! Every emulated form, with thousands of random operands and states: the processor and
//! `Emulation::run` must leave the same registers, flags, memory and rip.

mod insn_native;

use insn_native::{CODE_AT, DATA_AT, Native, PAD_LEN, Random, STACK_AT, State, TestMemory};
use uprobe::insn::{DisplacedInsn, EmulationFault, Way, classify};
use uprobe::regs::Regs;

/// Where the instruction lies: in the middle of the code, for branches both ways.
const AT: u64 = CODE_AT + 0x1000;

/// One random instruction, and what its state needs.
struct Case {
    bytes: Vec<u8>,
    state: State,
    /// Where it may go, besides the next instruction.
    target: Option<u64>,
}

impl Case {
    fn new(random: &mut Random) -> Self {
        Self { bytes: Vec::new(), state: State::random(random), target: None }
    }

    /// A target, clear of the instruction, that has `rest` more bytes to come; with one byte it is
    /// in reach of eight bits.
    fn set_target(&mut self, random: &mut Random, rest: u64) -> u64 {
        let short = rest == 1;
        let (from, to) = if short { (AT - 0x70, AT + 0x60) } else { (CODE_AT, AT + 0xf00) };
        let target = loop {
            let target = from + random.below(to - from);
            let overlaps = target + PAD_LEN > AT && target < AT + 16 + PAD_LEN;
            if !overlaps {
                break target;
            }
        };
        // Now and then the next instruction, as a get-pc thunk has it; its pad is there anyway.
        let next = AT + self.bytes.len() as u64 + rest;
        let target = if random.chance(16) { next } else { target };
        self.target = Some(target);
        target
    }

    fn push_relative(&mut self, random: &mut Random, short: bool) {
        let len = if short { 1 } else { 4 };
        let target = self.set_target(random, len as u64);
        let relative = target.wrapping_sub(AT + self.bytes.len() as u64 + len as u64);
        self.bytes.extend(&relative.to_le_bytes()[..len]);
    }

    /// rsp anywhere in the stack, aligned or not.
    fn move_stack(&mut self, random: &mut Random) {
        self.state.regs.rsp = STACK_AT + 0x200 + random.below(0x800);
        self.state.regs.rbp = STACK_AT + 0x200 + random.below(0x800);
    }
}

/// Runs the case both ways.
fn check(native: &mut Native, case: &Case) {
    let (insn, real, emulated) = both(native, case);
    assert!(
        real == emulated,
        "{} ({:02x?})\n real, emulated:\n{}from {:x?}",
        insn.text(),
        case.bytes,
        real.differences(&emulated),
        case.state.regs
    );
}

fn both(native: &mut Native, case: &Case) -> (DisplacedInsn, State, State) {
    let insn = classify(&case.bytes, AT).unwrap_or_else(|e| panic!("{:02x?}: {e}", case.bytes));
    assert_eq!(insn.original(), case.bytes, "{}", insn.text());
    let Way::Emulate(emulation) = insn.way else {
        panic!("{} ({:02x?}) is not emulated", insn.text(), case.bytes)
    };
    if let Some(target) = case.target {
        native.write_pad(target);
    }
    native.write(AT, &case.bytes);
    native.write_pad(insn.next());

    let mut start = case.state.clone();
    start.regs.rip = AT;
    let real = native.run(AT, &start);

    let mut emulated = start.clone();
    emulated.vectors.clone_from(&real.vectors);
    let memory = TestMemory(std::cell::RefCell::new(start.memory.clone()));
    emulation.run(&mut emulated.regs, &memory, insn.next()).expect("its memory can be accessed");
    emulated.memory = memory.0.into_inner();
    (insn, real, emulated)
}

/// `count` cases of a form.
fn differential(seed: u64, count: u32, form: fn(&mut Random, &mut Case)) {
    let mut native = Native::take();
    let mut random = Random::new(seed);
    for _ in 0..count {
        let mut case = Case::new(&mut random);
        form(&mut random, &mut case);
        check(&mut native, &case);
    }
}

/// Prefixes that change nothing, the operand size prefix, REX; the caller's opcode follows.
fn prefixes(random: &mut Random, case: &mut Case, operand_size: bool) {
    if random.chance(4) {
        case.bytes.push(random.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf2, 0xf3]));
    }
    if operand_size && random.chance(4) {
        case.bytes.push(0x66);
    }
    if random.chance(8) {
        // A REX prefix that isn't last counts for nothing.
        case.bytes.extend([0x48, 0x2e]);
    }
    if random.chance(2) {
        case.bytes.push(0x40 | random.byte() & 15);
    }
}

/// One of `legacy` and a REX prefix, each or not; 66 only where REX.W takes it back.
fn branch_prefixes(random: &mut Random, case: &mut Case, legacy: &[u8]) -> Option<u8> {
    if random.chance(3) {
        case.bytes.push(random.pick(legacy));
    }
    let rex = random.chance(2).then(|| 0x40 | random.byte() & 15);
    if rex.is_some_and(|rex| rex & 8 != 0) && random.chance(3) {
        case.bytes.extend([0x66, 0x66]);
    }
    case.bytes.extend(rex);
    rex
}

fn is_word(case: &Case) -> bool {
    let rex = case.bytes.last().is_some_and(|last| last & 0xf8 == 0x48);
    case.bytes.contains(&0x66) && !rex
}

fn registers(random: &mut Random) -> u8 {
    0xc0 | random.byte()
}

fn immediate(random: &mut Random, case: &mut Case, len: usize) {
    let word = random.word();
    case.bytes.extend(&word.to_le_bytes()[..len]);
}

/// Length of an immediate of up to 32 bits.
fn immediate_len(case: &Case) -> usize {
    if is_word(case) { 2 } else { 4 }
}

#[test]
fn arithmetic_of_registers() {
    differential(1, 30_000, |random, case| {
        prefixes(random, case, true);
        let opcode = (random.byte() & 0x38) | (random.byte() & 3);
        case.bytes.extend([opcode, registers(random)]);
    });
}

#[test]
fn arithmetic_with_immediates() {
    differential(2, 30_000, |random, case| {
        prefixes(random, case, true);
        let dword = immediate_len(case);
        let op = random.byte() & 0x38;
        match random.below(5) {
            0 => {
                case.bytes.extend([0x80, registers(random) & 0xc7 | op]);
                immediate(random, case, 1);
            }
            1 => {
                case.bytes.extend([0x81, registers(random) & 0xc7 | op]);
                immediate(random, case, dword);
            }
            2 => {
                case.bytes.extend([0x83, registers(random) & 0xc7 | op]);
                immediate(random, case, 1);
            }
            3 => {
                case.bytes.push(op | 4);
                immediate(random, case, 1);
            }
            _ => {
                case.bytes.push(op | 5);
                immediate(random, case, dword);
            }
        }
    });
}

#[test]
fn test_of_registers_and_immediates() {
    differential(3, 20_000, |random, case| {
        prefixes(random, case, true);
        let dword = immediate_len(case);
        let which = random.byte() & 8;
        match random.below(5) {
            0 => case.bytes.extend([random.pick(&[0x84, 0x85]), registers(random)]),
            1 => {
                case.bytes.push(0xa8);
                immediate(random, case, 1);
            }
            2 => {
                case.bytes.push(0xa9);
                immediate(random, case, dword);
            }
            3 => {
                case.bytes.extend([0xf6, registers(random) & 0xc7 | which]);
                immediate(random, case, 1);
            }
            _ => {
                case.bytes.extend([0xf7, registers(random) & 0xc7 | which]);
                immediate(random, case, dword);
            }
        }
    });
}

#[test]
fn inc_dec_not_neg() {
    differential(4, 20_000, |random, case| {
        prefixes(random, case, true);
        let (opcodes, op) = if random.chance(2) {
            ([0xfe, 0xff], random.pick(&[0, 8]))
        } else {
            ([0xf6, 0xf7], random.pick(&[0x10, 0x18]))
        };
        case.bytes.extend([random.pick(&opcodes), registers(random) & 0xc7 | op]);
    });
}

#[test]
fn moves_of_registers_and_immediates() {
    differential(5, 30_000, |random, case| {
        prefixes(random, case, true);
        let rex_w = case.bytes.last().is_some_and(|last| last & 0xf8 == 0x48);
        let dword = immediate_len(case);
        let low = random.byte() & 7;
        match random.below(5) {
            0 => case.bytes.extend([0x88 | low & 3, registers(random)]),
            1 => {
                case.bytes.push(0xb0 | low);
                immediate(random, case, 1);
            }
            2 => {
                case.bytes.push(0xb8 | low);
                immediate(random, case, if rex_w { 8 } else { dword });
            }
            3 => {
                case.bytes.extend([0xc6, registers(random) & 0xc7]);
                immediate(random, case, 1);
            }
            _ => {
                case.bytes.extend([0xc7, registers(random) & 0xc7]);
                immediate(random, case, dword);
            }
        }
    });
}

#[test]
fn moves_that_extend() {
    differential(6, 20_000, |random, case| {
        prefixes(random, case, true);
        match random.below(3) {
            0 => case.bytes.extend([0x63, registers(random)]),
            1 => case.bytes.push(random.pick(&[0x98, 0x99])),
            _ => case.bytes.extend([0x0f, random.pick(&[0xb6, 0xb7, 0xbe, 0xbf]), registers(random)]),
        }
    });
}

#[test]
fn moves_and_sets_by_condition() {
    differential(7, 20_000, |random, case| {
        prefixes(random, case, true);
        let opcode = random.pick(&[0x40, 0x90]) | random.byte() & 15;
        case.bytes.extend([0x0f, opcode, registers(random)]);
    });
}

#[test]
fn exchanges() {
    differential(8, 10_000, |random, case| {
        prefixes(random, case, true);
        if random.chance(2) {
            // f3 90 is pause.
            case.bytes.retain(|byte| *byte != 0xf3);
            case.bytes.push(0x90 | random.byte() & 7);
        } else {
            case.bytes.extend([random.pick(&[0x86, 0x87]), registers(random)]);
        }
    });
}

#[test]
fn lea_of_every_address_form() {
    differential(9, 30_000, |random, case| {
        if random.chance(3) {
            case.bytes.push(0x67);
        }
        prefixes(random, case, true);
        case.bytes.push(0x8d);
        random_address(random, case);
    });
}

/// A ModRM byte with a memory operand, and what follows it.
fn random_address(random: &mut Random, case: &mut Case) {
    let modrm = loop {
        let modrm = random.byte();
        if modrm < 0xc0 {
            break modrm;
        }
    };
    case.bytes.push(modrm);
    let mut displacement = match modrm >> 6 {
        0 if modrm & 7 == 5 => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    if modrm & 7 == 4 {
        let sib = random.byte();
        case.bytes.push(sib);
        if modrm >> 6 == 0 && sib & 7 == 5 {
            displacement = 4;
        }
    }
    immediate(random, case, displacement);
}

#[test]
fn nops() {
    differential(10, 10_000, |random, case| {
        prefixes(random, case, true);
        match random.below(4) {
            0 => {
                // REX.B makes it an exchange of r8; that is tested too.
                case.bytes.retain(|byte| *byte != 0xf3);
                case.bytes.push(0x90);
            }
            1 => case.bytes = vec![0xf3, 0x0f, 0x1e, random.pick(&[0xfa, 0xfb])],
            2 => {
                case.bytes.extend([0x0f, 0x1f, registers(random) & 0xc7]);
            }
            _ => {
                case.bytes = [0x66, 0x66, 0x2e, 0x67].into_iter().filter(|_| random.chance(2)).collect();
                case.bytes.extend([0x0f, 0x1f]);
                let modrm = case.bytes.len();
                random_address(random, case);
                case.bytes[modrm] &= 0xc7;
            }
        }
    });
}

#[test]
fn pushes() {
    differential(11, 20_000, |random, case| {
        prefixes(random, case, true);
        case.move_stack(random);
        let dword = immediate_len(case);
        match random.below(4) {
            0 => case.bytes.push(0x50 | random.byte() & 7),
            1 => case.bytes.extend([0xff, 0xf0 | random.byte() & 7]),
            2 => {
                case.bytes.push(0x6a);
                immediate(random, case, 1);
            }
            _ => {
                case.bytes.push(0x68);
                immediate(random, case, dword);
            }
        }
    });
}

#[test]
fn pops_and_leave() {
    differential(12, 20_000, |random, case| {
        case.move_stack(random);
        match random.below(6) {
            0 => case.bytes.push(0xc9),
            1 => {
                prefixes(random, case, true);
                case.bytes.extend([0x8f, 0xc0 | random.byte() & 7]);
            }
            _ => {
                prefixes(random, case, true);
                case.bytes.push(0x58 | random.byte() & 7);
            }
        }
    });
}

#[test]
fn jumps_by_condition() {
    differential(13, 20_000, |random, case| {
        // Hints, and bnd.
        branch_prefixes(random, case, &[0x2e, 0x3e, 0xf2, 0xf3]);
        let condition = random.byte() & 15;
        let short = random.chance(2);
        if short {
            case.bytes.push(0x70 | condition);
        } else {
            case.bytes.extend([0x0f, 0x80 | condition]);
        }
        case.push_relative(random, short);
    });
}

#[test]
fn loops() {
    differential(14, 20_000, |random, case| {
        if random.chance(3) {
            case.bytes.push(0x67);
        }
        let conditional = random.chance(2);
        let repeats: &[u8] = if conditional { &[0x2e] } else { &[0xf2, 0xf3] };
        branch_prefixes(random, case, repeats);
        case.state.regs.rcx = match random.below(4) {
            0 => random.below(3),
            1 => random.next() << 32 | random.below(3),
            2 => random.below(2) << 32,
            _ => random.next(),
        };
        case.bytes.push(random.pick(if conditional { &[0xe0, 0xe1] } else { &[0xe2, 0xe3] }));
        case.push_relative(random, true);
    });
}

#[test]
fn jumps_and_calls() {
    differential(15, 20_000, |random, case| {
        case.move_stack(random);
        branch_prefixes(random, case, &[0xf2, 0xf3, 0x3e, 0x67]);
        let opcode = random.pick(&[0xe8, 0xe9, 0xeb]);
        case.bytes.push(opcode);
        case.push_relative(random, opcode == 0xeb);
    });
}

#[test]
fn jumps_and_calls_through_registers() {
    differential(16, 20_000, |random, case| {
        case.move_stack(random);
        let rex = branch_prefixes(random, case, &[0xf2, 0xf3, 0x3e, 0x67]);
        let jump = random.chance(2);
        // rsp itself as the target can only be jumped to: a call would push over the pad.
        let reg = loop {
            let reg = random.byte() & 7;
            if jump || reg != 4 || rex.is_some_and(|rex| rex & 1 != 0) {
                break reg;
            }
        };
        case.bytes.extend([0xff, if jump { 0xe0 } else { 0xd0 } | reg]);
        let target = case.set_target(random, 0);
        let number = reg | rex.map_or(0, |rex| (rex & 1) << 3);
        *gpr(&mut case.state.regs, number) = target;
    });
}

#[test]
fn jumps_and_calls_through_memory() {
    differential(17, 30_000, |random, case| {
        case.move_stack(random);
        let narrow = random.chance(3);
        if narrow {
            case.bytes.push(0x67);
        }
        let rex = branch_prefixes(random, case, &[0xf2, 0xf3, 0x3e]);
        case.bytes.push(0xff);
        let at = pointer_operand(random, case, rex.unwrap_or(0), narrow);
        // The pad's place is known before the length: no target at the next instruction here.
        let target = CODE_AT + random.below(0xf00);
        case.target = Some(target);
        case.state.poke(at, target);
    });
}

/// A ModRM operand (/2 or /4) whose address is in the data or the stack; returns the address.
fn pointer_operand(random: &mut Random, case: &mut Case, rex: u8, narrow: bool) -> u64 {
    let op = random.pick(&[0x10, 0x20]);
    let (form, rm, sib) = loop {
        let (form, rm, sib) = (random.below(3) as u8, random.byte() & 7, random.byte());
        let (base, index) = (sib & 7 | (rex & 1) << 3, sib >> 3 & 7 | (rex & 2) << 2);
        // The base as its own index has no solution in general; lea tests it.
        if rm != 4 || base != index {
            break (form, rm, sib);
        }
    };
    case.bytes.push(form << 6 | op | rm);
    let mut at = DATA_AT + random.below(0x1000);
    if form == 0 && rm == 5 {
        let next = AT + case.bytes.len() as u64 + 4;
        case.bytes.extend((at.wrapping_sub(next) as u32).to_le_bytes());
        return at;
    }
    let garbage = |random: &mut Random| if narrow { random.next() << 32 } else { 0 };
    let mut index = 0;
    if rm == 4 {
        case.bytes.push(sib);
        let number = sib >> 3 & 7 | (rex & 2) << 2;
        if number != 4 {
            let small = random.below(256);
            *gpr(&mut case.state.regs, number) = small | garbage(random);
            index = small << (sib >> 6);
        }
        if form == 0 && sib & 7 == 5 {
            case.bytes.extend((at.wrapping_sub(index) as u32).to_le_bytes());
            return at;
        }
    }
    let number = if rm == 4 { sib & 7 } else { rm } | (rex & 1) << 3;
    let mut displacement =
        [0, i64::from(random.byte() as i8), i64::from(random.next() as i32)][form as usize];
    if number == 4 {
        // rsp stays in the stack: a call pushes there.
        at = STACK_AT + 0x1000 + random.below(0x800);
        displacement = displacement.clamp(-128, 127);
    }
    case.bytes.extend(&displacement.to_le_bytes()[..[0, 1, 4][form as usize]]);
    let base = at.wrapping_sub(index).wrapping_sub(displacement as u64);
    *gpr(&mut case.state.regs, number) = if number == 4 { base } else { base.wrapping_add(garbage(random)) };
    at
}

/// The register by its number in the encoding.
fn gpr(regs: &mut Regs, number: u8) -> &mut u64 {
    match number {
        0 => &mut regs.rax,
        1 => &mut regs.rcx,
        2 => &mut regs.rdx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsp,
        5 => &mut regs.rbp,
        6 => &mut regs.rsi,
        7 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        _ => &mut regs.r15,
    }
}

#[test]
fn returns() {
    differential(18, 20_000, |random, case| {
        case.move_stack(random);
        branch_prefixes(random, case, &[0xf2, 0xf3, 0x67, 0x2e]);
        if random.chance(2) {
            case.bytes.push(0xc2);
            immediate(random, case, 2);
        } else {
            case.bytes.push(0xc3);
        }
        let target = case.set_target(random, 0);
        let rsp = case.state.regs.rsp;
        case.state.poke(rsp, target);
    });
}

#[test]
fn faults_change_no_register() {
    const STACK_END: u64 = insn_native::MEMORY_AT + insn_native::MEMORY_LEN as u64;
    let fault = |address, write| EmulationFault { address, write };
    // bytes, rsp, rbp, rax, expected
    let rows: &[(&[u8], u64, u64, u64, EmulationFault)] = &[
        (&[0x50], 0x1000, 0, 0, fault(0xff8, true)),       // push %rax
        (&[0x66, 0x50], 0x1000, 0, 0, fault(0xffe, true)), // push %ax
        (&[0x58], 0x1000, 0, 0, fault(0x1000, false)),     // pop %rax
        (&[0x5c], STACK_END - 3, 0, 0, fault(STACK_END, false)), // pop %rsp, across the end
        (&[0xc9], DATA_AT, 0x2000, 0, fault(0x2000, false)), // leave
        (&[0xc3], 0x1000, 0, 0, fault(0x1000, false)),     // ret
        (&[0xc2, 8, 0], 0x1000, 0, 0, fault(0x1000, false)), // ret $8
        (&[0xe8, 0, 0, 0, 0], 0x1000, 0, 0, fault(0xff8, true)), // call
        (&[0xff, 0xd0], 0x1000, 0, AT, fault(0xff8, true)), // call *%rax
        (&[0xff, 0x10], DATA_AT + 8, 0, 0x3000, fault(0x3000, false)), // call *(%rax)
        (&[0xff, 0x10], 0x1000, 0, DATA_AT, fault(0xff8, true)), // call *(%rax), no stack
        (&[0xff, 0x20], DATA_AT, 0, u64::MAX - 3, fault(u64::MAX - 3, false)), // jmp *(%rax), wraps
    ];
    for &(bytes, rsp, rbp, rax, expected) in rows {
        let mut state = State::random(&mut Random::new(19));
        (state.regs.rsp, state.regs.rbp, state.regs.rax, state.regs.rip) = (rsp, rbp, rax, AT);
        let insn = classify(bytes, AT).unwrap();
        let Way::Emulate(emulation) = insn.way else { panic!("{} is not emulated", insn.text()) };
        let memory = TestMemory(std::cell::RefCell::new(state.memory.clone()));
        let mut regs = state.regs;
        assert_eq!(emulation.run(&mut regs, &memory, insn.next()), Err(expected), "{}", insn.text());
        assert_eq!(regs, state.regs, "{}", insn.text());
        assert!(memory.0.into_inner() == state.memory, "{}", insn.text());
    }
}
