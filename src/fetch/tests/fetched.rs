//! What each source and type fetches, as it is printed.

use super::{BASE, Bytes, World, program};
use crate::addr::{FileOffset, RuntimeAddr};
use crate::fetch::{At, HitInput};
use crate::regs::Memory;
use crate::trace::record::{RecordBuf, Value};
use std::cell::Cell;

fn check(at: At, rows: &[(&str, &str, &str)]) {
    let world = World::new();
    for (arg, text, json) in rows {
        let (got_text, got_json) = world.print(&program(&[&format!("v={arg}")], None, at));
        assert_eq!(got_text, format!("v={text}"), "{arg}");
        assert_eq!(got_json, format!("{{\"v\":{json}}}"), "{arg}");
    }
}

#[test]
fn registers() {
    check(
        At::Inside,
        &[
            ("%rbx", "0x1122334455667788", "1234605616436508552"),
            ("%bx", "0x1122334455667788", "1234605616436508552"),
            ("%ebx", "0x55667788", "1432778632"),
            ("%bl", "0x88", "136"),
            ("%bh", "0x77", "119"),
            ("%bl:s8", "-120", "-120"),
            ("%bl:s64", "136", "136"),
            ("%r10w", "0x1090", "4240"),
            ("%r10b", "0x90", "144"),
            ("%ip", "0x401000", "4198400"),
            ("%flags", "0x246", "582"),
            ("%sp", "0x1000", "4096"),
        ],
    );
}

#[test]
fn variables() {
    check(
        At::Entry,
        &[
            ("$arg1", "0x1", "1"),
            ("$arg2", "0x1080", "4224"),
            ("$arg3", "0x3", "3"),
            ("$arg4", "0x4", "4"),
            ("$arg5", "0x5", "5"),
            ("$arg6", "0x6", "6"),
            // The word above the return address.
            ("$arg7", "0xa1", "161"),
            ("$arg8", "0xa2", "162"),
            ("$arg21", "0xaf", "175"),
            ("$arg128", "(fault)", "null"),
            ("$stack", "0x1000", "4096"),
            ("$stack0", "0xa0", "160"),
            ("$stack1", "0xa1", "161"),
            ("$stack2048", "(fault)", "null"),
            ("$comm", "\"cat\"", "\"cat\""),
            ("$tid:u32", "5543", "5543"),
            ("$ts:u64", "12345678900", "12345678900"),
            ("\\-1", "0xffffffffffffffff", "18446744073709551615"),
            ("\\-1:s8", "-1", "-1"),
            ("\\\"a\\\"b\"", "\"a\\\"b\"", "\"a\\\"b\""),
        ],
    );
    check(
        At::Return,
        &[
            ("$retval", "0xfffffffffffffffe", "18446744073709551614"),
            ("$retval:s64", "-2", "-2"),
            ("$retval:s32", "-2", "-2"),
            ("$retval:u16", "65534", "65534"),
        ],
    );
}

#[test]
fn memory() {
    check(
        At::Entry,
        &[
            ("@0x10b4:x32", "0x12345678", "305419896"),
            ("@0x10b4:u16", "22136", "22136"),
            ("@0x10b4:x8", "0x78", "120"),
            ("@0x10b0:s32", "-1", "-1"),
            ("@0x10b0:u8", "255", "255"),
            ("@0x10ba:char", "'A'", "\"A\""),
            ("@0x10bb:char", "'\\n'", "\"\\n\""),
            ("@0x10d0:char", "'\\200'", "\"\\u0080\""),
            ("@0x10d2:char", "'\\''", "\"'\""),
            ("+8(%r11):u16", "300", "300"),
            ("-8(%r11)", "0x1085", "4229"),
            ("+u8(%r11):u16", "300", "300"),
            ("+0(+0(%r12))", "0x1080", "4224"),
            ("+0(+0(+0(%r12))):char", "'/'", "\"/\""),
            ("+1(+0(+0(%r12))):string", "\"etc/passwd\"", "\"etc/passwd\""),
            ("+0(+8(@0x10c0)):string", "(fault)", "null"),
            ("+0(@0x10c8):string", "\"/etc/passwd\"", "\"/etc/passwd\""),
            ("+8($stack):u8", "161", "161"),
            ("@0", "(fault)", "null"),
            ("@0xffffffffffffffff", "(fault)", "null"),
            ("+0(+0(%di))", "(fault)", "null"),
            // The last three bytes there are.
            ("@0x1310:x8", "0x65", "101"),
            ("@0x1310:x32", "(fault)", "null"),
            ("@0x10b4:symbol", "0xa41012c12345678", "738873102661080696"),
        ],
    );
}

