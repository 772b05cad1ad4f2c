//! The TOML document: its tables, and what TOML itself finds wrong with it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::Report;
use crate::config::located::Located;
use crate::config::name::Names;
use crate::config::probe::Draft;
use crate::config::spec::{Config, OutputConfig, OutputFormat, SummaryFormat};
use crate::config::table::{Table, type_name};
use crate::config::take_name;

/// Keys at the top of the file.
const KEYS: [&str; 4] = ["output", "summary", "probe", "follow"];
/// Keys of `[output]`.
const OUTPUT_KEYS: [&str; 3] = ["path", "format", "size"];
/// Keys of `[summary]`.
const SUMMARY_KEYS: [&str; 2] = ["path", "format"];
/// Bytes of a trace, at least and at most.
const TRACE_SIZES: std::ops::RangeInclusive<u64> = (128 << 10)..=(1 << 40);
/// More probes than this in one file are an accident; a glob covers any number of places.
const MAX_PROBES: usize = 100_000;

/// Reads the whole document; everything wrong goes to `report`.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Config {
    let mut config = Config::default();
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let (range, message) = explain(text, &e);
            report.error(range, message);
            return config;
        }
    };
    let top = Table::new(document.get_ref(), "the config", 0..0);
    top.check_keys(&KEYS, report);
    config.follow = top.boolean("follow", report).unwrap_or(true);
    if let Some(table) = sink(&top, "output", "[output]", &OUTPUT_KEYS, report) {
        read_output(&table, &mut config.output, report);
    }
    if let Some(table) = sink(&top, "summary", "[summary]", &SUMMARY_KEYS, report) {
        let formats = [
            ("table", SummaryFormat::Table),
            ("json", SummaryFormat::Json),
            ("openmetrics", SummaryFormat::OpenMetrics),
            ("none", SummaryFormat::None),
        ];
        config.summary.path = path(&table, report);
        config.summary.format = match table.choice("format", &formats, report) {
            Some((format, _)) => format,
            None => SummaryFormat::Table,
        };
    }
    read_probes(&top, &mut config, report);
    config
}

/// `[output]` or `[summary]`, its keys checked.
fn sink<'a, 'i>(
    top: &Table<'a, 'i>,
    key: &str,
    header: &'static str,
    keys: &[&str],
    report: &mut Report<'_>,
) -> Option<Table<'a, 'i>> {
    let value = top.get(key)?;
    let DeValue::Table(entries) = value.get_ref() else {
        let found = match value.get_ref() {
            DeValue::Array(_) if report.text()[value.span()].starts_with("[[") => "an array of tables",
            other => type_name(other),
        };
        report.error(value.span(), format!("'{key}' must be a table, found {found}; write {header}"));
        return None;
    };
    let table = Table::new(entries, header, value.span());
    table.check_keys(keys, report);
    Some(table)
}

/// The keys of `[output]`.
fn read_output(table: &Table<'_, '_>, output: &mut OutputConfig, report: &mut Report<'_>) {
    let formats =
        [("text", OutputFormat::Text), ("json", OutputFormat::Json), ("trace", OutputFormat::Trace)];
    output.path = path(table, report);
    let format = table.choice("format", &formats, report);
    if let Some((OutputFormat::Trace, range)) = &format
        && output.path.is_none()
    {
        // What is wrong with a path that is there has been said.
        if table.get("path").is_none() {
            report.error(
                range.clone(),
                "format 'trace' is binary and needs a file; give a path, such as 'app.%p.trace'",
            );
        }
        return;
    }
    output.format = format.as_ref().map_or(OutputFormat::Text, |(format, _)| *format);
    let Some(text) = table.get("size").and_then(|_| table.string("size", report)) else { return };
    match size(&text.value) {
        Some(bytes) if TRACE_SIZES.contains(&bytes) => output.size = Some(bytes),
        Some(_) => report.error(text.whole(), "the size of a trace is at least 128K and at most 1T"),
        None => {
            report.error(text.whole(), "this is no size; write '64M', with K, M, G or T behind the number")
        }
    }
    if output.format != OutputFormat::Trace
        && let Some(key) = table.key_span("size")
    {
        report.warning(key, "'size' is for format 'trace' only");
    }
}

/// `64M`, in bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T', 'k']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A file name whose `%` letters are known.
fn path(table: &Table<'_, '_>, report: &mut Report<'_>) -> Option<String> {
    let path = table.string("path", report)?;
    if path.value.is_empty() {
        report.error(path.whole(), "the path is empty; leave the key out for standard error");
        return None;
    }
    if let Some(at) = path.value.find('\0') {
        report.error(path.span(at, 1), "a path can't contain a NUL character");
        return None;
    }
    match bad_letter(&path) {
        Some((range, found)) => {
            let advice = "%p is the pid, %e the program, %t the start time, %% a percent sign";
            report.error(range, format!("{found} in the path; {advice}"));
            None
        }
        None => Some(path.value),
    }
}

