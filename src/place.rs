//! `at`: where a probe goes, as the user wrote it. Parsed here, resolved in `elf`.

mod label;

pub use label::Label;

use crate::syntax::SyntaxError;

/// Which loaded objects are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObjectPattern {
    /// `exe`, or nothing before the colon: the program itself.
    Exe,
    /// Contains a `/`: this file, by whatever path or link it is reached (compared by inode).
    Path(String),
    /// A file name, `libc.so.6`.
    Name(String),
    /// A file name or path with `*`, `?` or `[`.
    Glob(String),
}

/// Which symbols are meant. Each form matches the mangled and the demangled name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SymbolPattern {
    /// This name; `name@VERSION` and `name@@VERSION` name one version.
    Exact(String),
    /// `*`, `?`, `[a-z]`.
    Glob(String),
    /// `/regex/`, without the slashes.
    Regex(String),
}

/// The place inside the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// `SYMBOL` or `SYMBOL+0x12`.
    Symbol {
        /// Which symbol or symbols.
        pattern: SymbolPattern,
        /// Byte offset from it.
        offset: u64,
    },
    /// An offset in the file.
    FileOffset(u64),
    /// A source line.
    Line {
        /// File name as in the debug information, or its end.
        file: String,
        /// Line number, from 1.
        line: u32,
    },
    /// A static marker.
    Usdt {
        /// Provider.
        provider: String,
        /// Name.
        name: String,
    },
}

/// A parsed `at`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which objects.
    pub object: ObjectPattern,
    /// Which place in them.
    pub target: Target,
}

/// The longest `at` taken, in bytes: longer ones are accidents.
const MAX_LEN: usize = 8192;

/// Parses `at`.
///
/// The object ends at the first `:` that is not half of a C++ or Rust `::`, so
/// `libfoo.so:ns::Cls::method(int)` needs no quotes.
///
/// # Errors
/// Says what is wrong and where; what follows `; ` in the message is advice.
pub fn parse(text: &str) -> Result<Place, SyntaxError> {
    let trimmed = text.trim();
    let skipped = text.len() - text.trim_start().len();
    parse_trimmed(trimmed).map_err(|e| e.shifted(skipped))
}

fn parse_trimmed(text: &str) -> Result<Place, SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::new(
            0,
            1,
            "the place is empty; write OBJECT:SYMBOL, such as 'libc.so.6:openat'",
        ));
    }
    if text.len() > MAX_LEN {
        return Err(SyntaxError::new(0, text.len(), format!("a place can't be longer than {MAX_LEN} bytes")));
    }
    if let Some((at, c)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err(SyntaxError::new(at, c.len_utf8(), "control character in the place"));
    }
    if let Some(rest) = text.strip_prefix("usdt:") {
        return parse_usdt(rest).map_err(|e| e.shifted("usdt:".len()));
    }
    let Some(colon) = separator(text) else { return Err(no_separator(text)) };
    let (before, after) = (&text[..colon], &text[colon + 1..]);
    if matches!(before, "uprobe" | "uretprobe" | "u" | "ur") && separator(after).is_some() {
        let message =
            format!("'{before}:' is bpftrace's; begin with the object, the kind is a key of its own");
        return Err(SyntaxError::new(0, colon + 1, message));
    }
    if let Some(place) = parse_line(before, after)? {
        return Ok(place);
    }
    let target = parse_target(before, after).map_err(|e| e.shifted(colon + 1))?;
    Ok(Place { object: parse_object(before), target })
}

/// Where the object ends: the first `:` of an odd run (`a:b`, `a:::b`); even runs are `::`.
fn separator(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let run = bytes[i..].iter().take_while(|b| **b == b':').count();
        if run % 2 == 1 {
            return Some(i);
        }
        i += run.max(1);
    }
    None
}

/// The error for a text without a separator, with the advice that fits.
fn no_separator(text: &str) -> SyntaxError {
    let all = text.len();
    if let Some((object, symbol)) = text.split_once('!') {
        let at = object.len();
        return SyntaxError::new(at, 1, format!("expected ':' after the object; write '{object}:{symbol}'"));
    }
    if text.contains('/') || text.contains(".so") || text == "exe" {
        let message = format!("no symbol or offset after the object; write '{text}:SYMBOL'");
        return SyntaxError::new(0, all, message);
    }
    if let Some((object, file)) = text.split_once('@')
        && is_source(file)
    {
        let at = object.len() + 1;
        return SyntaxError::new(at, file.len(), format!("no line number; write '{text}:LINE'"));
    }
    SyntaxError::new(
        0,
        all,
        format!("no object before '{text}'; write ':{text}' or 'exe:{text}' for the program's own function"),
    )
}

