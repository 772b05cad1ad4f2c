//! Histograms as the table shows them, in bars, as bpftrace prints them; and those of `hist(NAME)`.

use std::fmt::{self, Write};

use super::histogram::{Histogram, bucket_range};
use super::summary::ProbeSummary;
use super::summary_table::{PREFIX, digits, left, spaces, text};

/// Of more probes than this, only some get their histograms shown.
pub(super) const MOST_HISTOGRAMS: usize = 10;
/// Columns of a bar, of the range before it and of the count.
const BAR: u64 = 40;
const RANGE: usize = 14;
const COUNT: usize = 9;

/// The values of a row.
#[derive(Clone, Copy)]
pub(super) enum Range {
    /// Those below 0.
    Negative,
    /// From, and to (not included).
    Between(u128, u128),
    /// From there on.
    From(u128),
}

/// Writes the histograms of values, of those of `rows` that have any. Leaves `rows` without those.
///
/// # Errors
/// Those of `out`.
pub(super) fn values(out: &mut dyn Write, rows: &mut Vec<&ProbeSummary<'_>>) -> fmt::Result {
    rows.retain(|p| p.hist.iter().any(|hist| !hist.log2.is_empty()));
    let hidden = rows.len().saturating_sub(MOST_HISTOGRAMS);
    if hidden > 0 {
        rows.sort_unstable_by(|a, b| {
            b.hits.cmp(&a.hits).then(std::ptr::from_ref(*a).cmp(&std::ptr::from_ref(*b)))
        });
        rows.truncate(MOST_HISTOGRAMS);
    }
    for p in rows.iter() {
        for hist in &p.hist {
            histogram(out, p, hist)?;
        }
    }
    if hidden > 0 {
        writeln!(out, "{PREFIX}and histograms of {hidden} more probes with fewer hits")?;
    }
    Ok(())
}

fn histogram(out: &mut dyn Write, p: &ProbeSummary<'_>, hist: &Histogram<'_>) -> fmt::Result {
    let others = hist.others().iter().enumerate().map(|(index, n)| {
        let (from, to) = bucket_range(index);
        (Range::Between(from, to), *n)
    });
    let negative = std::iter::once((Range::Negative, hist.negative()));
    bars(out, p, &hist.name, negative.chain(others))
}

/// From the first row in use to the last, the longest bar over the whole width.
///
/// # Errors
/// Those of `out`.
pub(super) fn bars(
    out: &mut dyn Write,
    p: &ProbeSummary<'_>,
    what: &str,
    rows: impl Iterator<Item = (Range, u64)> + Clone,
) -> fmt::Result {
    let Some(last) = rows.clone().enumerate().filter(|(_, (_, n))| *n > 0).map(|(at, _)| at).last() else {
        return Ok(());
    };
    let most = u128::from(rows.clone().map(|(_, n)| n).max().unwrap_or(1).max(1));
    out.write_str(PREFIX)?;
    text(out, p.name.as_bytes())?;
    out.write_char(' ')?;
    text(out, what.as_bytes())?;
    out.write_str(":\n")?;
    for (range, n) in rows.take(last + 1).skip_while(|(_, n)| *n == 0) {
        out.write_str(PREFIX)?;
        left(out, range.shown()?.as_str(), RANGE)?;
        spaces(out, COUNT.saturating_sub(digits(n)))?;
        let bar = (u128::from(n) * u128::from(BAR) / most) as usize;
        write!(out, "{n} |")?;
        for _ in 0..bar {
            out.write_char('@')?;
        }
        spaces(out, (BAR as usize).saturating_sub(bar))?;
        out.write_str("|\n")?;
    }
    Ok(())
}

impl Range {
    /// `(..., 0)`, `[0]`, `[1]`, `[512, 1K)`, `[4E, ...)`.
    fn shown(self) -> Result<Short, fmt::Error> {
        let mut out = Short::default();
        match self {
            Self::Negative => out.write_str("(..., 0)")?,
            Self::Between(from @ (0 | 1), _) => write!(out, "[{from}]")?,
            Self::Between(from, to) => {
                out.write_char('[')?;
                binary(&mut out, from)?;
                out.write_str(", ")?;
                binary(&mut out, to)?;
                out.write_char(')')?;
            }
            Self::From(from) => {
                out.write_char('[')?;
                binary(&mut out, from)?;
                out.write_str(", ...)")?;
            }
        }
        Ok(out)
    }
}

/// A power of two: `512`, `1K`.
fn binary(out: &mut Short, n: u128) -> fmt::Result {
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

/// A short text without allocation.
#[derive(Default)]
pub(super) struct Short {
    bytes: [u8; 32],
    len: usize,
}

impl Short {
    pub(super) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
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
    use crate::trace::histogram::BUCKETS;

    #[test]
    fn ranges_fit_their_column() {
        for (range, expected) in [
            (Range::Negative, "(..., 0)"),
            (Range::Between(0, 1), "[0]"),
            (Range::Between(1, 2), "[1]"),
            (Range::Between(2, 4), "[2, 4)"),
            (Range::Between(512, 1024), "[512, 1K)"),
            (Range::Between(1024, 2048), "[1K, 2K)"),
            (Range::Between(1 << 39, 1 << 40), "[512G, 1T)"),
            (Range::Between(1 << 63, 1 << 64), "[8E, 16E)"),
            (Range::From(1 << 62), "[4E, ...)"),
        ] {
            assert_eq!(range.shown().unwrap().as_str(), expected);
        }
        for index in 0..BUCKETS {
            let (from, to) = bucket_range(index);
            let shown = Range::Between(from, to).shown().unwrap();
            assert!(shown.len() <= RANGE, "{}", shown.as_str());
        }
    }
}
