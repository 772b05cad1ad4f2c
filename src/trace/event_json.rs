//! An event as a JSON object on one line.
//!
//! ```text
//! {"ts":12345678900,"pid":5543,"tid":5543,"comm":"cat","cpu":1,"name":"open","at":"libc.so.6:openat",
//!  "address":"0x7f00deadbeef","args":{"path":"/etc/passwd","flags":0}}
//! ```
//!
//! A return has `"caller":"0x55d0c0ffee12"` after `address`, the address it returns to; where the call
//! was timed, `"latency_ns":1234` follows.
//!
//! Integers of every type are numbers; a `char` is a string of one character; an unreadable value is
//! `null`. Where anything was cut, `"truncated":true` follows `args`, and what did not fit is not in
//! `args`. The line is valid JSON whatever the values are.
//!
//! Runs at a hit: no allocation, no formatting machinery, no panic.

use crate::fetch::Format;
use crate::trace::record::{RecordBuf, Value, comm_bytes, sign_extend};
use crate::trace::{Arguments, EventHead, LineBuf};

/// Most bytes of the probe's name and of its place, with escapes: so the head always fits.
const MOST_NAME: usize = 1024;
const MOST_AT: usize = 5120;
/// No limit but the line's.
const ANY: usize = usize::MAX;
const END: &[u8] = b"}}";
const END_CUT: &[u8] = b"},\"truncated\":true}";

/// Writes the event as one line, with its newline, in place of what `out` holds.
pub fn render(out: &mut LineBuf, head: &EventHead<'_>, program: &impl Arguments, record: &RecordBuf) {
    out.clear();
    let mut cut = push_head(out, head);
    let mut values = record.view();
    for (index, (name, format)) in program.arguments().enumerate() {
        let Some(value) = values.next() else {
            cut = true;
            break;
        };
        let before = out.mark();
        if index > 0 {
            out.push(b",");
        }
        out.push_json_text(name.as_bytes(), ANY);
        out.push(b":");
        let value_cut = push_value(out, format, value);
        if out.is_cut() || out.room() < END_CUT.len() {
            out.roll_back(before);
            cut = true;
            break;
        }
        cut |= value_cut;
    }
    out.push(if cut { END_CUT } else { END });
    out.finish();
}

/// Everything up to the arguments; whether a part of it was cut.
fn push_head(out: &mut LineBuf, head: &EventHead<'_>) -> bool {
    out.push(b"{\"ts\":");
    out.push_decimal(head.ts_ns);
    out.push(b",\"pid\":");
    out.push_decimal(head.pid.into());
    out.push(b",\"tid\":");
    out.push_decimal(head.tid.into());
    out.push(b",\"comm\":");
    out.push_json_text(comm_bytes(head.comm), ANY);
    out.push(b",\"cpu\":");
    out.push_decimal(head.cpu.into());
    out.push(b",\"name\":");
    let name_cut = out.push_json_text(head.name.as_bytes(), MOST_NAME);
    out.push(b",\"at\":");
    let at_cut = out.push_json_text(head.at.as_bytes(), MOST_AT);
    out.push(b",\"address\":\"");
    out.push_hex(head.address);
    if let Some(caller) = head.caller {
        out.push(b"\",\"caller\":\"");
        out.push_hex(caller);
    }
    out.push(b"\"");
    if let Some(latency_ns) = head.latency_ns {
        out.push(b",\"latency_ns\":");
        out.push_decimal(latency_ns);
    }
    out.push(b",\"args\":{");
    name_cut | at_cut
}

/// The value; whether a part of it was cut when it was fetched.
fn push_value(out: &mut LineBuf, format: Format, value: Value<'_>) -> bool {
    let Value::Array { elements, mut cut } = value else { return push_scalar(out, format, value) };
    out.push(b"[");
    for (index, element) in elements.enumerate() {
        if index > 0 {
            out.push(b",");
        }
        cut |= push_scalar(out, format, element);
    }
    out.push(b"]");
    cut
}

fn push_scalar(out: &mut LineBuf, format: Format, value: Value<'_>) -> bool {
    match value {
        Value::Fault | Value::Array { .. } => out.push(b"null"),
        Value::Text { bytes, cut } => {
            out.push_json_text(bytes, ANY);
            return cut;
        }
        Value::Int { raw, width } => match format {
            Format::Signed => out.push_signed(sign_extend(raw, width)),
            Format::Char => {
                out.push_json_text(&[raw as u8], ANY);
            }
            _ => out.push_decimal(raw),
        },
    }
    false
}
