//! The report as one JSON object: integers are JSON numbers, a probe per line.

use std::fmt::{self, Write};

use super::summary::{Latency, ProbeSummary, Summary, write_escaped};

/// Writes the report as JSON.
///
/// File names need not be UTF-8, JSON must be: a byte sequence that isn't becomes U+FFFD.
///
/// # Errors
/// Those of `out`.
pub fn json(summary: &Summary<'_>, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{{\"version\":{},\"pid\":{},\"exe\":", summary.version, summary.pid)?;
    json_string(out, &summary.exe)?;
    write!(out, ",\"wall_ns\":{},\"probes\":[", summary.wall_ns)?;
    for (i, one) in summary.probes.iter().enumerate() {
        out.write_str(if i == 0 { "\n  " } else { ",\n  " })?;
        probe(out, one)?;
    }
    out.write_str("]}\n")
}

fn probe(out: &mut dyn Write, p: &ProbeSummary<'_>) -> fmt::Result {
    out.write_str("{\"name\":")?;
    json_string(out, p.name.as_bytes())?;
    out.write_str(",\"at\":")?;
    json_string(out, p.at.as_bytes())?;
    out.write_str(",\"object\":")?;
    string_or_null(out, p.object.as_deref())?;
    out.write_str(",\"symbol\":")?;
    string_or_null(out, p.symbol.as_deref().map(str::as_bytes))?;
    write!(out, ",\"offset\":{},\"file_offset\":", p.offset)?;
    match p.file_offset {
        Some(offset) => write!(out, "{offset}")?,
        None => out.write_str("null")?,
    }
    match p.address {
        Some(address) => write!(out, ",\"address\":\"{address:#x}\"")?,
        None => out.write_str(",\"address\":null")?,
    }
    write!(out, ",\"kind\":\"{}\",\"state\":\"{}\",\"method\":", p.kind.as_str(), p.state.as_str())?;
    match p.method {
        Some(method) => write!(out, "\"{}\"", method.as_str())?,
        None => out.write_str("null")?,
    }
    out.write_str(",\"reason\":")?;
    string_or_null(out, p.reason.as_deref().map(str::as_bytes))?;
    write!(out, ",\"hits\":{},\"returns\":{},\"nmissed\":{}", p.hits, p.returns, p.nmissed)?;
    write!(out, ",\"filtered\":{},\"sampled_out\":{},\"lost\":{}", p.filtered, p.sampled_out, p.lost)?;
    write!(out, ",\"unwound\":{},\"in_flight\":{}", p.unwound, p.in_flight)?;
    latency(out, &p.latency)?;
    out.write_str(",\"hist\":{")?;
    for (i, hist) in p.hist.iter().enumerate() {
        if i > 0 {
            out.write_char(',')?;
        }
        json_string(out, hist.name.as_bytes())?;
        out.write_char(':')?;
        numbers(out, &hist.log2)?;
    }
    out.write_str("}}")
}

fn latency(out: &mut dyn Write, l: &Latency) -> fmt::Result {
    write!(out, ",\"latency\":{{\"count\":{},\"sum_ns\":{}", l.count, l.sum_ns)?;
    write!(out, ",\"min_ns\":{},\"max_ns\":{}", l.min_ns, l.max_ns)?;
    write!(out, ",\"p50_ns\":{},\"p99_ns\":{},\"log2\":", l.p50_ns, l.p99_ns)?;
    numbers(out, &l.log2)?;
    write!(out, ",\"self_ns\":{}}}", l.self_ns)
}

fn numbers(out: &mut dyn Write, all: &[u64]) -> fmt::Result {
    out.write_char('[')?;
    for (i, n) in all.iter().enumerate() {
        if i > 0 {
            out.write_char(',')?;
        }
        write!(out, "{n}")?;
    }
    out.write_char(']')
}

fn string_or_null(out: &mut dyn Write, bytes: Option<&[u8]>) -> fmt::Result {
    match bytes {
        Some(bytes) => json_string(out, bytes),
        None => out.write_str("null"),
    }
}

/// Writes a string of JSON, with its quotes.
///
/// # Errors
/// Those of `out`.
pub fn json_string(out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    write_escaped(out, bytes, |out, c| match c {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        '\r' => out.write_str("\\r"),
        '\0'..='\x1f' | '\x7f' => write!(out, "\\u{:04x}", u32::from(c)),
        _ => out.write_char(c),
    })?;
    out.write_char('"')
}
