//! What is wrong, where: file, line, column, the line itself and a caret.
//!
//! Parsers note findings as byte ranges of the source; [`Report::finish`] turns them into
//! diagnostics, in the order of the text.

use std::fmt;
use std::ops::Range;

use crate::config::located::Located;
use crate::config::spec::Origin;
use crate::syntax::SyntaxError;

/// Longest part of a source line that is shown, in columns.
const SHOWN_COLUMNS: usize = 120;
/// How much of a long line is shown before the caret, in columns.
const LEAD_COLUMNS: usize = 50;

/// Whether the thing named is unusable, or merely odd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Not usable; `uprobe run` and `UPROBE_STRICT=1` stop here.
    Error,
    /// Usable.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One message with its place in the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The config's file name.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// How many characters the caret underlines, at least 1.
    pub len: u32,
    /// The text of the line.
    pub source_line: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// Three lines: the message, the source line, the caret with the help; no newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, message) = (printable(&self.file), printable(&self.message));
        writeln!(f, "{file}:{}:{}: {}: {message}", self.line, self.column, self.severity)?;
        let number = self.line.to_string();
        let shown = Shown::new(&self.source_line, self.column as usize - 1, self.len as usize);
        writeln!(f, "  {number} | {}", shown.text)?;
        write!(f, "  {:1$} | {2}", "", number.len(), shown.carets)?;
        match &self.help {
            Some(help) => write!(f, " {}", printable(help)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The part of a line that is printed, and the line of carets under it.
struct Shown {
    text: String,
    carets: String,
}

impl Shown {
    /// `start` and `len` in characters.
    fn new(line: &str, start: usize, len: usize) -> Self {
        let chars: Vec<char> = line.chars().collect();
        let start = start.min(chars.len());
        let first = first_shown(&chars, start);
        let mut shown = Self { text: String::new(), carets: String::new() };
        if first > 0 {
            shown.text.push('…');
            shown.carets.push(' ');
        }
        let mut columns = 0;
        for (i, c) in chars.iter().enumerate().skip(first) {
            columns += width(*c);
            if columns > SHOWN_COLUMNS {
                shown.text.push('…');
                break;
            }
            shown.text.push(if c.is_control() && *c != '\t' { '\u{fffd}' } else { *c });
            if i < start {
                shown.pad(*c);
            } else if i < start + len {
                shown.carets.extend(std::iter::repeat_n('^', width(*c)));
            }
        }
        if !shown.carets.contains('^') {
            shown.carets.push('^');
        }
        shown
    }

    /// As much blank as the character above takes; a tab stays a tab, whatever its width.
    fn pad(&mut self, c: char) {
        if c == '\t' {
            self.carets.push('\t');
        } else {
            self.carets.extend(std::iter::repeat_n(' ', width(c)));
        }
    }
}

/// The first character to show so that the one at `start` is in view.
fn first_shown(chars: &[char], start: usize) -> usize {
    let total: usize = chars.iter().map(|c| width(*c)).sum();
    if total <= SHOWN_COLUMNS {
        return 0;
    }
    let (mut first, mut columns) = (start, 0);
    while first > 0 && columns < LEAD_COLUMNS {
        first -= 1;
        columns += width(chars[first]);
    }
    first
}

/// Columns a terminal gives to a character: 0 for combining marks, 2 for the wide scripts.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfeff => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The text without what could command a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One mistake, as the parsers note it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    severity: Severity,
    range: Range<usize>,
    message: String,
    help: Option<String>,
    /// Right, but not in this version.
    is_not_yet: bool,
}

/// The text being parsed, and what was found wrong with it.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
    first_line: usize,
    findings: Vec<Finding>,
    hard_errors: usize,
}

