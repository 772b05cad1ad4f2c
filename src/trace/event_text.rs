//! An event as text, as ftrace prints a uprobe's:
//!
//! ```text
//!              cat-5543    [001] .....    12.345678: open: (0x7f00deadbeef) path="/etc/passwd" flags=0x0
//! ```
//!
//! A return names the address it returns to and the function, `(0x55d0c0ffee12 <- 0x7f00deadbeef)`;
//! where the call was timed, ` latency=NNN`, in nanoseconds, follows the arguments.
//!
//! Runs at a hit: no allocation, no formatting machinery, no panic.

use crate::fetch::Format;
use crate::trace::record::{RecordBuf, Value, comm_bytes, sign_extend};
use crate::trace::{Arguments, EventHead, LineBuf};

/// Columns of the thread's name, and of its id after it.
const COMM_COLUMNS: usize = 16;
const TID_COLUMNS: usize = 7;

/// Writes the event as one line, with its newline, in place of what `out` holds.
///
/// A string that was cut has `...` after its closing quote; an argument that did not fit the record is
/// `(truncated)`; a line that did not fit ends in `...`.
pub fn render(out: &mut LineBuf, head: &EventHead<'_>, program: &impl Arguments, record: &RecordBuf) {
    out.clear();
    push_head(out, head);
    let mut values = record.view();
    for (name, format) in program.arguments() {
        out.push(b" ");
        out.push_str(name);
        out.push(b"=");
        match values.next() {
            Some(value) => push_value(out, format, value),
            None => out.push(b"(truncated)"),
        }
    }
    if let Some(latency_ns) = head.latency_ns.filter(|_| !program.prints_latency()) {
        out.push(b" latency=");
        out.push_decimal(latency_ns);
    }
    out.finish();
}

/// `comm-tid [cpu] flags seconds.microseconds: name: (address)`, or `(caller <- address)`
fn push_head(out: &mut LineBuf, head: &EventHead<'_>) {
    // Right-aligned: written once to learn how long it is with its escapes, then in its place.
    let comm = comm_bytes(head.comm);
    let start = out.mark();
    out.push_c_text(comm, 0);
    let text = out.as_bytes();
    let columns = text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
    out.roll_back(start);
    out.push_fill(COMM_COLUMNS.saturating_sub(columns), b' ');
    out.push_c_text(comm, 0);
    out.push(b"-");
    let before_tid = out.as_bytes().len();
    out.push_decimal(head.tid.into());
    let tid = out.as_bytes().len().saturating_sub(before_tid);
    out.push_fill(TID_COLUMNS.saturating_sub(tid), b' ');
    out.push(b" [");
    out.push_decimal_padded(head.cpu.into(), 3, b'0');
    // The column of the kernel's irq flags, for scripts that count columns.
    out.push(b"] ..... ");
    out.push_decimal_padded(head.ts_ns / 1_000_000_000, 5, b' ');
    out.push(b".");
    out.push_decimal_padded(head.ts_ns / 1000 % 1_000_000, 6, b'0');
    out.push(b": ");
    out.push_c_text(head.name.as_bytes(), 0);
    out.push(b": (");
    if let Some(caller) = head.caller {
        out.push_hex(caller);
        out.push(b" <- ");
    }
    out.push_hex(head.address);
    out.push(b")");
}

fn push_value(out: &mut LineBuf, format: Format, value: Value<'_>) {
    match value {
        Value::Array { elements, cut } => {
            out.push(b"{");
            for (index, element) in elements.enumerate() {
                if index > 0 {
                    out.push(b",");
                }
                push_scalar(out, format, element);
            }
            out.push(if cut { b",...}" } else { b"}" });
        }
        value => push_scalar(out, format, value),
    }
}

fn push_scalar(out: &mut LineBuf, format: Format, value: Value<'_>) {
    match value {
        Value::Fault | Value::Array { .. } => out.push(b"(fault)"),
        Value::Text { bytes, cut } => {
            out.push(b"\"");
            out.push_c_text(bytes, b'"');
            out.push(if cut { b"\"..." } else { b"\"" });
        }
        Value::Int { raw, width } => match format {
            Format::Unsigned => out.push_decimal(raw),
            Format::Signed => out.push_signed(sign_extend(raw, width)),
            Format::Char => {
                out.push(b"'");
                out.push_c_text(&[raw as u8], b'\'');
                out.push(b"'");
            }
            Format::Hex | Format::Symbol | Format::Text => out.push_hex(raw),
        },
    }
}