#[test]
fn strings() {
    let y = "y".repeat(255);
    check(
        At::Entry,
        &[
            // The value as the pointer, and its dereference, are the same.
            ("$arg2:string", "\"/etc/passwd\"", "\"/etc/passwd\""),
            ("+0($arg2):string", "\"/etc/passwd\"", "\"/etc/passwd\""),
            ("+5($arg2):ustring", "\"passwd\"", "\"passwd\""),
            ("@0x1085:string", "\"passwd\"", "\"passwd\""),
            ("\\0x1085:string", "\"passwd\"", "\"passwd\""),
            ("@0x108b:string", "\"\"", "\"\""),
            ("$arg1:string", "(fault)", "null"),
            ("\\0:string", "(fault)", "null"),
            ("$stack2:string", "(fault)", "null"),
            ("%r13:string", "\"\\200b'\"", "\"\\u0080b'\""),
            // As long as a string may be.
            ("%r15:string", &format!("\"{y}\""), &format!("\"{y}\"")),
            // Runs into memory that can't be read.
            ("@0x1310:string", "(fault)", "null"),
        ],
    );
    let world = World::new();
    let (text, json) = world.print(&program(&["v=%r14:string"], None, At::Entry));
    let x = "x".repeat(255);
    assert_eq!(text, format!("v=\"{x}\"..."));
    assert_eq!(json, format!("{{\"v\":\"{x}\"}},\"truncated\":true"));
}

/// A string is read no further than the line of 64 bytes its NUL is in.
#[test]
fn strings_are_read_up_to_their_line() {
    struct Watched(Bytes, Cell<u64>);
    impl Memory for Watched {
        fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
            self.1.set(self.1.get().max(addr + dst.len() as u64));
            self.0.read(addr, dst)
        }
        fn write(&self, _: u64, _: &[u8]) -> usize {
            0
        }
    }
    let program = program(&["v=%di:string"], None, At::Entry);
    for (at, len, furthest) in
        [(0, 1, 64), (60, 3, 64), (60, 4, 128), (0, 64, 128), (10, 255, 320), (10, 54, 128)]
    {
        let mut bytes = vec![b'x'; at + len];
        bytes.push(0);
        bytes.resize(1024, 0);
        let memory = Watched(Bytes { base: 0x4000, bytes }, Cell::new(0));
        let mut world = World::new();
        world.regs.rdi = 0x4000 + at as u64;
        let mut record = RecordBuf::new();
        program.fetch(&HitInput { memory: &memory, ..world.input() }, &mut record);
        assert!(
            matches!(record.view().next(), Some(Value::Text { bytes, cut: false }) if bytes.len() == len)
        );
        assert!(memory.1.get() <= 0x4000 + furthest, "{at} {len}: {:#x}", memory.1.get());
    }
}

#[test]
fn arrays() {
    check(
        At::Entry,
        &[
            ("+0(%r11):s32[2]", "{-1,305419896}", "[-1,305419896]"),
            ("+0(%r11):u8[4]", "{255,255,255,255}", "[255,255,255,255]"),
            ("@0x10b4:x16[1]", "{0x5678}", "[22136]"),
            ("@0x10ba:char[2]", "{'A','\\n'}", "[\"A\",\"\\n\"]"),
            (
                "+0(%r10):string[4]",
                "{\"/etc/passwd\",\"\",(fault),\"passwd\"}",
                "[\"/etc/passwd\",\"\",null,\"passwd\"]",
            ),
            ("%r10:string[1]", "{\"/etc/passwd\"}", "[\"/etc/passwd\"]"),
            ("+0(+0(%r12)):x64[1]", "{0x1080}", "[4224]"),
            ("@0x1310:u8[4]", "{101,110,100,(fault)}", "[101,110,100,null]"),
            ("+0(%di):u8[3]", "{(fault),(fault),(fault)}", "[null,null,null]"),
            ("+0(+0(%di)):u8[3]", "(fault)", "null"),
        ],
    );
}