/// What is before the colon.
fn parse_object(text: &str) -> ObjectPattern {
    if text.is_empty() || text == "exe" {
        return ObjectPattern::Exe;
    }
    let class = text.find('[').is_some_and(|open| text[open..].contains(']'));
    if class || text.contains(['*', '?']) {
        return ObjectPattern::Glob(text.to_owned());
    }
    if text.contains('/') {
        ObjectPattern::Path(text.to_owned())
    } else {
        ObjectPattern::Name(text.to_owned())
    }
}

/// `OBJECT:PROVIDER:NAME` or `OBJECT:NAME`, after `usdt:`.
fn parse_usdt(text: &str) -> Result<Place, SyntaxError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (object, provider, name) = match parts[..] {
        [object, name] => (object, "*", name),
        [object, provider, name] => (object, provider, name),
        [_] => {
            let message = "a static marker needs a name; write usdt:OBJECT:PROVIDER:NAME";
            return Err(SyntaxError::new(0, text.len(), message));
        }
        _ => {
            let at = parts[..3].iter().map(|p| p.len() + 1).sum::<usize>() - 1;
            return Err(SyntaxError::new(at, text.len() - at, "nothing can follow the marker's name"));
        }
    };
    if provider.is_empty() {
        return Err(SyntaxError::new(object.len() + 1, 1, "the provider is empty; '*' means any"));
    }
    if name.is_empty() {
        return Err(SyntaxError::new(text.len(), 1, "no marker name after ':'; '*' means any"));
    }
    let target = Target::Usdt { provider: provider.to_owned(), name: name.to_owned() };
    Ok(Place { object: parse_object(object), target })
}

/// `OBJECT@file.c` and `42`. None when the `@` is part of a path.
fn parse_line(before: &str, after: &str) -> Result<Option<Place>, SyntaxError> {
    let Some(at) = before.rfind('@') else { return Ok(None) };
    let (object, file) = (&before[..at], &before[at + 1..]);
    let has_number = after.starts_with(|c: char| c.is_ascii_digit());
    if !is_source(file) && (!has_number || file.contains(".so")) {
        return Ok(None);
    }
    if file.is_empty() {
        return Err(SyntaxError::new(at, 1, "no source file after '@'"));
    }
    let start = before.len() + 1;
    if !has_number {
        let message = format!("expected a line number after '{file}:'");
        return Err(SyntaxError::new(start, after.len(), message));
    }
    if let Some(bad) = after.find(|c: char| !c.is_ascii_digit()) {
        return Err(SyntaxError::new(start + bad, after.len() - bad, "a line number has digits only"));
    }
    match after.parse::<u32>() {
        Ok(line) if line > 0 => {
            let target = Target::Line { file: file.to_owned(), line };
            Ok(Some(Place { object: parse_object(object), target }))
        }
        Ok(_) => Err(SyntaxError::new(start, after.len(), "lines are counted from 1")),
        Err(_) => Err(SyntaxError::new(start, after.len(), "the line number is too large")),
    }
}

/// Whether this is called like a source file.
fn is_source(file: &str) -> bool {
    const ENDINGS: [&str; 20] = [
        "c", "cc", "cpp", "cxx", "c++", "C", "h", "hh", "hpp", "hxx", "rs", "go", "S", "s", "f", "f90",
        "zig", "d", "m", "y",
    ];
    file.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && ENDINGS.contains(&ending))
}

