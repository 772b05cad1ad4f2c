//! A string from the config that remembers where each of its bytes stands in the source, so that a
//! mistake inside a TOML string is pointed at exactly, escapes and line breaks or not.

use std::ops::Range;

/// A decoded string and the source offset of each of its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Located {
    /// The decoded text.
    pub(crate) value: String,
    /// Source offset of each byte of `value`, and of its end.
    offsets: Vec<usize>,
}

impl Located {
    /// A text that stands in the source as it is, beginning at `start`.
    pub(crate) fn plain(value: &str, start: usize) -> Self {
        Self { value: value.to_owned(), offsets: (start..=start + value.len()).collect() }
    }

    /// A TOML string whose token, quotes included, stands at `token` in `source`.
    /// `value` is what the TOML parser made of it.
    pub(crate) fn from_token(source: &str, token: Range<usize>, value: &str) -> Self {
        match decode(&source[token.clone()], token.start) {
            Some(decoded) if decoded.value == value => decoded,
            // Not expected; the whole string is then what is pointed at.
            _ => {
                let mut offsets = vec![token.start; value.len()];
                offsets.push(token.end);
                Self { value: value.to_owned(), offsets }
            }
        }
    }

    /// Where `len` bytes at `at` stand in the source; what lies beyond the end is the closing quote.
    pub(crate) fn span(&self, at: usize, len: usize) -> Range<usize> {
        let last = self.value.len();
        let start = self.offsets[at.min(last)];
        let end = self.offsets[at.saturating_add(len).min(last)];
        start..end.max(start + 1)
    }

    /// Where all of it stands.
    pub(crate) fn whole(&self) -> Range<usize> {
        self.span(0, self.value.len())
    }

    /// A part of it. `range` lies on character boundaries.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        Self {
            value: self.value[range.clone()].to_owned(),
            offsets: self.offsets[range.start..=range.end].to_vec(),
        }
    }
}

/// Decodes a TOML string token as the TOML specification says. None if it is none.
fn decode(token: &str, start: usize) -> Option<Located> {
    let (quotes, is_literal) = match token {
        t if t.starts_with("\"\"\"") => (3, false),
        t if t.starts_with("'''") => (3, true),
        t if t.starts_with('"') => (1, false),
        t if t.starts_with('\'') => (1, true),
        _ => return None,
    };
    if token.len() < 2 * quotes {
        return None;
    }
    let mut at = quotes;
    if quotes == 3 {
        // A line break right after the opening quotes is dropped.
        let rest = &token[at..];
        at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let end = token.len() - quotes;
    let mut out = Located { value: String::new(), offsets: Vec::with_capacity(token.len()) };
    while at < end {
        let rest = &token[at..end];
        let c = rest.chars().next()?;
        let (decoded, len) =
            if c == '\\' && !is_literal { decode_escape(rest)? } else { (Some(c), c.len_utf8()) };
        if let Some(decoded) = decoded {
            out.value.push(decoded);
            let each = if len == decoded.len_utf8() && c != '\\' { 1 } else { 0 };
            out.offsets.extend((0..decoded.len_utf8()).map(|i| start + at + i * each));
        }
        at += len;
    }
    out.offsets.push(start + end);
    Some(out)
}

/// The character an escape stands for (none for a line-ending backslash) and the escape's length.
fn decode_escape(text: &str) -> Option<(Option<char>, usize)> {
    let kind = text.chars().nth(1)?;
    let simple = match kind {
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        '"' | '\\' => kind,
        'x' | 'u' | 'U' => {
            let digits = match kind {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let code = u32::from_str_radix(text.get(2..2 + digits)?, 16).ok()?;
            return Some((Some(char::from_u32(code)?), 2 + digits));
        }
        ' ' | '\t' | '\n' | '\r' => {
            let rest = text[1..].trim_start_matches([' ', '\t', '\n', '\r']);
            return Some((None, text.len() - rest.len()));
        }
        _ => return None,
    };
    Some((Some(simple), 2))
}

#[cfg(test)]
mod tests {
    use super::Located;

    /// Token, decoded value, position in the value, position in the token.
    #[test]
    fn points_into_the_token() {
        let rows: [(&str, &str, usize, usize); 8] = [
            (r#""abc""#, "abc", 1, 2),
            (r"'a\b'", r"a\b", 2, 3),
            (r#""a\u0041c""#, "aAc", 2, 8),
            (r#""\t\\x""#, "\t\\x", 2, 5),
            ("\"\"\"\nfoo\\\n   bar\"\"\"", "foobar", 3, 12),
            ("'''\r\nx'y'''", "x'y", 2, 7),
            ("\"é\\u00e9x\"", "ééx", 4, 9),
            (r#""abc""#, "abc", 3, 4),
        ];
        for (token, value, at, expected) in rows {
            let text = format!("k = {token}");
            let located = Located::from_token(&text, 4..text.len(), value);
            assert_eq!(located.value, value);
            assert_eq!(located.span(at, 1).start, 4 + expected, "{token}");
        }
    }

    #[test]
    fn a_part_keeps_its_place() {
        let located = Located::from_token(r#""a\tbc""#, 0..7, "a\tbc").slice(2..4);
        assert_eq!((located.value.as_str(), located.whole()), ("bc", 4..6));
    }
}
