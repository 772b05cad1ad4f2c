//! The report at the end of the process: its model, and the three ways to write it.
//!
//! The renderers run while the process is dying, perhaps in a signal handler: they take
//! no lock, use no thread-local, do no I/O and don't panic on any input. They write into
//! a `fmt::Write` of the caller's and return its error, nothing else; `table` allocates
//! one index array, the others nothing.

use std::borrow::Cow;
use std::fmt;

pub use super::histogram::Histogram;
pub use super::latency::Latency;
pub use super::summary_json::{json, json_string};
pub use super::summary_openmetrics::openmetrics;
pub use super::summary_table::table;

/// The version of the JSON form.
pub const VERSION: u32 = 1;

/// The report of one process.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    /// [`VERSION`].
    pub version: u32,
    /// Process id, as the process itself sees it.
    pub pid: u32,
    /// Path of the program (`/proc/self/exe`): bytes, as file names are.
    pub exe: Cow<'a, [u8]>,
    /// Nanoseconds from our start to the report.
    pub wall_ns: u64,
    /// In the order of the config, globs expanded in address order.
    pub probes: Vec<ProbeSummary<'a>>,
}

/// One probe's line.
#[derive(Clone, Debug)]
pub struct ProbeSummary<'a> {
    /// Unique name.
    pub name: Cow<'a, str>,
    /// Where, as the user wrote it.
    pub at: Cow<'a, str>,
    /// Path of the object it was found in.
    pub object: Option<Cow<'a, [u8]>>,
    /// The symbol it was found by.
    pub symbol: Option<Cow<'a, str>>,
    /// Bytes from the symbol.
    pub offset: u64,
    /// Offset in the object's file.
    pub file_offset: Option<u64>,
    /// Where it is in this process.
    pub address: Option<u64>,
    /// Which side of the function.
    pub kind: Kind,
    /// What became of it.
    pub state: State,
    /// How it is probed.
    pub method: Option<Method>,
    /// Why it was refused or waits, or why it was not optimised: `code: sentence`.
    pub reason: Option<Cow<'a, str>>,
    /// Times the handler ran.
    pub hits: u64,
    /// Returns seen, of a probe that follows calls: `hits` = `returns` + `unwound` + `in_flight`.
    pub returns: u64,
    /// Calls left without a return: by longjmp, an exception, the end of the thread.
    pub unwound: u64,
    /// Calls that had not returned when the report was made.
    pub in_flight: u64,
    /// Executions at which the handler could not run.
    pub nmissed: u64,
    /// Executions the filter turned away.
    pub filtered: u64,
    /// Executions left out by `sample` or `limit`.
    pub sampled_out: u64,
    /// Hits whose event did not fit the buffer.
    pub lost: u64,
    /// Times from entry to return.
    pub latency: Latency,
    /// `hist(NAME)`, in the order of the actions.
    pub hist: Vec<Histogram<'a>>,
}

/// Which side of a function a probe watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Kind {
    #[default]
    Entry,
    Return,
    Call,
}

/// What became of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// In the text.
    Armed,
    /// Its object is not loaded.
    #[default]
    Pending,
    /// Can't be probed.
    Refused,
    /// Off by the user's wish.
    Disabled,
    /// Its object was unloaded, or its handler crashed.
    Gone,
}

/// How the instruction under a probe is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A jump in place of the instruction.
    Jump,
    /// int3; the effect is computed on the saved registers.
    Emulate,
    /// int3; a copy that jumps back.
    Boost,
    /// int3; a copy that traps again.
    Step,
}

impl Kind {
    /// As written in the config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Return => "return",
            Self::Call => "call",
        }
    }
}

impl State {
    /// As written in the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Disabled => "disabled",
            Self::Gone => "gone",
        }
    }
}

impl Method {
    /// As written in the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jump => "jump",
            Self::Emulate => "emulate",
            Self::Boost => "boost",
            Self::Step => "step",
        }
    }
}

impl ProbeSummary<'_> {
    /// A probe nobody has seen yet: pending, every count zero.
    #[must_use]
    pub fn new<'a>(name: impl Into<Cow<'a, str>>, at: impl Into<Cow<'a, str>>) -> ProbeSummary<'a> {
        ProbeSummary {
            name: name.into(),
            at: at.into(),
            object: None,
            symbol: None,
            offset: 0,
            file_offset: None,
            address: None,
            kind: Kind::default(),
            state: State::default(),
            method: None,
            reason: None,
            hits: 0,
            returns: 0,
            unwound: 0,
            in_flight: 0,
            nmissed: 0,
            filtered: 0,
            sampled_out: 0,
            lost: 0,
            latency: Latency::default(),
            hist: Vec::new(),
        }
    }
}

/// The last component of a path; the path itself where there is none.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    match path.rsplit(|b| *b == b'/').next() {
        Some(name) if !name.is_empty() => name,
        _ => path,
    }
}

/// Writes bytes that ought to be UTF-8: each bad sequence becomes U+FFFD, and each
/// character is given to `escape`, which writes it or something in its place.
pub(super) fn write_escaped(
    out: &mut dyn fmt::Write,
    bytes: &[u8],
    escape: fn(&mut dyn fmt::Write, char) -> fmt::Result,
) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape(out, c)?;
        }
        if !chunk.invalid().is_empty() {
            escape(out, char::REPLACEMENT_CHARACTER)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
