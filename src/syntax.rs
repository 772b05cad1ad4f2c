//! What every parser of user text returns when the text is wrong: where, and what.

use std::fmt;

/// A mistake in one of the small languages (places, fetch arguments, filters, actions, one-liners).
/// `config` turns it into file, line, column and a caret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    /// Byte offset in the parsed text where the caret goes.
    pub at: usize,
    /// How many bytes the caret underlines, at least 1.
    pub len: usize,
    /// What is wrong, lower case, no full stop.
    pub message: String,
}

impl SyntaxError {
    /// An error that underlines `len` bytes at `at`.
    pub fn new(at: usize, len: usize, message: impl Into<String>) -> Self {
        Self { at, len: len.max(1), message: message.into() }
    }

    /// The same error, for a text that begins `by` bytes into a larger one.
    #[must_use]
    pub fn shifted(mut self, by: usize) -> Self {
        self.at += by;
        self
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}
