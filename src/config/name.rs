//! Names of probes: what a name may be, and the default, made from the place as perf does.

use std::collections::{HashMap, HashSet};

use crate::config::spec::Kind;
use crate::place::{ObjectPattern, Place, SymbolPattern, Target};
use crate::syntax::SyntaxError;

/// Longest name, in bytes.
const MAX_NAME: usize = 128;
/// Longest default name before its number, in bytes: with it, it fits the kernel's 64.
const MAX_DEFAULT: usize = 56;

/// Checks a name the user gave.
pub(super) fn check(name: &str) -> Result<(), SyntaxError> {
    if name.is_empty() {
        return Err(SyntaxError::new(0, 1, "the name is empty; leave the key out for a default"));
    }
    if let Some((at, c)) = name.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control()) {
        return Err(SyntaxError::new(at, c.len_utf8(), "a name has no blanks"));
    }
    if name.len() > MAX_NAME {
        return Err(SyntaxError::new(MAX_NAME, name.len(), format!("a name has at most {MAX_NAME} bytes")));
    }
    Ok(())
}

/// The default name of a probe at `place`, before it is made unique.
pub(super) fn default(place: &Place, kind: Kind) -> String {
    let mut name = match &place.target {
        Target::Symbol { pattern: SymbolPattern::Exact(symbol), .. } => sanitise(short_symbol(symbol)),
        Target::Symbol { pattern: SymbolPattern::Glob(text) | SymbolPattern::Regex(text), .. } => {
            sanitise(text)
        }
        Target::FileOffset(offset) => format!("{}_{offset:#x}", sanitise(&short_object(&place.object))),
        Target::Line { file, line } => {
            format!("{}_{line}", sanitise(file.rsplit('/').next().unwrap_or(file)))
        }
        Target::Usdt { name, .. } => sanitise(name),
    };
    if name.is_empty() {
        name = sanitise(&short_object(&place.object));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name.truncate(MAX_DEFAULT);
    if kind == Kind::Return {
        name.push_str("__return");
    }
    name
}

/// A symbol without version, parameters and Rust's hash.
fn short_symbol(symbol: &str) -> &str {
    let name = match symbol.find(['(', '@']) {
        Some(0) | None => symbol,
        Some(end) => &symbol[..end],
    };
    match name.rsplit_once("::h") {
        Some((short, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => short,
        _ => name,
    }
}

/// A file name up to its first dot: `libc` of `/lib/libc.so.6`.
fn short_object(object: &ObjectPattern) -> String {
    let path = match object {
        ObjectPattern::Exe => "exe",
        ObjectPattern::Path(path) | ObjectPattern::Name(path) | ObjectPattern::Glob(path) => path,
    };
    let file = path.rsplit('/').next().unwrap_or(path);
    let short = file.split('.').find(|part| !part.is_empty()).unwrap_or("probe");
    if short.chars().any(char::is_alphanumeric) { short.to_owned() } else { "probe".to_owned() }
}

/// ASCII letters, digits and single `_`, none of them at the ends but those that were there.
fn sanitise(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.is_empty() && text.chars().all(is_word) {
        return text.to_owned();
    }
    let words: Vec<&str> =
        text.split(|c| !is_word(c)).map(|w| w.trim_matches('_')).filter(|w| !w.is_empty()).collect();
    words.join("_")
}

/// The names taken so far.
#[derive(Default, Debug)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The last number tried for a default name.
    last: HashMap<String, u32>,
}

impl Names {
    /// Takes a name the user gave; false if it is taken.
    pub(super) fn take(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_owned())
    }

    /// Takes `name`, or the first of `name_1`, `name_2` … that is free.
    pub(super) fn take_default(&mut self, name: String) -> String {
        if self.taken.insert(name.clone()) {
            return name;
        }
        let number = self.last.entry(name.clone()).or_insert(0);
        loop {
            *number += 1;
            let numbered = format!("{name}_{number}");
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}
