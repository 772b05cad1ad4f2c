//! The config: TOML and one-liners in, checked probe specs and diagnostics out.
//!
//! ```text
//! text ── toml ──> document: tables, types, keys ──> probe::Draft ──┐
//! -e, def ── oneliner: p, r, %return, plain place ──> probe::Draft ─┴─> ProbeSpec
//! ```
//!
//! Nothing here fails as a whole: what is good is returned, what is not gives a [`Diagnostic`] with
//! file, line, column and caret. Runs in the library's initialiser and in the command; knows no
//! process and no file.

pub mod action;
mod diagnostic;
mod document;
mod located;
mod name;
mod oneliner;
mod probe;
mod spec;
mod table;

pub use action::Action;
pub use diagnostic::{Diagnostic, Severity};
pub use oneliner::toml_for_one_liner;
pub use spec::{
    Config, Kind, Method, Origin, OutputConfig, OutputFormat, ProbeSpec, SummaryConfig, SummaryFormat,
};

use crate::config::diagnostic::Report;
use crate::config::located::Located;
use crate::config::name::Names;
use crate::config::probe::Draft;
use crate::syntax::SyntaxError;

/// What came of reading a config.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// What of it is good.
    pub config: Config,
    /// What is wrong or odd, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Whether anything is wrong: `uprobe run` and `UPROBE_STRICT=1` then stop with status 78.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }
}

/// Reads a config. `file` is its name in messages.
#[must_use]
pub fn parse(text: &str, file: &str) -> Loaded {
    // Windows editors put a byte order mark in front; columns are counted without it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(file, text, 1);
    let config = document::read(text, &mut report);
    Loaded { config, diagnostics: report.finish() }
}

/// Reads a config of which it is not known that it is UTF-8.
#[must_use]
pub fn parse_bytes(bytes: &[u8], file: &str) -> Loaded {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, file),
        Err(e) => {
            let text = String::from_utf8_lossy(bytes);
            let mut report = Report::new(file, &text, 1);
            let at = e.valid_up_to();
            report.error(at..at + 1, "the file is not UTF-8; TOML must be");
            Loaded { config: Config::default(), diagnostics: report.finish() }
        }
    }
}

/// Reads one-liners, each an argument of `-e`: messages say `-e`, and the argument's number as line.
#[must_use]
pub fn from_one_liners(lines: &[String]) -> Loaded {
    let mut loaded = Loaded { config: Config::default(), diagnostics: Vec::new() };
    // A line break inside an argument is a blank like any other.
    let lines: Vec<String> = lines.iter().map(|line| line.replace(['\n', '\r'], " ")).collect();
    let mut drafts = Vec::with_capacity(lines.len());
    for (i, line) in lines.iter().enumerate() {
        let mut report = Report::new("-e", line, i + 1);
        let text = Located::plain(line, 0);
        let draft = Draft::from_one_liner(&text).map_err(|e| report.syntax(&text, e)).ok();
        drafts.push((draft, report));
    }
    let mut names = Names::default();
    for (draft, report) in &mut drafts {
        take_name(draft.as_ref(), &mut names, report);
    }
    for (draft, mut report) in drafts {
        let is_good = report.hard_errors() == 0;
        if let Some(mut spec) = draft.and_then(|draft| draft.build(&mut report)).filter(|_| is_good) {
            if spec.name_is_default {
                spec.name = names.take_default(spec.name);
            }
            loaded.config.probes.push(spec);
        }
        loaded.diagnostics.extend(report.finish());
    }
    loaded
}

/// Parses a single one-liner or plain place.
///
/// # Errors
/// The first mistake. What is right but not in this version is no error: see `not_yet`.
pub fn one_liner(text: &str) -> Result<ProbeSpec, SyntaxError> {
    let mut report = Report::new("-e", text, 1);
    let draft = Draft::from_one_liner(&Located::plain(text, 0))?;
    let spec = draft.build(&mut report);
    match (report.first_hard_error(), spec) {
        (None, Some(spec)) => Ok(spec),
        (Some(error), _) => Err(error),
        (None, None) => Err(SyntaxError::new(0, text.len(), "the probe can't be used")),
    }
}

/// Reserves the name the user gave, which must be the only one of its kind.
fn take_name(draft: Option<&Draft>, names: &mut Names, report: &mut Report<'_>) {
    if let Some(name) = draft.and_then(|draft| draft.name.as_ref())
        && !names.take(&name.value)
    {
        report.error(name.whole(), format!("another probe is called '{}'; names are unique", name.value));
    }
}

#[cfg(test)]
mod tests;
