//! Lines as they are printed.

use super::record::{RecordBuf, TextRead};
use super::{EventHead, LineBuf, event_json, event_text};
use crate::fetch::{At, EventProgram, compile, parse_arg};

fn comm(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name);
    comm
}

fn head<'a>(comm: &'a [u8; 16]) -> EventHead<'a> {
    EventHead {
        name: "open",
        at: "libc.so.6:openat",
        address: 0x7f00_dead_beef,
        pid: 5540,
        tid: 5543,
        comm,
        cpu: 1,
        ts_ns: 12_345_678_901,
        caller: None,
        latency_ns: None,
    }
}

fn program(args: &[&str]) -> EventProgram {
    let args: Vec<_> = args.iter().map(|arg| parse_arg(arg).unwrap()).collect();
    compile(&args, &[], None, At::Entry).unwrap()
}

fn text(bytes: &[u8]) -> impl FnOnce(&mut [u8]) -> TextRead {
    move |to: &mut [u8]| match to.get_mut(..bytes.len()) {
        Some(to) => {
            to.copy_from_slice(bytes);
            TextRead::Whole(bytes.len())
        }
        None => {
            to.copy_from_slice(&bytes[..to.len()]);
            TextRead::Cut
        }
    }
}

fn printed(head: &EventHead<'_>, program: &EventProgram, record: &RecordBuf) -> [String; 2] {
    [event_text::render, event_json::render].map(|render| {
        let mut line = LineBuf::new();
        line.push(b"left over");
        render(&mut line, head, program, record);
        let line = line.as_bytes();
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        String::from_utf8(line.to_vec()).unwrap()
    })
}

#[test]
fn an_event_as_ftrace_prints_it() {
    let mut record = RecordBuf::new();
    record.push(|w| w.push_text(text(b"/etc/passwd")));
    record.push(|w| w.push_int(0, 4));
    let comm = comm(b"cat");
    let lines = printed(&head(&comm), &program(&["path=$arg2:string", "flags=$arg3:x32"]), &record);
    assert_eq!(
        lines,
        [
            "             cat-5543    [001] .....    12.345678: open: (0x7f00deadbeef) path=\"/etc/passwd\" flags=0x0\n",
            "{\"ts\":12345678901,\"pid\":5540,\"tid\":5543,\"comm\":\"cat\",\"cpu\":1,\"name\":\"open\",\
             \"at\":\"libc.so.6:openat\",\"address\":\"0x7f00deadbeef\",\"args\":{\"path\":\"/etc/passwd\",\"flags\":0}}\n",
        ]
    );
}

#[test]
fn heads() {
    let empty = RecordBuf::new();
    let program = EventProgram::default();
    for (name, tid, cpu, ts_ns, expected) in [
        (&b""[..], 1, 0, 0, "                -1       [000] .....     0.000000: open: (0x7f00deadbeef)\n"),
        (
            b"fifteen-letters",
            4_194_304,
            1023,
            1_000_000_000_999,
            " fifteen-letters-4194304 [1023] .....  1000.000000: open: (0x7f00deadbeef)\n",
        ),
        (
            b"a\nb\x1b[0m",
            12,
            7,
            123_456_789_012_345_678,
            "     a\\nb\\033[0m-12      [007] ..... 123456789.012345: open: (0x7f00deadbeef)\n",
        ),
        (
            "tür".as_bytes(),
            12,
            7,
            999,
            "             tür-12      [007] .....     0.000000: open: (0x7f00deadbeef)\n",
        ),
        (
            b"t\xfc",
            12,
            7,
            1999,
            "           t\\374-12      [007] .....     0.000001: open: (0x7f00deadbeef)\n",
        ),
    ] {
        let comm = comm(name);
        let head = EventHead { tid, cpu, ts_ns, ..head(&comm) };
        assert_eq!(printed(&head, &program, &empty)[0], expected);
    }
    // All sixteen bytes used, without a NUL.
    let comm = [b'z'; 16];
    assert!(printed(&head(&comm), &program, &empty)[0].starts_with("zzzzzzzzzzzzzzzz-5543"));
}

#[test]
fn strings_are_escaped() {
    let program = program(&["s=%di:string"]);
    let comm = comm(b"x");
    for (bytes, as_text, as_json) in [
        (&b"plain"[..], "plain", "plain"),
        (b"q\"b\\", "q\\\"b\\\\", "q\\\"b\\\\"),
        (b"it's", "it's", "it's"),
        (b"\n\r\t", "\\n\\r\\t", "\\n\\r\\t"),
        (b"\x01\x1b[2J\x7f", "\\001\\033[2J\\177", "\\u0001\\u001b[2J\\u007f"),
        ("grün €".as_bytes(), "grün €", "grün €"),
        (b"gr\xfcn1", "gr\\374n1", "gr\\u00fcn1"),
        // Cut in the middle of a character.
        (b"\xe2\x82", "\\342\\202", "\\u00e2\\u0082"),
        // C1 controls, and what some take for the end of a line.
        ("\u{9b}\u{2028}".as_bytes(), "\\302\\233\\342\\200\\250", "\\u009b\u{2028}"),
    ] {
        let mut record = RecordBuf::new();
        record.push(|w| w.push_text(text(bytes)));
        let [got_text, got_json] = printed(&head(&comm), &program, &record);
        assert!(got_text.ends_with(&format!(" s=\"{as_text}\"\n")), "{got_text}");
        assert!(got_json.ends_with(&format!("{{\"s\":\"{as_json}\"}}}}\n")), "{got_json}");
    }
}

