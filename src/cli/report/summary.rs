//! How many events each probe has, and how long its calls took.

use std::io::Write;

use super::Traces;

/// One row of the table.
#[derive(Default)]
struct Row {
    events: u64,
    latencies: Vec<u64>,
}

/// A table: probes in the order of their definitions, those of the same name and place together.
pub(super) fn write(out: &mut impl Write, traces: &Traces) -> std::io::Result<()> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut rows = std::collections::HashMap::<(&str, &str), Row>::new();
    for trace in &traces.0 {
        for probe in &trace.probes {
            let key = (probe.name.as_str(), probe.at.as_str());
            rows.entry(key).or_insert_with(|| {
                order.push(key);
                Row::default()
            });
        }
        for event in &trace.events {
            let Some(probe) = trace.probe(event) else { continue };
            let row = rows.entry((&probe.name, &probe.at)).or_default();
            row.events += 1;
            row.latencies.extend(event.latency_ns);
        }
    }
    let head = ["NAME", "EVENTS", "MEAN", "MIN", "P50", "P99", "MAX", "AT"].map(str::to_owned);
    let mut table = vec![head];
    for key in order {
        let Some(mut row) = rows.remove(&key) else { continue };
        row.latencies.sort_unstable();
        let [mean, min, p50, p99, max] = times(&row.latencies);
        table.push([key.0.to_owned(), row.events.to_string(), mean, min, p50, p99, max, key.1.to_owned()]);
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    for row in &table {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            match column {
                0 => line += &format!("{cell:width$}"),
                7 => line += &format!("  {cell}"),
                _ => line += &format!("  {cell:>width$}"),
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Mean, least, median, 99th percentile, most; in nanoseconds, dashes where there is none.
fn times(sorted: &[u64]) -> [String; 5] {
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
        return std::array::from_fn(|_| "-".to_owned());
    };
    let count = sorted.len();
    let sum: u128 = sorted.iter().map(|ns| u128::from(*ns)).sum();
    let at = |percent: usize| sorted.get((count * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(*max);
    [(sum / count as u128) as u64, *min, at(50), at(99), *max].map(|ns| format!("{ns} ns"))
}
