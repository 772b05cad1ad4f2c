//! Each instruction of `insn_relocation.txt` runs at its own place and in a slot 1.5 GiB away, on
//! the processor, from the same random states: registers, flags, memory, x87 and vector state
//! must be the same.
//!
//! A row is `bytes | state | disassembly`. The field 44 33 22 11 stands for the displacement of a
//! rip-relative operand, here set to reach the data. `state` sets registers, or names one of the
//! special states of [`apply`]; [`State::random`] says what the others hold.
//! `UPDATE=1` writes the disassembly anew.

mod insn_native;

use std::fmt::Write as _;

use iced_x86::{CpuidFeature, Decoder, DecoderOptions};
use insn_native::{CODE_AT, DATA_AT, FAR_AT, MEMORY_AT, Native, Random, State};
use uprobe::insn::slot::{self, Boost, Step};
use uprobe::insn::{SlotBytes, SlotPc, classify, disassemble};

const ROWS: &str = include_str!("insn_relocation.txt");
const ROWS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/insn_relocation.txt");
const AT: u64 = CODE_AT + 0x800;
const SLOT_AT: u64 = FAR_AT + 0x40;
/// What rip-relative operands refer to.
const OPERAND_AT: u64 = DATA_AT + 0x1400;
const MARKER: [u8; 4] = [0x44, 0x33, 0x22, 0x11];
const STATES: u64 = 12;

struct Row {
    /// As in the file.
    template: Vec<u8>,
    /// With the displacement for [`AT`].
    bytes: Vec<u8>,
    state: &'static str,
    text: &'static str,
}

fn rows() -> Vec<Row> {
    let parse = |line: &'static str| {
        let mut fields = line.splitn(3, '|').map(str::trim);
        let mut field = || fields.next().unwrap_or_else(|| panic!("row {line}"));
        let template = hex(field());
        let mut bytes = template.clone();
        if let Some(at) = bytes.windows(4).position(|window| window == MARKER) {
            let displacement = OPERAND_AT.wrapping_sub(AT + bytes.len() as u64) as u32;
            bytes[at..at + 4].copy_from_slice(&displacement.to_le_bytes());
        }
        Row { template, bytes, state: field(), text: field() }
    };
    ROWS.lines().map(parse).collect()
}

fn hex(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn rows_are_disassembled_beside() {
    let mut expected = String::new();
    for row in rows() {
        let bytes: Vec<String> = row.template.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(expected, "{} | {} | {}", bytes.join(" "), row.state, disassemble(&row.template, 0));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(ROWS_PATH, &expected).unwrap();
    } else {
        assert!(expected == ROWS, "insn_relocation.txt: run with UPDATE=1");
    }
}

#[test]
fn slot_does_what_the_original_does() {
    let mut native = Native::take();
    let mut random = Random::new(1);
    let (mut ran, mut failed, mut missing) = (0, String::new(), std::collections::BTreeMap::new());
    for row in rows() {
        if let Some(feature) = missing_feature(&row.bytes) {
            *missing.entry(feature).or_insert(0) += 1;
            continue;
        }
        ran += 1;
        for _ in 0..STATES {
            let mut state = State::random(&mut random);
            apply(row.state, &mut state);
            let (original, displaced) = run_both(&mut native, &row.bytes, &state);
            if original != displaced {
                let _ = writeln!(failed, "{}\n{}", row.text, original.differences(&displaced));
                break;
            }
        }
    }
    println!("{ran} instructions ran; not on this processor: {missing:?}");
    assert!(failed.is_empty(), "original, displaced:\n{failed}");
    assert!(ran > 500, "only {ran} ran");
}

/// The state after the instruction at its own place, and after it in its slot.
fn run_both(native: &mut Native, bytes: &[u8], state: &State) -> (State, State) {
    let insn = classify(bytes, AT).unwrap_or_else(|e| panic!("{bytes:02x?}: {e}"));
    assert_eq!(insn.original(), bytes, "{}", insn.text());
    native.write(AT, bytes);
    native.write_pad(insn.next());
    let original = native.run(AT, state);

    let (mut boost, mut step) = (SlotBytes::new(), SlotBytes::new());
    Boost::build(&insn, SLOT_AT, &mut boost).unwrap_or_else(|e| panic!("{}: {e}", insn.text()));
    Step::build(&insn, SLOT_AT, &mut step).unwrap_or_else(|e| panic!("{}: {e}", insn.text()));
    assert_eq!(step.code(), [&boost.code()[..bytes.len()], &[0xcc]].concat(), "{}", insn.text());
    native.write(SLOT_AT, boost.padded());
    native.write(AT, &vec![0xcc; bytes.len()]);
    let displaced = native.run(SLOT_AT, state);

    // The step form ends where its int3 is: take the trap's part.
    let trap_at = SLOT_AT + bytes.len() as u64;
    native.write(SLOT_AT, &step.code()[..bytes.len()]);
    native.write_pad(trap_at);
    let mut stepped = native.run(SLOT_AT, state);
    match slot::step_map(&insn, SLOT_AT, stepped.regs.rip + 1) {
        Some(SlotPc::After { fix_rcx }) => {
            stepped.regs.rip = insn.next();
            stepped.regs.rcx = if fix_rcx { insn.next() } else { stepped.regs.rcx };
        }
        other => panic!("{}: trap maps to {other:?}", insn.text()),
    }
    assert!(original == stepped, "{}, step: {}", insn.text(), original.differences(&stepped));
    (original, displaced)
}

/// Sets what the row asks for.
fn apply(settings: &str, state: &mut State) {
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').unwrap();
        let number: i64 = value.parse().unwrap();
        match name {
            "rax" => state.regs.rax = number as u64,
            "rbx" => state.regs.rbx = number as u64,
            "rcx" => state.regs.rcx = number as u64,
            "rdx" => state.regs.rdx = number as u64,
            "rsi" => state.regs.rsi = number as u64,
            "r8" => state.regs.r8 = number as u64,
            "df" => state.regs.rflags |= 1 << 10,
            "same" => {
                let source = (state.regs.rsi - MEMORY_AT) as usize;
                let to = (state.regs.rdi - MEMORY_AT) as usize;
                state.memory.copy_within(source..source + 512, to);
            }
            // Vector registers hold small indexes; of the upper parts too.
            "smallvec" => state.vectors[160..416].iter_mut().enumerate().for_each(small),
            other => panic!("unknown setting {other}"),
        }
        if name == "smallvec" {
            let areas = (2..8).map(|component| std::arch::x86_64::__cpuid_count(0xd, component));
            for area in areas.filter(|area| area.eax >= 256) {
                let from = area.ebx as usize;
                state.vectors[from..from + area.eax as usize].iter_mut().enumerate().for_each(small);
            }
        }
    }
}