#[test]
fn a_line_that_does_not_fit_ends_in_dots_and_json_stays_json() {
    // 7 strings of 255 bytes, of which JSON makes 6 bytes each.
    let args: Vec<String> = (0..7).map(|i| format!("s{i}=%di:string")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let program = program(&args);
    let comm = comm(b"x");
    let mut record = RecordBuf::new();
    for _ in 0..7 {
        record.push(|w| w.push_text(text(&[0x01; 255])));
    }
    let name = "n".repeat(3000);
    let long = EventHead { name: &name, ..head(&comm) };
    let [as_text, as_json] = printed(&long, &program, &record);
    assert!(as_text.ends_with("\\001...\n"), "{as_text}");
    // Full but for less than one escape.
    assert!((8189..=8192).contains(&as_text.len()), "{}", as_text.len());
    assert!(as_json.ends_with("\\u0001\"},\"truncated\":true}\n"), "{as_json}");
    assert_eq!(as_json.matches("\"s").count(), 4);
    // A head of any length leaves the object whole.
    let worst = "\u{1}".repeat(9000);
    let huge = EventHead { name: &worst, at: &worst, ts_ns: u64::MAX, ..head(&comm) };
    let [_, as_json] = printed(&huge, &program, &record);
    assert!(as_json.contains("\\u0001\",\"at\":\"\\u0001"), "{as_json}");
    assert!(as_json.contains("\\u0001\",\"address\":\"0x7f00deadbeef\",\"args\":{\"s0\":"), "{as_json}");
    assert!(as_json.ends_with("\\u0001\"},\"truncated\":true}\n"), "{as_json}");
}

#[test]
fn returns_name_the_caller_and_calls_their_latency() {
    let comm = comm(b"x");
    let arg = [parse_arg("fd=$retval:s32").unwrap()];
    let program = compile(&[], &arg, None, At::Call).unwrap();
    let mut record = RecordBuf::new();
    record.push(|w| w.push_int(3, 4));
    let returned = EventHead { caller: Some(0x55d0_c0ff_ee12), ..head(&comm) };
    let [text, json] = printed(&returned, &program, &record);
    assert!(text.ends_with(": (0x55d0c0ffee12 <- 0x7f00deadbeef) fd=3\n"), "{text}");
    let tail = r#""address":"0x7f00deadbeef","caller":"0x55d0c0ffee12","args":{"fd":3}}"#;
    assert!(json.ends_with(&format!("{tail}\n")), "{json}");
    let timed = EventHead { latency_ns: Some(1234), ..returned };
    let [text, json] = printed(&timed, &program, &record);
    assert!(text.ends_with(") fd=3 latency=1234\n"), "{text}");
    let tail = r#","caller":"0x55d0c0ffee12","latency_ns":1234,"args":{"fd":3}}"#;
    assert!(json.ends_with(&format!("{tail}\n")), "{json}");
    // Not twice.
    let arg = [parse_arg("took=$latency:u64").unwrap()];
    let program = compile(&[], &arg, None, At::Call).unwrap();
    let [text, json] = printed(&timed, &program, &record);
    assert!(text.ends_with(") took=3\n"), "{text}");
    assert!(json.contains(r#""latency_ns":1234,"args":{"took":3}"#), "{json}");
}

#[test]
fn numbers() {
    let mut line = LineBuf::new();
    for (value, width, expected) in [
        (0, 1, "0"),
        (9, 1, "9"),
        (10, 1, "10"),
        (7, 3, "007"),
        (1234, 3, "1234"),
        (u64::MAX, 1, "18446744073709551615"),
        (1, 20, "00000000000000000001"),
        (1, 99, "00000000000000000001"),
        (1, 0, "1"),
    ] {
        line.clear();
        line.push_decimal_padded(value, width, b'0');
        assert_eq!(line.as_bytes(), expected.as_bytes());
    }
    for (value, expected) in [(0, "0x0"), (0xf, "0xf"), (0x10, "0x10"), (u64::MAX, "0xffffffffffffffff")] {
        line.clear();
        line.push_hex(value);
        assert_eq!(line.as_bytes(), expected.as_bytes());
    }
    for (value, expected) in
        [(0, "0"), (-1, "-1"), (i64::MIN, "-9223372036854775808"), (i64::MAX, "9223372036854775807")]
    {
        line.clear();
        line.push_signed(value);
        assert_eq!(line.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn a_line_takes_whole_pieces_until_one_does_not_fit() {
    let mut line = LineBuf::new();
    line.push(&[b'a'; 8000]);
    let mark = line.mark();
    line.push(&[b'b'; 188]);
    assert!(!line.is_cut());
    assert_eq!(line.room(), 0);
    line.push(b"c");
    line.push(b"");
    assert!(line.is_cut());
    line.finish();
    assert_eq!(line.as_bytes().len(), 8192);
    assert!(line.as_bytes().ends_with(b"bbb...\n"));
    line.roll_back(mark);
    line.push(b"d");
    line.finish();
    assert!(line.as_bytes().ends_with(b"aad\n"));
}