/// What is after the colon; offsets in errors count from there.
fn parse_target(object: &str, text: &str) -> Result<Target, SyntaxError> {
    if text.trim().is_empty() {
        return Err(SyntaxError::new(0, 1, format!("no symbol or offset after '{object}:'")));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        if is_source(object) && text.bytes().all(|b| b.is_ascii_digit()) {
            let message = format!("a source line needs its object; write 'exe@{object}:{text}'");
            return Err(SyntaxError::new(0, text.len(), message));
        }
        if let Some(plus) = text.find('+') {
            let message = "nothing can be added to a file offset; write the sum";
            return Err(SyntaxError::new(plus, text.len() - plus, message));
        }
        return parse_number(text).map(Target::FileOffset).map_err(|mut e| {
            if e.message.contains("digit") {
                e.message.push_str("; a symbol can't begin with a digit");
            }
            e
        });
    }
    if text.starts_with('/') {
        return parse_regex(text);
    }
    let (symbol, offset) = split_offset(text)?;
    check_symbol(symbol)?;
    let symbol = symbol.strip_prefix("::").unwrap_or(symbol);
    let pattern = if glob_start(symbol).is_some() {
        check_glob(symbol).map_err(|e| e.shifted(text.find(symbol).unwrap_or(0)))?;
        SymbolPattern::Glob(symbol.to_owned())
    } else {
        SymbolPattern::Exact(symbol.to_owned())
    };
    Ok(Target::Symbol { pattern, offset })
}

/// `/regex/` with an offset perhaps.
fn parse_regex(text: &str) -> Result<Target, SyntaxError> {
    let close = text.rfind('/').unwrap_or(0);
    if close == 0 {
        return Err(SyntaxError::new(0, text.len(), "the regular expression has no closing '/'"));
    }
    let (pattern, tail) = (&text[1..close], &text[close + 1..]);
    if pattern.is_empty() {
        return Err(SyntaxError::new(0, 2, "the regular expression is empty; '*' means every function"));
    }
    let offset = match tail.strip_prefix('+') {
        Some(number) => parse_number(number).map_err(|e| e.shifted(close + 2))?,
        None if tail.is_empty() => 0,
        None => {
            return Err(SyntaxError::new(
                close + 1,
                tail.len(),
                "only '+OFFSET' can follow a regular expression",
            ));
        }
    };
    if let Err(error) = regex_syntax::Parser::new().parse(pattern) {
        let (span, what) = match &error {
            regex_syntax::Error::Parse(e) => (*e.span(), e.kind().to_string()),
            regex_syntax::Error::Translate(e) => (*e.span(), e.kind().to_string()),
            _ => return Err(SyntaxError::new(1, pattern.len(), "bad regular expression")),
        };
        let at = span.start.offset.min(pattern.len());
        let len = span.end.offset.saturating_sub(at);
        return Err(SyntaxError::new(1 + at, len, format!("in the regular expression: {what}")));
    }
    Ok(Target::Symbol { pattern: SymbolPattern::Regex(pattern.to_owned()), offset })
}

/// Takes `+0x12` off the end. A `+` that belongs to a C++ operator or a Rust bound stays.
fn split_offset(text: &str) -> Result<(&str, u64), SyntaxError> {
    // Inside the brackets of a glob a sign is part of a range.
    let after_ranges = text.rfind(']').map_or(0, |end| end + 1);
    let last = |sign: char| text[after_ranges..].rfind(sign).map(|at| after_ranges + at);
    let Some(plus) = last('+') else {
        if let Some(minus) = last('-')
            && is_plain(&text[..minus])
            && text[minus + 1..].starts_with(|c: char| c.is_ascii_digit())
        {
            let message = "an offset can't be negative; name the function that contains the place";
            return Err(SyntaxError::new(minus, text.len() - minus, message));
        }
        return Ok((text, 0));
    };
    let (base, tail) = (&text[..plus], &text[plus + 1..]);
    let at = plus + 1;
    if tail.starts_with(|c: char| c.is_ascii_digit()) {
        if base.is_empty() {
            return Err(SyntaxError::new(0, 1, "no symbol before '+'"));
        }
        return match parse_number(tail) {
            Ok(offset) => Ok((base, offset)),
            Err(_) if !is_plain(base) => Ok((text, 0)),
            Err(e) => Err(e.shifted(at)),
        };
    }
    if !is_plain(base) || base.ends_with("operator") || base.ends_with('+') {
        return Ok((text, 0));
    }
    if tail.is_empty() {
        return Err(SyntaxError::new(plus, 1, "no offset after '+'"));
    }
    Err(SyntaxError::new(at, tail.len(), format!("'{tail}' is no offset; write a number such as 0x12")))
}

/// Whether this can only be a C name, a versioned one or a glob of such: no operator, no template.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '@' | '*' | '?' | '[' | ']'))
}

