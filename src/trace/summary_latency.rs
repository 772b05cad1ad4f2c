//! What the table says of the times of timed calls: a row for each probe, and below them a
//! histogram for each, as bpftrace prints it.

use std::fmt::{self, Write};

use super::latency::{Latency, bucket_range};
use super::summary::{Kind, ProbeSummary};
use super::summary_bars::{MOST_HISTOGRAMS, Range, Short, bars};
use super::summary_table::{GAP, PREFIX, digits, left, spaces, text};

/// A column of times.
type Column = (&'static str, fn(&Latency) -> u64);

const COLUMNS: [Column; 6] = [
    ("MIN", |l| l.min_ns),
    ("P50", |l| l.p50_ns),
    ("P99", |l| l.p99_ns),
    ("MAX", |l| l.max_ns),
    ("TOTAL", |l| l.sum_ns),
    ("SELF", |l| l.self_ns),
];

/// Writes the part of the table that is about times, of those of `rows` that have any; of the
/// others nothing. Leaves `rows` without those.
///
/// # Errors
/// Those of `out`.
pub(super) fn latencies(out: &mut dyn Write, rows: &mut Vec<&ProbeSummary<'_>>) -> fmt::Result {
    rows.retain(|p| p.kind == Kind::Call && p.latency.count > 0);
    if rows.is_empty() {
        return Ok(());
    }
    times(out, rows)?;
    let hidden = rows.len().saturating_sub(MOST_HISTOGRAMS);
    if hidden > 0 {
        rows.sort_unstable_by(|a, b| {
            let by_time = b.latency.sum_ns.cmp(&a.latency.sum_ns);
            by_time.then(std::ptr::from_ref(*a).cmp(&std::ptr::from_ref(*b)))
        });
        rows.truncate(MOST_HISTOGRAMS);
    }
    for p in rows.iter() {
        let buckets = p.latency.log2.iter().enumerate().map(|(index, n)| (range_of(index), *n));
        bars(out, p, "ns", buckets)?;
    }
    if hidden > 0 {
        writeln!(out, "{PREFIX}and {hidden} more histograms of probes that took less time")?;
    }
    Ok(())
}

/// A row for each probe.
fn times(out: &mut dyn Write, rows: &[&ProbeSummary<'_>]) -> fmt::Result {
    let widest = |title: &str, width: &dyn Fn(&ProbeSummary<'_>) -> usize| {
        rows.iter().map(|p| width(p)).max().unwrap_or(0).max(title.len())
    };
    let name = widest("NAME", &|p| p.name.chars().count());
    let calls = widest("TIMED", &|p| digits(p.latency.count));
    let widths = COLUMNS.map(|(title, value)| widest(title, &|p| time(value(&p.latency)).len()));
    out.write_str(PREFIX)?;
    left(out, "NAME", name)?;
    spaces(out, calls.saturating_sub("TIMED".len()))?;
    out.write_str("TIMED")?;
    for ((title, _), width) in COLUMNS.iter().zip(widths) {
        right(out, title, width)?;
    }
    out.write_char('\n')?;
    for p in rows {
        out.write_str(PREFIX)?;
        text(out, p.name.as_bytes())?;
        spaces(out, name.saturating_sub(p.name.chars().count()) + GAP)?;
        spaces(out, calls.saturating_sub(digits(p.latency.count)))?;
        write!(out, "{}", p.latency.count)?;
        for ((_, value), width) in COLUMNS.iter().zip(widths) {
            right(out, time(value(&p.latency)).as_str(), width)?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

fn range_of(index: usize) -> Range {
    match bucket_range(index) {
        (from, u64::MAX) => Range::From(from.into()),
        (from, to) => Range::Between(from.into(), to.into()),
    }
}

fn right(out: &mut dyn Write, word: &str, width: usize) -> fmt::Result {
    spaces(out, GAP + width.saturating_sub(word.len()))?;
    out.write_str(word)
}

/// A time as people read it: nanoseconds in three digits and a unit: `17 ns`, `1.23 us`, `45.6 ms`,
/// `2000 s`. Cut, not rounded.
fn time(ns: u64) -> Short {
    let mut text = Short::default();
    let (unit, name) = match ns {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, rest) = (ns / unit, u128::from(ns % unit));
    // Can't fail: the longest is `18446744073 s`.
    let _ = match whole {
        _ if unit == 1 => write!(text, "{whole} {name}"),
        0..10 => write!(text, "{whole}.{:02} {name}", rest * 100 / u128::from(unit)),
        10..100 => write!(text, "{whole}.{} {name}", rest * 10 / u128::from(unit)),
        _ => write!(text, "{whole} {name}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (ns, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 us"),
            (1239, "1.23 us"),
            (45_678, "45.6 us"),
            (999_999, "999 us"),
            (1_000_000, "1.00 ms"),
            (59_999_999_999, "59.9 s"),
            (2_000_000_000_000, "2000 s"),
            (u64::MAX, "18446744073 s"),
        ] {
            assert_eq!(time(ns).as_str(), expected);
        }
    }
}
