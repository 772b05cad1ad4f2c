//! The report as OpenMetrics text, for whoever scrapes or pushes it.

use std::fmt::{self, Write};

use super::summary::{ProbeSummary, State, Summary, write_escaped};

/// A counter family: its name, what it counts, and where it stands in the model.
type Counter = (&'static str, &'static str, fn(&ProbeSummary<'_>) -> u64);

const COUNTERS: [Counter; 6] = [
    ("hits", "Executions at which the probe's handler ran.", |p| p.hits),
    ("returns", "Returns seen.", |p| p.returns),
    ("nmissed", "Executions at which the handler could not run.", |p| p.nmissed),
    ("filtered", "Executions the filter turned away.", |p| p.filtered),
    ("sampled_out", "Executions left out by sample or limit.", |p| p.sampled_out),
    ("lost", "Hits whose event did not fit the buffer.", |p| p.lost),
];

/// Writes the report as OpenMetrics 1.0.
///
/// # Errors
/// Those of `out`.
pub fn openmetrics(summary: &Summary<'_>, out: &mut dyn Write) -> fmt::Result {
    out.write_str("# TYPE uprobe_process info\n# HELP uprobe_process The probed process.\n")?;
    write!(out, "uprobe_process_info{{pid=\"{}\"", summary.pid)?;
    label(out, "exe", &summary.exe)?;
    out.write_str("} 1\n")?;
    out.write_str("# TYPE uprobe_wall_seconds gauge\n# UNIT uprobe_wall_seconds seconds\n")?;
    out.write_str("# HELP uprobe_wall_seconds Time from the library's start to this report.\n")?;
    let (secs, nanos) = (summary.wall_ns / 1_000_000_000, summary.wall_ns % 1_000_000_000);
    writeln!(out, "uprobe_wall_seconds {secs}.{nanos:09}")?;
    if !summary.probes.is_empty() {
        armed(out, &summary.probes)?;
        for counter in &COUNTERS {
            family(out, &summary.probes, counter)?;
        }
    }
    out.write_str("# EOF\n")
}

fn armed(out: &mut dyn Write, probes: &[ProbeSummary<'_>]) -> fmt::Result {
    out.write_str("# TYPE uprobe_armed gauge\n# HELP uprobe_armed 1 where the probe is armed.\n")?;
    for p in probes {
        out.write_str("uprobe_armed")?;
        labels(out, p)?;
        label(out, "state", p.state.as_str().as_bytes())?;
        if let Some(method) = p.method {
            label(out, "method", method.as_str().as_bytes())?;
        }
        if let Some(reason) = &p.reason {
            let code = reason.split(':').next().unwrap_or_default();
            label(out, "reason", code.as_bytes())?;
        }
        writeln!(out, "}} {}", u8::from(p.state == State::Armed))?;
    }
    Ok(())
}

fn family(out: &mut dyn Write, probes: &[ProbeSummary<'_>], (name, help, value): &Counter) -> fmt::Result {
    write!(out, "# TYPE uprobe_{name} counter\n# HELP uprobe_{name} {help}\n")?;
    for p in probes {
        write!(out, "uprobe_{name}_total")?;
        labels(out, p)?;
        writeln!(out, "}} {}", value(p))?;
    }
    Ok(())
}

/// The labels that name one probe, without the closing brace.
fn labels(out: &mut dyn Write, p: &ProbeSummary<'_>) -> fmt::Result {
    out.write_str("{probe=\"")?;
    value(out, p.name.as_bytes())?;
    out.write_char('"')?;
    label(out, "at", p.at.as_bytes())?;
    if let Some(object) = &p.object {
        label(out, "object", object)?;
    }
    if let Some(symbol) = &p.symbol {
        label(out, "symbol", symbol.as_bytes())?;
    }
    match p.file_offset {
        Some(offset) => write!(out, ",file_offset=\"{offset:#x}\""),
        None => Ok(()),
    }
}

fn label(out: &mut dyn Write, name: &str, bytes: &[u8]) -> fmt::Result {
    write!(out, ",{name}=\"")?;
    value(out, bytes)?;
    out.write_char('"')
}

fn value(out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    write_escaped(out, bytes, |out, c| match c {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        _ => out.write_char(c),
    })
}