#[test]
fn bit_fields() {
    check(
        At::Inside,
        &[
            ("%bl:b4@4/8", "8", "8"),
            ("%bx:b8@8/16", "119", "119"),
            ("%bx:b1@3/64", "1", "1"),
            ("%bx:b64@0/64", "1234605616436508552", "1234605616436508552"),
            ("%bx:b12@52/64", "274", "274"),
            // Beyond the container nothing is seen.
            ("%bx:b8@0/8", "136", "136"),
            ("@0x10b4:b4@28/32", "1", "1"),
            ("@0x10b4:b4@4/8[2]", "{7,5}", "[7,5]"),
        ],
    );
}

#[test]
fn file_offsets_fault_until_they_are_bound() {
    let world = World::new();
    let mut program = program(&["a=@+0x85:string", "b=+0(@+0xc8):string", "c=@+0x9000"], None, At::Entry);
    assert!(program.needs_binding());
    assert_eq!(world.print(&program).0, "a=(fault) b=(fault) c=(fault)");
    let map = |offset: FileOffset| (offset.0 < 0x1000).then_some(RuntimeAddr(BASE + offset.0));
    assert_eq!(program.bind(&map), Err(FileOffset(0x9000)));
    assert_eq!(world.print(&program).0, "a=\"passwd\" b=\"/etc/passwd\" c=(fault)");
    assert_eq!(program.bind(&|_| Some(RuntimeAddr(0x10b4))), Ok(()));
    assert_eq!(
        world.print(&program).0,
        "a=(fault) b=(fault) c=0xa41012c12345678".replace("a=(fault)", "a=\"xV4\\022,\\001A\\n\"")
    );
}

#[test]
fn addresses_wrap() {
    let mut world = World::new();
    world.regs.rdi = u64::MAX;
    world.regs.rsp = u64::MAX - 7;
    let (text, _) = world.print(&program(
        &["a=+0x1081(%di):string", "b=-9223372036854775807(%di)", "c=$stack8", "d=+16(%sp):u8[64]"],
        None,
        At::Entry,
    ));
    let faults = vec!["(fault)"; 64].join(",");
    assert_eq!(text, format!("a=\"/etc/passwd\" b=(fault) c=(fault) d={{{faults}}}"));
}

#[test]
fn the_rest_of_a_full_record_is_truncated() {
    let world = World::new();
    let args: Vec<String> = (0..12).map(|i| format!("s{i}=%r15:string")).collect();
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.push("last=%di");
    let program = program(&args, None, At::Entry);
    let (text, json) = world.print(&program);
    assert!(
        text.ends_with(
            "s7=(truncated) s8=(truncated) s9=(truncated) s10=(truncated) s11=(truncated) last=(truncated)"
        ),
        "{text}"
    );
    assert!(json.ends_with("yyy\"},\"truncated\":true"), "{json}");
    assert_eq!(json.matches("\"s").count(), 7);
    // An array of strings keeps those that fit.
    let pointers: Vec<u8> = std::iter::repeat_n(0x1210u64, 9).flat_map(u64::to_le_bytes).collect();
    let mut world = World::new();
    world.memory.bytes.extend(pointers);
    let (text, json) = world.print(&super::program(&["v=@0x1313:string[9]", "w=%di:u8"], None, At::Entry));
    assert!(text.ends_with("yyy\",...} w=1"), "{text}");
    assert!(json.ends_with("yyy\"],\"w\":1},\"truncated\":true"), "{json}");
    assert_eq!(text.matches("\"y").count(), 7);
}
