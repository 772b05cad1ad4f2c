//! The report as a table: the first thing a newcomer sees, on standard error, in the
//! middle of the program's own output. Hence `uprobe: ` before each line.
//!
//! Widths are counted and padded by hand: `{:>width$}` panics on a width above 65,535.

use std::fmt::{self, Write};

use super::summary::{Kind, ProbeSummary, State, Summary, file_name, write_escaped};
use super::summary_bars::values;
use super::summary_latency::latencies;

/// Before each line.
pub(super) const PREFIX: &str = "uprobe: ";
/// Between two columns.
pub(super) const GAP: usize = 2;
/// With more probes than this, those without a hit are only counted.
const MOST_ROWS: usize = 40;

/// A column of numbers.
struct Numbers {
    title: &'static str,
    value: fn(&ProbeSummary<'_>) -> u64,
    /// Whether the column is there for the sake of this row.
    needed: fn(&ProbeSummary<'_>) -> bool,
}

const NUMBERS: [Numbers; 8] = [
    Numbers { title: "HITS", value: |p| p.hits, needed: |_| true },
    Numbers { title: "RETURNS", value: |p| p.returns, needed: |p| p.kind != Kind::Entry || p.returns > 0 },
    Numbers { title: "UNWOUND", value: |p| p.unwound, needed: |p| p.unwound > 0 },
    Numbers { title: "IN FLIGHT", value: |p| p.in_flight, needed: |p| p.in_flight > 0 },
    Numbers { title: "MISSED", value: |p| p.nmissed, needed: |p| p.nmissed > 0 },
    Numbers { title: "FILTERED", value: |p| p.filtered, needed: |p| p.filtered > 0 },
    Numbers { title: "SAMPLED", value: |p| p.sampled_out, needed: |p| p.sampled_out > 0 },
    Numbers { title: "LOST", value: |p| p.lost, needed: |p| p.lost > 0 },
];

/// What the columns need, all rows considered.
struct Widths {
    name: usize,
    numbers: [Option<usize>; NUMBERS.len()],
    state: usize,
    method: usize,
}

/// Writes the report as a table.
///
/// # Errors
/// Those of `out`.
pub fn table(summary: &Summary<'_>, out: &mut dyn Write) -> fmt::Result {
    heading(summary, out)?;
    let mut rows: Vec<&ProbeSummary<'_>> = summary.probes.iter().collect();
    if rows.len() > MOST_ROWS {
        rows.retain(|p| p.hits > 0);
        // No allocation: the order of the config decides between equals.
        rows.sort_unstable_by(|a, b| {
            b.hits.cmp(&a.hits).then(std::ptr::from_ref(*a).cmp(&std::ptr::from_ref(*b)))
        });
    }
    if !rows.is_empty() {
        let widths = Widths::of(&rows);
        titles(out, &widths)?;
        for row in &rows {
            line(out, row, &widths)?;
        }
    }
    left_out(out, &summary.probes, rows.len())?;
    // More can't be in them than were at first: nothing is allocated.
    rows.clear();
    rows.extend(&summary.probes);
    latencies(out, &mut rows)?;
    rows.clear();
    rows.extend(&summary.probes);
    values(out, &mut rows)
}

fn heading(summary: &Summary<'_>, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{PREFIX}summary of ")?;
    text(out, file_name(&summary.exe))?;
    let millis = summary.wall_ns / 1_000_000;
    let (secs, millis) = (millis / 1000, millis % 1000);
    let probes = summary.probes.len();
    let plural = if probes == 1 { "" } else { "s" };
    writeln!(out, " (pid {}), {secs}.{millis:03} s, {probes} probe{plural}", summary.pid)
}

/// What stands below the rows when some are missing: nothing is lost silently.
fn left_out(out: &mut dyn Write, probes: &[ProbeSummary<'_>], shown: usize) -> fmt::Result {
    let Some(hidden @ 1..) = probes.len().checked_sub(shown) else { return Ok(()) };
    let more = if shown > 0 { "and " } else { "" };
    let rest = if shown > 0 { " more" } else { " probes" };
    write!(out, "{PREFIX}{more}{hidden}{rest} with 0 hits")?;
    let mut before = " (";
    for state in [State::Refused, State::Pending, State::Disabled, State::Gone] {
        let count = probes.iter().filter(|p| p.hits == 0 && p.state == state).count();
        if count > 0 {
            write!(out, "{before}{count} {}", state.as_str())?;
            before = ", ";
        }
    }
    out.write_str(if before == ", " { ")\n" } else { "\n" })
}

impl Widths {
    fn of(rows: &[&ProbeSummary<'_>]) -> Self {
        let widest = |title: &str, width: &dyn Fn(&ProbeSummary<'_>) -> usize| {
            rows.iter().map(|p| width(p)).max().unwrap_or(0).max(title.len())
        };
        let numbers = std::array::from_fn(|i| {
            let column = NUMBERS.get(i)?;
            rows.iter()
                .any(|p| (column.needed)(p))
                .then(|| widest(column.title, &|p| digits((column.value)(p))))
        });
        Self {
            name: widest("NAME", &|p| p.name.chars().count()),
            numbers,
            state: widest("STATE", &|p| p.state.as_str().len()),
            method: widest("METHOD", &|p| method(p).len()),
        }
    }
}

fn titles(out: &mut dyn Write, widths: &Widths) -> fmt::Result {
    out.write_str(PREFIX)?;
    left(out, "NAME", widths.name)?;
    for (column, width) in NUMBERS.iter().zip(&widths.numbers) {
        if let Some(width) = width {
            spaces(out, width.saturating_sub(column.title.len()))?;
            out.write_str(column.title)?;
            spaces(out, GAP)?;
        }
    }
    left(out, "STATE", widths.state)?;
    left(out, "METHOD", widths.method)?;
    out.write_str("PLACE\n")
}

fn line(out: &mut dyn Write, p: &ProbeSummary<'_>, widths: &Widths) -> fmt::Result {
    out.write_str(PREFIX)?;
    text(out, p.name.as_bytes())?;
    spaces(out, widths.name.saturating_sub(p.name.chars().count()) + GAP)?;
    for (column, width) in NUMBERS.iter().zip(&widths.numbers) {
        if let Some(width) = width {
            let value = (column.value)(p);
            spaces(out, width.saturating_sub(digits(value)))?;
            write!(out, "{value}")?;
            spaces(out, GAP)?;
        }
    }
    left(out, p.state.as_str(), widths.state)?;
    left(out, method(p), widths.method)?;
    place(out, p)?;
    out.write_char('\n')?;
    match &p.reason {
        Some(reason) if p.state != State::Armed => {
            write!(out, "{PREFIX}    ")?;
            text(out, reason.as_bytes())?;
            out.write_char('\n')
        }
        _ => Ok(()),
    }
}

fn method(p: &ProbeSummary<'_>) -> &'static str {
    p.method.map_or("-", super::summary::Method::as_str)
}

/// `OBJECT:SYMBOL+0x12` as found, or `at` where nothing was found.
fn place(out: &mut dyn Write, p: &ProbeSummary<'_>) -> fmt::Result {
    let Some(object) = &p.object else { return text(out, p.at.as_bytes()) };
    match (&p.symbol, p.file_offset) {
        (None, None) => return text(out, p.at.as_bytes()),
        (None, Some(offset)) => {
            text(out, file_name(object))?;
            return write!(out, ":{offset:#x}");
        }
        (Some(symbol), _) => {
            text(out, file_name(object))?;
            out.write_char(':')?;
            text(out, symbol.as_bytes())?;
        }
    }
    if p.offset > 0 { write!(out, "+{:#x}", p.offset) } else { Ok(()) }
}

pub(super) fn digits(n: u64) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

pub(super) fn left(out: &mut dyn Write, word: &str, width: usize) -> fmt::Result {
    out.write_str(word)?;
    spaces(out, width.saturating_sub(word.len()) + GAP)
}

pub(super) fn spaces(out: &mut dyn Write, n: usize) -> fmt::Result {
    for _ in 0..n {
        out.write_char(' ')?;
    }
    Ok(())
}

/// A table is for terminals: no control character of a file name reaches one.
pub(super) fn text(out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    write_escaped(out, bytes, |out, c| out.write_char(if c.is_control() { '?' } else { c }))
}
