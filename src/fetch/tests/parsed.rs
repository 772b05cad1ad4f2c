//! What parses, and as what.

use crate::addr::FileOffset;
use crate::fetch::arg::{Base, Origin, Source, Type, Width};
use crate::fetch::parse_arg;
use crate::fetch::register::{self, RegisterPart};
use crate::regs::Reg;

const X64: Type = Type::DEFAULT;

fn source(origin: Origin, derefs: &[i64]) -> Source {
    Source { origin, derefs: derefs.to_vec() }
}

fn register(reg: Reg) -> Origin {
    Origin::Register(RegisterPart { reg, shift: 0, bits: 64 })
}

#[test]
fn sources() {
    for (text, expected) in [
        ("%di", source(register(Reg::Rdi), &[])),
        ("%rdi", source(register(Reg::Rdi), &[])),
        ("%flags", source(register(Reg::Rflags), &[])),
        ("$arg1", source(Origin::Argument(1), &[])),
        ("$arg128", source(Origin::Argument(128), &[])),
        ("$retval", source(Origin::ReturnValue, &[])),
        ("$stack", source(Origin::Stack, &[])),
        ("$stack0", source(Origin::StackWord(0), &[])),
        ("$stack2048", source(Origin::StackWord(2048), &[])),
        ("$tid", source(Origin::Tid, &[])),
        ("$ts", source(Origin::Timestamp, &[])),
        ("$latency", source(Origin::Latency, &[])),
        ("$xmm15", source(Origin::Xmm(15), &[])),
        ("@0x601040", source(Origin::Address(0x60_1040), &[])),
        ("@1234", source(Origin::Address(1234), &[])),
        ("@010", source(Origin::Address(8), &[])),
        ("@+0x1040", source(Origin::File(FileOffset(0x1040)), &[])),
        ("\\1", source(Origin::Immediate(1), &[])),
        ("\\-1", source(Origin::Immediate(u64::MAX), &[])),
        ("\\0xff", source(Origin::Immediate(255), &[])),
        ("+8(%di)", source(register(Reg::Rdi), &[8])),
        ("-8(%di)", source(register(Reg::Rdi), &[-8])),
        ("+0x10(%di)", source(register(Reg::Rdi), &[16])),
        ("+u0(%di)", source(register(Reg::Rdi), &[0])),
        ("-u010(%di)", source(register(Reg::Rdi), &[-8])),
        ("+16(-8(+0($arg2)))", source(Origin::Argument(2), &[0, -8, 16])),
        ("+4(@+8)", source(Origin::File(FileOffset(8)), &[4])),
        ("req", source(Origin::Parameter("req".into()), &[])),
        ("req->uri.len", source(Origin::Parameter("req->uri.len".into()), &[])),
        ("arr[1][2]", source(Origin::Parameter("arr[1][2]".into()), &[])),
        ("+8(buf.data)", source(Origin::Parameter("buf.data".into()), &[8])),
    ] {
        let arg = parse_arg(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(arg.source, expected, "{text}");
        assert_eq!((arg.ty, arg.text.as_str(), arg.name.as_str()), (X64, text, ""), "{text}");
    }
}

#[test]
fn types() {
    let one = |base| Type { base, count: None };
    for (text, expected) in [
        ("u8", one(Base::Unsigned(Width::W8))),
        ("u16", one(Base::Unsigned(Width::W16))),
        ("u32", one(Base::Unsigned(Width::W32))),
        ("u64", one(Base::Unsigned(Width::W64))),
        ("s8", one(Base::Signed(Width::W8))),
        ("s16", one(Base::Signed(Width::W16))),
        ("s32", one(Base::Signed(Width::W32))),
        ("s64", one(Base::Signed(Width::W64))),
        ("x8", one(Base::Hex(Width::W8))),
        ("x16", one(Base::Hex(Width::W16))),
        ("x32", one(Base::Hex(Width::W32))),
        ("x64", one(Base::Hex(Width::W64))),
        ("char", one(Base::Char)),
        ("f32", one(Base::F32)),
        ("f64", one(Base::F64)),
        ("string", one(Base::Text)),
        ("ustring", one(Base::Text)),
        ("symbol", one(Base::Symbol)),
        ("symstr", one(Base::SymbolText)),
        ("b4@2/8", one(Base::Bits { bits: 4, shift: 2, container: Width::W8 })),
        ("b64@0/64", one(Base::Bits { bits: 64, shift: 0, container: Width::W64 })),
        ("u8[1]", Type { base: Base::Unsigned(Width::W8), count: Some(1) }),
        ("string[64]", Type { base: Base::Text, count: Some(64) }),
        (
            "b1@31/32[0x10]",
            Type { base: Base::Bits { bits: 1, shift: 31, container: Width::W32 }, count: Some(16) },
        ),
    ] {
        let arg = parse_arg(&format!("+0(%di):{text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(arg.ty, expected, "{text}");
    }
}

#[test]
fn names() {
    for (text, name) in [
        ("path=$arg2:string", "path"),
        ("_x9=%di", "_x9"),
        ("  path=$arg2 ", "path"),
        ("x=\\\"a=b\"", "x"),
        ("\\\"a=b\"", ""),
        ("len=buf.len", "len"),
        ("abcdefghijklmnopqrstuvwxyz012345=%di", "abcdefghijklmnopqrstuvwxyz012345"),
    ] {
        assert_eq!(parse_arg(text).unwrap().name, name, "{text}");
    }
    let arg = |text| parse_arg(text).unwrap();
    assert_eq!(arg("%di").with_default_name(0).name, "arg1");
    assert_eq!(arg("x=%di").with_default_name(4).name, "x");
}

#[test]
fn strings_are_strings_by_default() {
    for (text, expected) in [
        ("$comm", Origin::Comm),
        ("$COMM:string", Origin::Comm),
        ("\\\"a b\"", Origin::ImmediateText(b"a b".to_vec())),
        ("\\\"a\\\"\\\\\\n:)\":string", Origin::ImmediateText(b"a\"\\\n:)".to_vec())),
        ("\\\"\"", Origin::ImmediateText(vec![])),
    ] {
        let arg = parse_arg(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(arg.source.origin, expected, "{text}");
        assert_eq!(arg.ty, Type { base: Base::Text, count: None }, "{text}");
    }
}

#[test]
fn not_yet() {
    for (text, expected) in [
        ("$xmm0:f64", Some("$xmmN")),
        ("%ax:f64", Some("the type f64")),
        ("+0(%ax):f32[4]", Some("the type f32")),
        ("$latency", None),
        ("req->uri:string", Some("a parameter by its name")),
        ("%ax:symstr", Some("the type symstr")),
        ("%ax:symbol", None),
        ("$arg1", None),
    ] {
        assert_eq!(parse_arg(text).unwrap().not_yet(), expected, "{text}");
    }
}

#[test]
fn every_register_name_is_known_once() {
    let names: Vec<_> = register::names().collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert_eq!(names.len(), 16 * 4 + 9);
    for (name, reg, shift, bits) in [
        ("rax", Reg::Rax, 0, 64),
        ("ax", Reg::Rax, 0, 64),
        ("eax", Reg::Rax, 0, 32),
        ("al", Reg::Rax, 0, 8),
        ("ah", Reg::Rax, 8, 8),
        ("dh", Reg::Rdx, 8, 8),
        ("sil", Reg::Rsi, 0, 8),
        ("bp", Reg::Rbp, 0, 64),
        ("spl", Reg::Rsp, 0, 8),
        ("r8", Reg::R8, 0, 64),
        ("r9d", Reg::R9, 0, 32),
        ("r15w", Reg::R15, 0, 16),
        ("r10b", Reg::R10, 0, 8),
        ("ip", Reg::Rip, 0, 64),
        ("sp", Reg::Rsp, 0, 64),
        ("flags", Reg::Rflags, 0, 64),
    ] {
        assert_eq!(register::by_name(name), Some(RegisterPart { reg, shift, bits }), "{name}");
    }
}
