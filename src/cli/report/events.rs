//! A line per event, as the log would have them.

use std::io::Write;

use super::Traces;
use crate::trace::record::RecordBuf;
use crate::trace::{LineBuf, event_json, event_text};

/// Which lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    Text,
    Json,
}

/// All of them, by time.
pub(super) fn write(out: &mut impl Write, traces: &Traces, lines: Lines) -> std::io::Result<()> {
    let (mut line, mut record) = (LineBuf::new(), RecordBuf::new());
    for (trace, event) in traces.events() {
        let (Some(head), Some(probe)) = (trace.head(event), trace.probe(event)) else { continue };
        trace.restore(event, &mut record);
        match lines {
            Lines::Text => event_text::render(&mut line, &head, probe, &record),
            Lines::Json => event_json::render(&mut line, &head, probe, &record),
        }
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}