/// A decimal or `0x` number.
fn parse_number(text: &str) -> Result<u64, SyntaxError> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix, skipped) = match hex {
        Some(digits) => (digits, 16, 2),
        None => (text, 10, 0),
    };
    if digits.is_empty() {
        return Err(SyntaxError::new(0, text.len(), "expected digits"));
    }
    if let Some((at, c)) = digits.char_indices().find(|(_, c)| !c.is_digit(radix)) {
        let message = if radix == 10 && c.is_ascii_hexdigit() {
            format!("'{c}' is no decimal digit (a hexadecimal number begins with 0x)")
        } else if radix == 10 {
            format!("'{c}' is no decimal digit")
        } else {
            format!("'{c}' is no hexadecimal digit")
        };
        return Err(SyntaxError::new(skipped + at, c.len_utf8(), message));
    }
    if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
        return Err(SyntaxError::new(
            0,
            text.len(),
            "octal is not taken; write it with 0x, or without the leading 0",
        ));
    }
    u64::from_str_radix(digits, radix)
        .map_err(|_| SyntaxError::new(0, text.len(), "the number does not fit 64 bits"))
}

/// What no symbol has.
fn check_symbol(symbol: &str) -> Result<(), SyntaxError> {
    if let Some(at) = symbol.find("%return") {
        let message = "'%return' is for one-liners; write kind = \"return\"";
        return Err(SyntaxError::new(at, symbol.len() - at, message));
    }
    let is_cpp = symbol.contains(['(', '<', '{', '[', '~', '\'']) || symbol.contains("operator");
    if let Some(at) = symbol.find(char::is_whitespace)
        && !is_cpp
        && !["for ", "to ", "thunk"].iter().any(|word| symbol.contains(word))
    {
        return Err(SyntaxError::new(at, 1, "a symbol has no blanks"));
    }
    if !is_cpp && let Some(at) = separator(symbol) {
        let message = "unexpected ':' in the symbol";
        return Err(SyntaxError::new(at, 1, message));
    }
    if is_plain(symbol)
        && let Some(at) = symbol.find('@')
    {
        let version = symbol[at + 1..].strip_prefix('@').unwrap_or(&symbol[at + 1..]);
        if at == 0 {
            return Err(SyntaxError::new(0, 1, "no symbol before '@'"));
        }
        if version.is_empty() || version.contains('@') {
            return Err(SyntaxError::new(
                at,
                symbol.len() - at,
                "bad symbol version; write 'memcpy@GLIBC_2.2.5' or 'memcpy@@GLIBC_2.14'",
            ));
        }
    }
    Ok(())
}

/// Where the first wildcard is. `operator*`, `operator[]`, `char*` among parameters, `<[T]>` and
/// `[abi:cxx11]` have none.
fn glob_start(symbol: &str) -> Option<usize> {
    let bytes = symbol.as_bytes();
    let (mut i, mut depth) = (0, 0_usize);
    while i < bytes.len() {
        let rest = &symbol[i..];
        let starts_word = i == 0 || !(bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
        if starts_word && rest.starts_with("operator") {
            i += "operator".len() + operator_len(&rest["operator".len()..]);
            continue;
        }
        match bytes[i] {
            b'(' | b'<' | b'{' => depth += 1,
            b')' | b'>' | b'}' => depth = depth.saturating_sub(1),
            b'?' => return Some(i),
            b'*' if depth == 0 || !is_pointer(symbol, i) => return Some(i),
            b'[' if depth == 0 && !rest.starts_with("[abi:") && !rest.starts_with("[clone") => {
                return Some(i);
            }
            b'[' if depth == 0 => i += rest.find(']').unwrap_or(0),
            _ => {}
        }
        i += 1;
        while !symbol.is_char_boundary(i) {
            i += 1;
        }
    }
    None
}

/// Length of the C++ operator at the start of `text`, which follows the word `operator`.
fn operator_len(text: &str) -> usize {
    let blanks = text.len() - text.trim_start_matches(' ').len();
    let rest = &text[blanks..];
    for fixed in ["()", "[]", "new[]", "delete[]"] {
        if rest.starts_with(fixed) {
            return blanks + fixed.len();
        }
    }
    let len = rest.bytes().take_while(|b| b"+-*/%^&|~!=<>,".contains(b)).count();
    if len == 0 { 0 } else { blanks + len }
}

/// Whether the `*` at `at`, inside brackets, is a pointer's rather than a wildcard.
fn is_pointer(symbol: &str, at: usize) -> bool {
    let after = &symbol[at + 1..];
    let before = symbol[..at].trim_end();
    if after.starts_with("const ") || after.starts_with("mut ") {
        return true;
    }
    if before.ends_with('(') {
        return after.starts_with(")(");
    }
    before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>' | '*' | ')' | ']' | '&'))
}