impl<'a> Report<'a> {
    /// For a text whose first line has the number `first_line`.
    pub(crate) fn new(file: &'a str, text: &'a str, first_line: usize) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, line_starts, first_line, findings: Vec::new(), hard_errors: 0 }
    }

    /// The whole text.
    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    /// How many errors so far, those about later versions left out. A probe during whose reading
    /// this grew is not usable.
    pub(crate) const fn hard_errors(&self) -> usize {
        self.hard_errors
    }

    /// Notes an error; what follows `; ` in the message is the help.
    pub(crate) fn error(&mut self, range: Range<usize>, message: impl Into<String>) {
        self.hard_errors += 1;
        self.note(Severity::Error, range, message.into(), false);
    }

    /// Notes an error of one of the small languages, found in `text`.
    pub(crate) fn syntax(&mut self, text: &Located, error: SyntaxError) {
        self.error(text.span(error.at, error.len), error.message);
    }

    /// Notes that something is right but not in this version.
    pub(crate) fn not_yet(&mut self, range: Range<usize>, what: &str) {
        self.note(Severity::Error, range, format!("{what} is not in this version yet"), true);
    }

    /// Notes something odd.
    pub(crate) fn warning(&mut self, range: Range<usize>, message: impl Into<String>) {
        self.note(Severity::Warning, range, message.into(), false);
    }

    fn note(&mut self, severity: Severity, range: Range<usize>, message: String, is_not_yet: bool) {
        let (message, help) = split_help(message);
        self.findings.push(Finding { severity, range, message, help, is_not_yet });
    }

    /// The first error that is not about a later version, as an error of the text itself.
    pub(crate) fn first_hard_error(&self) -> Option<SyntaxError> {
        let is_hard = |f: &&Finding| f.severity == Severity::Error && !f.is_not_yet;
        let found = self.findings.iter().filter(is_hard).min_by_key(|f| f.range.start)?;
        let message = match &found.help {
            Some(help) => format!("{}; {help}", found.message),
            None => found.message.clone(),
        };
        Some(SyntaxError::new(found.range.start, found.range.len(), message))
    }

    /// Where a range of the text stands.
    pub(crate) fn origin(&self, range: &Range<usize>) -> Origin {
        let start = range.start.min(self.text.len());
        let line = self.line_starts.partition_point(|s| *s <= start) - 1;
        let line_start = self.line_starts[line];
        let line_end = self.text[line_start..].find('\n').map_or(self.text.len(), |len| line_start + len);
        let source_line = self.text[line_start..line_end].trim_end_matches('\r');
        let shown_end = line_start + source_line.len();
        let (from, to) = (start.min(shown_end), range.end.clamp(start.min(shown_end), shown_end));
        Origin {
            file: self.file.to_owned(),
            line: (self.first_line + line) as u32,
            column: (self.text[line_start..floor(self.text, from)].chars().count() + 1) as u32,
            len: self.text[floor(self.text, from)..floor(self.text, to)].chars().count().max(1) as u32,
            source_line: source_line.to_owned(),
        }
    }

    /// The diagnostics, in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.findings.sort_by_key(|f| (f.range.start, f.range.end));
        let findings = std::mem::take(&mut self.findings);
        findings
            .into_iter()
            .map(|f| self.origin(&f.range).diagnostic(f.severity, f.message, f.help))
            .collect()
    }
}

/// The next character boundary at or below `at`.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Splits advice off a message: what follows the first `; ` that is not inside quotes.
fn split_help(message: String) -> (String, Option<String>) {
    let bytes = message.as_bytes();
    let is_letter = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphabetic);
    let mut in_quotes = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            // The apostrophe of "can't" is no quote.
            b'\'' if in_quotes || !is_letter(at.checked_sub(1)) || !is_letter(Some(at + 1)) => {
                in_quotes = !in_quotes
            }
            b';' if !in_quotes && bytes.get(at + 1) == Some(&b' ') => {
                return (message[..at].to_owned(), Some(message[at + 2..].to_owned()));
            }
            _ => {}
        }
    }
    (message, None)
}
