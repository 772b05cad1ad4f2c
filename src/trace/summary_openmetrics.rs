//! The report as OpenMetrics text, for whoever scrapes or pushes it.

use std::fmt::{self, Write};

use super::histogram;
use super::latency::bucket_range;
use super::summary::{Kind, ProbeSummary, State, Summary, write_escaped};

/// A counter family: its name, what it counts, and where it stands in the model.
type Counter = (&'static str, &'static str, fn(&ProbeSummary<'_>) -> u64);

const COUNTERS: [Counter; 7] = [
    ("hits", "Executions at which the probe's handler ran.", |p| p.hits),
    ("returns", "Returns seen.", |p| p.returns),
    ("unwound", "Calls left without a return.", |p| p.unwound),
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
        in_flight(out, &summary.probes)?;
        latency(out, &summary.probes)?;
        values(out, &summary.probes)?;
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

fn in_flight(out: &mut dyn Write, probes: &[ProbeSummary<'_>]) -> fmt::Result {
    out.write_str(
        "# TYPE uprobe_in_flight gauge\n# HELP uprobe_in_flight Calls that had not returned yet.\n",
    )?;
    for p in probes {
        out.write_str("uprobe_in_flight")?;
        labels(out, p)?;
        writeln!(out, "}} {}", p.in_flight)?;
    }
    Ok(())
}

/// The times of the timed calls; nothing where no probe times any.
fn latency(out: &mut dyn Write, probes: &[ProbeSummary<'_>]) -> fmt::Result {
    let timed = || probes.iter().filter(|p| p.kind == Kind::Call);
    if timed().next().is_none() {
        return Ok(());
    }
    out.write_str("# TYPE uprobe_latency_seconds histogram\n# UNIT uprobe_latency_seconds seconds\n")?;
    out.write_str("# HELP uprobe_latency_seconds Times from entry to return.\n")?;
    for p in timed() {
        let mut count = 0u64;
        for (index, n) in p.latency.log2.iter().enumerate() {
            count = count.saturating_add(*n);
            bucket(out, p)?;
            // `le` includes its bound: the longest time the bucket counts, in whole nanoseconds.
            seconds(out, bucket_range(index).1.saturating_sub(1))?;
            writeln!(out, "\"}} {count}")?;
        }
        bucket(out, p)?;
        writeln!(out, "+Inf\"}} {count}")?;
        out.write_str("uprobe_latency_seconds_sum")?;
        labels(out, p)?;
        out.write_str("} ")?;
        seconds(out, p.latency.sum_ns)?;
        out.write_str("\nuprobe_latency_seconds_count")?;
        labels(out, p)?;
        writeln!(out, "}} {count}")?;
    }
    out.write_str("# TYPE uprobe_self_seconds counter\n# UNIT uprobe_self_seconds seconds\n")?;
    out.write_str(
        "# HELP uprobe_self_seconds Times from entry to return, without probed calls made in between.\n",
    )?;
    for p in timed() {
        out.write_str("uprobe_self_seconds_total")?;
        labels(out, p)?;
        out.write_str("} ")?;
        seconds(out, p.latency.self_ns)?;
        out.write_char('\n')?;
    }
    Ok(())
}

/// The histograms of values; nothing where no probe has any. A sum is not kept, and without one the
/// format wants no count besides that of the last bucket.
fn values(out: &mut dyn Write, probes: &[ProbeSummary<'_>]) -> fmt::Result {
    if probes.iter().all(|p| p.hist.is_empty()) {
        return Ok(());
    }
    out.write_str("# TYPE uprobe_value histogram\n# HELP uprobe_value Values at the probe's hits.\n")?;
    for p in probes {
        for hist in &p.hist {
            let mut count = 0_u64;
            let bucket = |out: &mut dyn Write, le: fmt::Arguments<'_>, count| {
                out.write_str("uprobe_value_bucket")?;
                labels(out, p)?;
                label(out, "value", hist.name.as_bytes())?;
                writeln!(out, ",le=\"{le}\"}} {count}")
            };
            if hist.negative() > 0 {
                count = hist.negative();
                bucket(out, format_args!("-1.0"), count)?;
            }
            for (index, n) in hist.others().iter().enumerate() {
                count = count.saturating_add(*n);
                // `le` includes its bound: the greatest value the bucket counts.
                let (_, to) = histogram::bucket_range(index);
                bucket(out, format_args!("{}.0", to - 1), count)?;
            }
            bucket(out, format_args!("+Inf"), count)?;
        }
    }
    Ok(())
}

/// Up to the value of `le`.
fn bucket(out: &mut dyn Write, p: &ProbeSummary<'_>) -> fmt::Result {
    out.write_str("uprobe_latency_seconds_bucket")?;
    labels(out, p)?;
    out.write_str(",le=\"")
}

fn seconds(out: &mut dyn Write, ns: u64) -> fmt::Result {
    write!(out, "{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
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
