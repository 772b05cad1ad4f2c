//! What the table says of the times of timed calls: a row for each probe, and below them a
//! histogram for each, as bpftrace prints it.

use std::fmt::{self, Write};

use super::latency::{Latency, bucket_range};
use super::summary::{Kind, ProbeSummary};
use super::summary_table::{GAP, PREFIX, digits, left, spaces, text};

/// With more probes than this, only those that took most time get a histogram.
const MOST_HISTOGRAMS: usize = 10;
/// Columns of a bar, of the range before it and of the count.
const BAR: u64 = 40;
const RANGE: usize = 14;
const COUNT: usize = 9;

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
        histogram(out, p)?;
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
    let widths = COLUMNS.map(|(title, value)| widest(title, &|p| Time::of(value(&p.latency)).len));
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
            right(out, Time::of(value(&p.latency)).as_str(), width)?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

/// From the first bucket in use to the last, the longest bar over the whole width.
fn histogram(out: &mut dyn Write, p: &ProbeSummary<'_>) -> fmt::Result {
    let log2 = &p.latency.log2;
    let Some(first) = log2.iter().position(|n| *n > 0) else { return Ok(()) };
    let most = u128::from(log2.iter().copied().max().unwrap_or(1).max(1));
    out.write_str(PREFIX)?;
    text(out, p.name.as_bytes())?;
    out.write_str(" ns:\n")?;
    for (index, n) in log2.iter().enumerate().skip(first) {
        out.write_str(PREFIX)?;
        let mut range = Short::default();
        range_of(&mut range, index)?;
        left(out, range.as_str(), RANGE)?;
        spaces(out, COUNT.saturating_sub(digits(*n)))?;
        let bar = (u128::from(*n) * u128::from(BAR) / most) as usize;
        write!(out, "{n} |")?;
        for _ in 0..bar {
            out.write_char('@')?;
        }
        spaces(out, (BAR as usize).saturating_sub(bar))?;
        out.write_str("|\n")?;
    }
    Ok(())
}

/// `[0]`, `[1]`, `[512, 1K)`.
fn range_of(out: &mut Short, index: usize) -> fmt::Result {
    match bucket_range(index) {
        (0, _) => out.write_str("[0]"),
        (1, _) => out.write_str("[1]"),
        (from, to) => {
            out.write_char('[')?;
            binary(out, from)?;
            out.write_str(", ")?;
            if to == u64::MAX {
                return out.write_str("...)");
            }
            binary(out, to)?;
            out.write_char(')')
        }
    }
}

/// A power of two: `512`, `1K`.
fn binary(out: &mut Short, n: u64) -> fmt::Result {
    let power = n.trailing_zeros() / 10;
    write!(out, "{}", n >> (power * 10))?;
    match power {
        0 => Ok(()),
        1 => out.write_char('K'),
        2 => out.write_char('M'),
        3 => out.write_char('G'),
        4 => out.write_char('T'),
        5 => out.write_char('P'),
        _ => out.write_char('E'),
    }
}

fn right(out: &mut dyn Write, word: &str, width: usize) -> fmt::Result {
    spaces(out, GAP + width.saturating_sub(word.len()))?;
    out.write_str(word)
}

/// A time as people read it.
type Time = Short;

/// A short text without allocation.
#[derive(Default)]
struct Short {
    bytes: [u8; 32],
    len: usize,
}

impl Short {
    /// Nanoseconds in three digits and a unit: `17 ns`, `1.23 us`, `45.6 ms`, `2000 s`. Cut, not rounded.
    fn of(ns: u64) -> Self {
        let mut text = Self::default();
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

    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Write for Short {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len.saturating_add(s.len());
        let to = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
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
            assert_eq!(Time::of(ns).as_str(), expected);
        }
    }

    #[test]
    fn ranges_fit_their_column() {
        for (index, expected) in [
            (0, "[0]"),
            (1, "[1]"),
            (2, "[2, 4)"),
            (10, "[512, 1K)"),
            (11, "[1K, 2K)"),
            (40, "[512G, 1T)"),
            (63, "[4E, ...)"),
        ] {
            let mut range = Short::default();
            range_of(&mut range, index).unwrap();
            assert_eq!(range.as_str(), expected);
        }
        for index in 0..64 {
            let mut range = Short::default();
            range_of(&mut range, index).unwrap();
            assert!(range.len <= RANGE, "{}", range.as_str());
        }
    }
}
