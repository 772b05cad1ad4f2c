//! The uprobe_events one-liners of `-e` and `def`:
//! `p[:[GRP/]EVENT] OBJECT:PLACE [FETCHARGS]`, `r[MAXACTIVE][:…] …`, `PLACE%return`, and a plain
//! place, fetch arguments after it or not.

use std::ops::Range;

use crate::config::spec::Kind;
use crate::place;
use crate::syntax::SyntaxError;

/// A one-liner's parts, as byte ranges of its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OneLiner {
    /// Entry or return.
    pub(super) kind: Kind,
    /// What says so: `r`, `%return`.
    pub(super) kind_at: Range<usize>,
    /// The number after `r`, and where.
    pub(super) maxactive: Option<(u32, Range<usize>)>,
    /// `GRP`.
    pub(super) group: Option<Range<usize>>,
    /// `EVENT`.
    pub(super) event: Option<Range<usize>>,
    /// The place, without `%return`.
    pub(super) place: Range<usize>,
    /// The fetch arguments.
    pub(super) args: Vec<Range<usize>>,
}

/// Splits a one-liner into its parts; the parts themselves are not looked at.
pub(super) fn split(text: &str) -> Result<OneLiner, SyntaxError> {
    let start = text.len() - text.trim_start().len();
    let end = text.trim_end().len();
    if start >= end {
        return Err(SyntaxError::new(
            0,
            1,
            "the probe is empty; write OBJECT:SYMBOL, such as 'libc.so.6:openat'",
        ));
    }
    if text[start..].starts_with("-:") {
        return Err(SyntaxError::new(
            start,
            2,
            "'-:' removes a kernel event; here a probe ends with its process",
        ));
    }
    let mut line = OneLiner {
        kind: Kind::Entry,
        kind_at: start..start,
        maxactive: None,
        group: None,
        event: None,
        place: start..end,
        args: Vec::new(),
    };
    let place_start = match header(text, start, end, &mut line)? {
        Some(after) => next_word(text, after, end).ok_or_else(|| no_place(text, start, after))?,
        None => start,
    };
    let mut place_end = place_start + place::extent(&text[place_start..end]);
    let args_start = place_end;
    if let Some(without) = text[place_start..place_end].strip_suffix("%return") {
        line.kind = Kind::Return;
        line.kind_at = place_start + without.len()..place_end;
        place_end = place_start + without.len();
    }
    line.place = place_start..place_end;
    line.args = split_args(text, args_start, end);
    Ok(line)
}

/// Reads `p[:[GRP/]EVENT]` or `r[MAXACTIVE][:…]`; returns its end, None if there is none.
fn header(text: &str, start: usize, end: usize, line: &mut OneLiner) -> Result<Option<usize>, SyntaxError> {
    let word_end = text[start..end].find(char::is_whitespace).map_or(end, |at| start + at);
    let word = &text[start..word_end];
    let (letter, kind) = match word.as_bytes().first() {
        Some(b'p') => ("p", Kind::Entry),
        Some(b'r') => ("r", Kind::Return),
        _ => return Ok(None),
    };
    let digits = word[1..].bytes().take_while(u8::is_ascii_digit).count();
    let after_digits = &word[1 + digits..];
    if !(after_digits.is_empty() || after_digits.starts_with(':')) || after_digits.starts_with("::") {
        return Ok(None);
    }
    let number = start + 1..start + 1 + digits;
    if digits > 0 {
        if kind == Kind::Entry {
            return Err(SyntaxError::new(
                number.start,
                digits,
                "only 'r' takes a number, the calls followed at once",
            ));
        }
        let maxactive = text[number.clone()].parse::<u32>();
        let maxactive =
            maxactive.map_err(|_| SyntaxError::new(number.start, digits, "the number is too large"))?;
        line.maxactive = Some((maxactive, number.clone()));
    }
    line.kind = kind;
    line.kind_at = start..start + letter.len();
    if !after_digits.is_empty() {
        event(text, number.end + 1..word_end, line)?;
    }
    Ok(Some(word_end))
}

/// Reads `[GRP/]EVENT`.
fn event(text: &str, range: Range<usize>, line: &mut OneLiner) -> Result<(), SyntaxError> {
    let name = &text[range.clone()];
    if name.is_empty() {
        return Err(SyntaxError::new(range.start - 1, 1, "no event name after ':'"));
    }
    let mut event = range.clone();
    if let Some(slash) = name.find('/') {
        if slash == 0 {
            return Err(SyntaxError::new(range.start, 1, "no group before '/'"));
        }
        line.group = Some(range.start..range.start + slash);
        event.start += slash + 1;
    }
    // `p:GRP/ …` is the kernel's way to leave the name to us.
    line.event = (!event.is_empty()).then_some(event);
    Ok(())
}

fn no_place(text: &str, start: usize, after: usize) -> SyntaxError {
    let head = &text[start..after];
    let advice = match head.split_once(':') {
        Some((object, symbol)) if !symbol.is_empty() => {
            format!("write '{head} OBJECT:SYMBOL'; a program called '{object}' is './{object}' here")
        }
        _ => format!("write '{head} OBJECT:SYMBOL'"),
    };
    SyntaxError::new(start, head.len(), format!("no place after '{head}'; {advice}"))
}

/// Where the next word begins.
fn next_word(text: &str, from: usize, end: usize) -> Option<usize> {
    text[from..end].find(|c: char| !c.is_whitespace()).map(|at| from + at)
}

/// The words, where blanks inside parentheses and double quotes don't count.
fn split_args(text: &str, from: usize, end: usize) -> Vec<Range<usize>> {
    let mut args = Vec::new();
    let mut at = from;
    while let Some(start) = next_word(text, at, end) {
        let (mut depth, mut in_quotes, mut is_escaped) = (0_usize, false, false);
        let len = text[start..end].char_indices().find(|(i, c)| {
            // `\"` begins an immediate string; inside the string it is an escaped quote.
            match c {
                '"' if !(in_quotes && is_escaped) => in_quotes = !in_quotes,
                '(' if !in_quotes => depth += 1,
                ')' if !in_quotes => depth = depth.saturating_sub(1),
                c if c.is_whitespace() && !in_quotes && depth == 0 => return *i > 0,
                _ => {}
            }
            is_escaped = *c == '\\' && !is_escaped;
            false
        });
        at = len.map_or(end, |(len, _)| start + len);
        args.push(start..at);
    }
    args
}

/// The TOML text of one probe given as a one-liner, for a config that is written by a program.
#[must_use]
pub fn toml_for_one_liner(text: &str) -> String {
    let is_literal = !text.contains('\'') && !text.chars().any(|c| c.is_control() && c != '\t');
    if is_literal {
        return format!("[[probe]]\ndef = '{text}'\n");
    }
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    format!("[[probe]]\ndef = \"{quoted}\"\n")
}