/// Keeps the lowest byte of each eight, and the sign of each four for masks.
fn small((offset, byte): (usize, &mut u8)) {
    *byte &= if offset % 8 == 0 { 0x3f } else { 0 };
}

/// The first feature the instruction needs that this processor lacks.
fn missing_feature(bytes: &[u8]) -> Option<String> {
    let insn = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    insn.cpuid_features().iter().find(|feature| !has(**feature)).map(|feature| format!("{feature:?}"))
}

/// Whether the processor and the kernel have it.
fn has(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    macro_rules! detect {
        ($($feature:ident => $name:tt),* $(,)?) => {
            match feature {
                $(F::$feature => std::is_x86_feature_detected!($name),)*
                // Part of x86-64, or no harm without it.
                F::INTEL8086 | F::INTEL186 | F::INTEL286 | F::INTEL386 | F::INTEL486 | F::X64 => true,
                F::FPU | F::FPU287 | F::FPU387 | F::CMOV | F::CX8 | F::CLFSH | F::CPUID => true,
                F::INTEL8086_ONLY | F::MULTIBYTENOP | F::PAUSE | F::SYSCALL | F::MMX => true,
                F::CLDEMOTE | F::PREFETCHW | F::CET_SS | F::CET_IBT => true,
                F::CLFLUSHOPT => leaf7_ebx(23),
                F::CLWB => leaf7_ebx(24),
                F::FSGSBASE => leaf7_ebx(0) && hwcap2_fsgsbase(),
                _ => false,
            }
        };
    }
    detect! {
        ADX => "adx", AES => "aes", AVX => "avx", AVX2 => "avx2", BMI1 => "bmi1", BMI2 => "bmi2",
        AVX512F => "avx512f", AVX512BW => "avx512bw", AVX512DQ => "avx512dq", AVX512VL => "avx512vl",
        AVX512CD => "avx512cd", AVX512_BITALG => "avx512bitalg", AVX512_IFMA => "avx512ifma",
        AVX512_VBMI => "avx512vbmi", AVX512_VBMI2 => "avx512vbmi2", AVX512_VNNI => "avx512vnni",
        AVX512_VPOPCNTDQ => "avx512vpopcntdq", AVX512_BF16 => "avx512bf16", CMPXCHG16B => "cmpxchg16b",
        F16C => "f16c", FMA => "fma", FXSR => "fxsr", GFNI => "gfni", LZCNT => "lzcnt", MOVBE => "movbe",
        PCLMULQDQ => "pclmulqdq", POPCNT => "popcnt", SHA => "sha", SSE => "sse", SSE2 => "sse2",
        SSE3 => "sse3", SSSE3 => "ssse3", SSE4_1 => "sse4.1", SSE4_2 => "sse4.2", SSE4A => "sse4a",
        VAES => "vaes", VPCLMULQDQ => "vpclmulqdq", XSAVE => "xsave",
    }
}

fn leaf7_ebx(bit: u32) -> bool {
    std::arch::x86_64::__cpuid_count(7, 0).ebx >> bit & 1 != 0
}

#[expect(unsafe_code, reason = "getauxval")]
fn hwcap2_fsgsbase() -> bool {
    // SAFETY: reads a word of the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & 2 != 0 }
}