/// The first `%` that is not followed by one of `p e t %`.
fn bad_letter(path: &Located) -> Option<(Range<usize>, String)> {
    let mut chars = path.value.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '%' {
            continue;
        }
        match chars.next() {
            Some((_, 'p' | 'e' | 't' | '%')) => {}
            Some((_, letter)) => {
                return Some((path.span(at, 1 + letter.len_utf8()), format!("unknown '%{letter}'")));
            }
            None => return Some((path.span(at, 1), "lone '%'".to_owned())),
        }
    }
    None
}

/// Every `[[probe]]`.
fn read_probes(top: &Table<'_, '_>, config: &mut Config, report: &mut Report<'_>) {
    let Some(value) = top.get("probe") else { return };
    let DeValue::Array(items) = value.get_ref() else {
        let found = type_name(value.get_ref());
        report.error(
            value.span(),
            format!("'probe' must be an array of tables, found {found}; write [[probe]]"),
        );
        return;
    };
    if let Some(extra) = items.get(MAX_PROBES) {
        report.error(
            extra.span(),
            format!("a config can have at most {MAX_PROBES} probes; a glob covers many places"),
        );
    }
    let mut names = Names::default();
    let mut drafts = Vec::with_capacity(items.len().min(MAX_PROBES));
    for item in items.iter().take(MAX_PROBES) {
        let errors_before = report.hard_errors();
        let draft = read_probe(item, report);
        take_name(draft.as_ref(), &mut names, report);
        drafts.push((draft, report.hard_errors() == errors_before));
    }
    for (draft, is_good) in drafts {
        let spec = draft.and_then(|draft| draft.build(report)).filter(|_| is_good);
        if let Some(mut spec) = spec {
            if spec.name_is_default {
                spec.name = names.take_default(spec.name);
            }
            config.probes.push(spec);
        }
    }
}

fn read_probe(item: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Option<Draft> {
    match item.get_ref() {
        DeValue::Table(entries) => Draft::from_table(&Table::new(entries, "[[probe]]", item.span()), report),
        other => {
            let found = type_name(other);
            report.error(item.span(), format!("a probe must be a table, found {found}; write [[probe]]"));
            None
        }
    }
}

/// TOML's own error in the words of this crate, at the place a person would point at.
fn explain(text: &str, error: &toml::de::Error) -> (Range<usize>, String) {
    let range = error.span().unwrap_or(0..0);
    let message = error.message();
    let at = range.start.min(text.len());
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let before = text[line_start..at].trim_end();
    let ends_line = text[at..].starts_with(['\n', '\r']) || at == text.len();
    if ends_line && before.ends_with('=') {
        let equals = line_start + before.len() - 1;
        return (equals..equals + 1, "no value after '='".to_owned());
    }
    if message == "duplicate key"
        && let Some(single) = single_table(text, &text[range.clone()])
    {
        let key = &text[range];
        return (
            single,
            format!("'{key}' is a table here and an array of tables elsewhere; write [[{key}]]"),
        );
    }
    let rewritten = match message {
        "string values must be quoted, expected literal string" => "a string must be quoted".to_owned(),
        "duplicate key" => format!("the key '{}' is there twice", &text[range.clone()]),
        "invalid basic string, expected `\"`" | "invalid literal string, expected `'`" => {
            "the string is not closed".to_owned()
        }
        m if m.contains("visible characters") => {
            "a control character in a string; write it as an escape such as \\u0001".to_owned()
        }
        m if m.starts_with("missing comma between array elements") => {
            "expected ',' or ']'; is the array closed?".to_owned()
        }
        m if m.starts_with("missing escaped value") => {
            "unknown escape; write \\\\ for a backslash, or use '...' where nothing is escaped".to_owned()
        }
        m => m.replace(", expected nothing", "").replace('`', "'"),
    };
    (range, rewritten)
}

/// Where `[key]` stands as a header, in a text that also has `[[key]]`.
fn single_table(text: &str, key: &str) -> Option<Range<usize>> {
    let (single, many) = (format!("[{key}]"), format!("[[{key}]]"));
    let header_at = |header: &str| {
        let mut lines = text.split_inclusive('\n').scan(0, |start, line| {
            *start += line.len();
            Some((*start - line.len(), line))
        });
        lines.find(|(_, line)| line.trim_start().starts_with(header)).map(|(start, line)| {
            let at = start + line.len() - line.trim_start().len();
            at..at + header.len()
        })
    };
    header_at(&many).and_then(|_| header_at(&single))
}
