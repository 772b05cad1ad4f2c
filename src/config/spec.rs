//! What a config asks for, parsed and checked but not yet resolved to addresses.

use crate::config::action::Action;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::fetch::FetchArg;
use crate::fetch::filter::FilterExpr;
use crate::place::Place;

/// A whole config: what of it is good.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[output]`.
    pub output: OutputConfig,
    /// `[summary]`.
    pub summary: SummaryConfig,
    /// Whether children and exec'ed programs are traced too.
    pub follow: bool,
    /// The probes, in the order of the file.
    pub probes: Vec<ProbeSpec>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            output: OutputConfig::default(),
            summary: SummaryConfig::default(),
            follow: true,
            probes: Vec::new(),
        }
    }
}

/// Where the events go.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OutputConfig {
    /// File name with `%p %e %t %%` not yet replaced; None is standard error.
    pub path: Option<String>,
    /// How events are written.
    pub format: OutputFormat,
    /// Bytes of a trace's file; None is its own default.
    pub size: Option<u64>,
}

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OutputFormat {
    /// A line per event, as ftrace prints it.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
    /// Binary, for `uprobe report`.
    Trace,
}

/// Where the report at the end goes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SummaryConfig {
    /// File name with `%p %e %t %%` not yet replaced; None is standard error.
    pub path: Option<String>,
    /// How it is written.
    pub format: SummaryFormat,
}

/// How the report at the end is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SummaryFormat {
    /// For people.
    #[default]
    Table,
    /// One object.
    Json,
    /// For Prometheus.
    OpenMetrics,
    /// No report.
    None,
}

/// One `[[probe]]` or one-liner.
#[derive(Clone, PartialEq, Debug)]
pub struct ProbeSpec {
    /// Unique in the config.
    pub name: String,
    /// Whether the name was made from `at`.
    pub name_is_default: bool,
    /// The `GRP` of a one-liner.
    pub group: Option<String>,
    /// `at` as the user wrote it, without a one-liner's `%return`.
    pub at: String,
    /// The same, parsed.
    pub place: Place,
    /// Entry, return or both.
    pub kind: Kind,
    /// Fetched at entry.
    pub args: Vec<FetchArg>,
    /// Fetched at return.
    pub ret: Vec<FetchArg>,
    /// Which hits count.
    pub filter: Option<FilterExpr>,
    /// The same as the user wrote it.
    pub filter_text: Option<String>,
    /// What a hit does, in order.
    pub actions: Vec<Action>,
    /// Most calls followed at once, 0 for no limit.
    pub maxactive: u32,
    /// How the probe may be made.
    pub method: Method,
    /// Stop after so many hits, 0 for never.
    pub limit: u64,
    /// Take every so-manieth hit, at least 1.
    pub sample: u64,
    /// Whether it begins armed.
    pub enabled: bool,
    /// Where the user wrote it.
    pub origin: Origin,
    /// What it needs that this version doesn't have; such a probe is listed as refused.
    pub not_yet: Option<&'static str>,
}

/// Which side of a call.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Kind {
    /// Before the instruction at the place runs.
    #[default]
    Entry,
    /// When the function returns.
    Return,
    /// Both, paired.
    Call,
}

impl Kind {
    /// As the config spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Return => "return",
            Self::Call => "call",
        }
    }
}

/// How a probe may be made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Method {
    /// The fastest that is safe.
    #[default]
    Auto,
    /// Never a jump.
    Int3,
}

/// Where a probe's `at` stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The config's file name, `-e` for one-liners.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Length of `at` in characters.
    pub len: u32,
    /// The whole line, for messages that point at the probe later on.
    pub source_line: String,
}

impl Origin {
    /// A message about the probe, pointing at its `at`.
    #[must_use]
    pub fn diagnostic(
        &self,
        severity: Severity,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            len: self.len,
            source_line: self.source_line.clone(),
            message: message.into(),
            help,
        }
    }
}
