//! Chrome's trace events, which ui.perfetto.dev and chrome://tracing open: calls as slices, all else
//! as instants.

use std::collections::HashSet;
use std::io::Write;

use super::Traces;
use crate::trace::record::{RecordBuf, comm_bytes};
use crate::trace::{LineBuf, event_json};

/// What stands before the values in a line of JSON. Inside a string its quotes would be escaped.
const ARGS: &[u8] = b"\"args\":{";

/// One JSON object, an event a line.
pub(super) fn write(out: &mut impl Write, traces: &Traces) -> std::io::Result<()> {
    out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
    let mut separator: &[u8] = b"\n";
    let mut named = HashSet::new();
    for trace in &traces.0 {
        for thread in &trace.threads {
            if named.insert(thread.pid) {
                let name =
                    if thread.pid == trace.pid { trace.program.as_bytes() } else { comm_bytes(&thread.comm) };
                out.write_all(separator)?;
                write_name(out, "process_name", (thread.pid, thread.tid), name)?;
                separator = b",\n";
            }
            write_name_after(out, (thread.pid, thread.tid), comm_bytes(&thread.comm))?;
        }
    }
    let (mut line, mut record) = (LineBuf::new(), RecordBuf::new());
    for (trace, event) in traces.events() {
        let (Some(head), Some(probe)) = (trace.head(event), trace.probe(event)) else { continue };
        trace.restore(event, &mut record);
        event_json::render(&mut line, &head, probe, &record);
        let args = memchr::memmem::find(line.as_bytes(), ARGS).unwrap_or_default();
        // Without the newline; the last brace ends this event as well as that one.
        let args = String::from_utf8_lossy(line.as_bytes().get(args..).unwrap_or_default()).into_owned();
        let mut name = LineBuf::new();
        name.push_json_text(head.name.as_bytes(), 1024);
        let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
        out.write_all(separator)?;
        separator = b",\n";
        let (pid, tid) = (head.pid, head.tid);
        match head.latency_ns {
            Some(ns) => {
                let (start, taken) = (micros(head.ts_ns.saturating_sub(ns)), micros(ns));
                write!(out, "{{\"name\":{name},\"ph\":\"X\",\"ts\":{start},\"dur\":{taken},")?;
            }
            None => {
                let at = micros(head.ts_ns);
                write!(out, "{{\"name\":{name},\"ph\":\"i\",\"s\":\"t\",\"ts\":{at},")?;
            }
        }
        write!(out, "\"pid\":{pid},\"tid\":{tid},{}", args.trim_end())?;
    }
    out.write_all(b"\n]}\n")
}

/// Microseconds, with all there is behind the point.
fn micros(ns: u64) -> String {
    format!("{}.{:03}", ns / 1000, ns % 1000)
}

fn write_name_after(out: &mut impl Write, ids: (u32, u32), name: &[u8]) -> std::io::Result<()> {
    out.write_all(b",\n")?;
    write_name(out, "thread_name", ids, name)
}

/// What viewers call a process or a thread.
fn write_name(out: &mut impl Write, what: &str, (pid, tid): (u32, u32), name: &[u8]) -> std::io::Result<()> {
    let mut text = LineBuf::new();
    text.push_json_text(name, 1024);
    write!(out, "{{\"name\":\"{what}\",\"ph\":\"M\",\"pid\":{pid},\"tid\":{tid},\"args\":{{\"name\":")?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"}}")
}