/// Character classes must be closed and in order.
fn check_glob(glob: &str) -> Result<(), SyntaxError> {
    let mut from = glob_start(glob).unwrap_or(0);
    while let Some(open) = glob[from..].find('[').map(|at| from + at) {
        let inside = open + 1 + usize::from(glob[open + 1..].starts_with(['!', '^']));
        // A `]` right after the opening stands for itself.
        let skipped = usize::from(glob[inside..].starts_with(']'));
        let Some(close) = glob[inside + skipped..].find(']').map(|at| inside + skipped + at) else {
            return Err(SyntaxError::new(open, glob.len() - open, "'[' has no closing ']'"));
        };
        let class: Vec<(usize, char)> = glob[inside..close].char_indices().collect();
        if let Some(range) = class.windows(3).find(|w| w[1].1 == '-' && w[0].1 > w[2].1) {
            let at = inside + range[0].0;
            return Err(SyntaxError::new(
                at,
                range[2].0 + range[2].1.len_utf8() - range[0].0,
                "the range is reversed",
            ));
        }
        from = close + 1;
    }
    Ok(())
}

/// How many bytes of `text` are the place, where fetch arguments follow it after a blank
/// (one-liners). Blanks inside brackets, after `operator`, and before `const` belong to a C++ or
/// Rust name.
#[must_use]
pub fn extent(text: &str) -> usize {
    let first_blank = text.find(char::is_whitespace).unwrap_or(text.len());
    if let Some(colon) = separator(text)
        && colon < first_blank
        && text[colon + 1..].starts_with('/')
    {
        return regex_extent(text, colon + 2);
    }
    let bytes = text.as_bytes();
    let (mut i, mut depth) = (0, 0_usize);
    while i < bytes.len() {
        let rest = &text[i..];
        let starts_word = i == 0 || !(bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
        if starts_word && rest.starts_with("operator") {
            let tail = &rest["operator".len()..];
            let operator = operator_len(tail);
            i += "operator".len() + if operator > 0 { operator } else { conversion_len(tail) };
            continue;
        }
        match bytes[i] {
            b'(' | b'<' | b'{' | b'[' => depth += 1,
            b'>' if i > 0 && bytes[i - 1] == b'-' => {}
            b')' | b'>' | b'}' | b']' => depth = depth.saturating_sub(1),
            b if b.is_ascii_whitespace() && depth == 0 && !continues_name(rest.trim_start()) => return i,
            _ => {}
        }
        i += 1;
        while !text.is_char_boundary(i) {
            i += 1;
        }
    }
    if depth == 0 { text.len() } else { first_blank }
}

/// The end of a `/regex/` that begins at `from`: its last slash before a blank, `+` or `%`.
fn regex_extent(text: &str, from: usize) -> usize {
    let closing = text[from..].match_indices('/').map(|(at, _)| from + at + 1).find(|end| {
        let tail = &text[*end..];
        tail.is_empty() || tail.starts_with(|c: char| c.is_whitespace() || c == '+' || c == '%')
    });
    let from = closing.unwrap_or(from);
    text[from..].find(char::is_whitespace).map_or(text.len(), |blank| from + blank)
}

/// Length of ` unsigned long` in `operator unsigned long()`, of ` new` and ` delete`.
fn conversion_len(text: &str) -> usize {
    let mut len = 0;
    while let Some(rest) = text[len..].strip_prefix(' ') {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let is_last =
            !matches!(&rest[..word], "unsigned" | "signed" | "long" | "short" | "const" | "volatile");
        len += 1 + word;
        if is_last {
            break;
        }
    }
    len
}

/// Whether what follows a blank still belongs to a demangled name.
fn continues_name(rest: &str) -> bool {
    let word = rest.split(char::is_whitespace).next().unwrap_or("");
    let word = word.strip_suffix("%return").unwrap_or(word);
    matches!(word, "const" | "volatile" | "&" | "&&" | "[clone")
        || rest.starts_with("const::")
        || rest.starts_with("[clone")
}

#[cfg(test)]
mod tests;
