//! The first one to four instructions of every function of libc, at their own place and relocated
//! 1.5 GiB away, on the processor, from the same random states.
//!
//! Branches are turned to a pad and rip-relative operands to the data, at their own lengths. What a
//! random state can't run is left out and counted: memory through other registers than those that
//! point at some, division, and what is not the same twice.

mod elf_support;
mod insn_native;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use elf_support::{LIBC, parse};
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use insn_native::{CODE_AT, DATA_AT, FAR_AT, Native, Random, State};
use uprobe::elf::StdFiles;
use uprobe::insn::{Code, relocate};

const AT: u64 = CODE_AT + 0x800;
const PAD: u64 = AT + 0x60;
const OPERAND_AT: u64 = DATA_AT + 0x1400;
const MAX_INSNS: usize = 4;

/// As many instructions of `code` as can run, made to refer to our memory; and why it ends there.
fn runnable(code: &[u8]) -> (Vec<u8>, usize, Option<&'static str>) {
    let mut bytes = code[..code.len().min(64)].to_vec();
    let mut pointers = vec![Register::RSP, Register::RBP, Register::RBX, Register::RSI, Register::RDI];
    let mut factory = InstructionInfoFactory::new();
    let (mut len, mut count) = (0, 0);
    while count < MAX_INSNS && len < bytes.len() {
        let mut decoder = Decoder::with_ip(64, &bytes[len..], AT + len as u64, DecoderOptions::NONE);
        let insn = decoder.decode();
        if insn.is_invalid() {
            break;
        }
        let offsets = decoder.get_constant_offsets(&insn);
        if let Some(why) = unfit(&insn, &pointers) {
            return (bytes[..len].to_vec(), count, Some(why));
        }
        let end = len + insn.len();
        let next = AT + end as u64;
        if insn.is_ip_rel_memory_operand() {
            let field = len + offsets.displacement_offset();
            bytes[field..field + 4].copy_from_slice(&(OPERAND_AT.wrapping_sub(next) as u32).to_le_bytes());
        }
        if insn.op0_kind() == OpKind::NearBranch64 {
            let field = len + offsets.immediate_offset();
            let relative = PAD.wrapping_sub(next).to_le_bytes();
            bytes[field..end].copy_from_slice(&relative[..end - field]);
        }
        for used in factory.info(&insn).used_registers() {
            let moves = used.access() != OpAccess::Read && used.access() != OpAccess::CondRead;
            let full = used.register().full_register();
            if moves && full != Register::RSP {
                pointers.retain(|register| *register != full);
            }
        }
        (len, count) = (end, count + 1);
    }
    (bytes[..len].to_vec(), count, None)
}

/// Why a random state can't run it.
fn unfit(insn: &iced_x86::Instruction, pointers: &[Register]) -> Option<&'static str> {
    use Mnemonic as M;
    let in_memory = |index| insn.op_kind(index) == OpKind::Memory;
    let memory =
        (0..insn.op_count()).any(in_memory) && insn.mnemonic() != M::Lea && insn.mnemonic() != M::Nop;
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let small = (-0x100..0x100).contains(&(insn.memory_displacement64() as i64));
    let moves_rsp = insn.op_count() > 0 && insn.op0_register().full_register() == Register::RSP;
    match insn.mnemonic() {
        M::Div | M::Idiv => Some("division"),
        M::Rdtsc | M::Rdtscp | M::Rdrand | M::Rdseed | M::Rdpid => Some("never the same"),
        M::Syscall
        | M::Xbegin
        | M::Xabort
        | M::Xtest
        | M::Xsave
        | M::Xsavec
        | M::Xrstor
        | M::Hlt
        | M::Ud2 => Some("system"),
        M::Call | M::Jmp if insn.op0_kind() != OpKind::NearBranch64 => Some("indirect branch"),
        // The word at rsp is no address.
        M::Ret => Some("return"),
        M::Popfq | M::Leave => Some("stack from memory"),
        M::Sub | M::Add if moves_rsp && insn.op1_kind() != OpKind::Register => {
            (insn.immediate(1).wrapping_add(0x200) > 0x400).then_some("large frame")
        }
        M::Push | M::Pop if !moves_rsp => None,
        _ if moves_rsp && insn.op0_kind() == OpKind::Register && insn.mnemonic() != M::Test => {
            Some("moves rsp")
        }
        _ if insn.memory_segment() == Register::FS && base == Register::None && index == Register::None => {
            (in_memory(0) && insn.mnemonic() != M::Cmp).then_some("writes to thread storage")
        }
        _ if memory && insn.is_ip_rel_memory_operand() => None,
        _ if memory && (!pointers.contains(&base) || index != Register::None || !small) => {
            Some("memory through another register")
        }
        _ if insn.is_string_instruction() => Some("string"),
        _ => None,
    }
}

#[test]
fn relocated_prologues_of_libc_do_what_they_did() {
    let libc = parse(Path::new(LIBC));
    let mut native = Native::take();
    native.write_pad(PAD);
    let mut random = Random::new(3);
    let (mut seen, mut left_out) = (BTreeSet::new(), BTreeMap::new());
    let mut by_count = [0; MAX_INSNS + 1];
    for function in libc.functions(&StdFiles) {
        let (bytes, count, why) = runnable(libc.bytes_at(function.link, function.size as usize));
        if let Some(why) = why {
            *left_out.entry(why).or_insert(0) += 1;
        }
        if !seen.insert(bytes.clone()) || count == 0 {
            continue;
        }
        by_count[count] += 1;
        let next = AT + bytes.len() as u64;
        let mut code = Code::new(FAR_AT + 0x40);
        let relocated =
            relocate(&bytes, AT, count, &mut code).unwrap_or_else(|e| panic!("{:#x}: {e}", function.link.0));
        assert_eq!(relocated.next(), next);
        code.append_jump(next).unwrap();
        for _ in 0..2 {
            let mut state = State::random(&mut random);
            // As after a call: aligned moves rely on it.
            state.regs.rsp -= 8;
            native.write(AT, &bytes);
            native.write_pad(next);
            let original = native.run(AT, &state);
            native.write(AT, &vec![0xcc; bytes.len()]);
            native.write(code.at(), code.bytes());
            let displaced = native.run(code.at(), &state);
            assert!(
                original == displaced,
                "{:#x} {bytes:02x?}\noriginal, displaced:\n{}",
                function.link.0,
                original.differences(&displaced)
            );
        }
    }
    println!("different ones of 1.. instructions: {by_count:?}, left out: {left_out:?}");
    assert!(by_count.iter().sum::<i32>() > 1500, "{by_count:?}");
}
