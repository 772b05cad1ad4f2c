//! The parser of fetch arguments: `[NAME=]SOURCE[:TYPE]`.
//!
//! The mistakes it names, and where it puts the caret, are those of the kernel's
//! `trace_probe.h` and its test `kprobe_syntax_errors.tc`.

use crate::addr::FileOffset;
use crate::fetch::arg::{
    Base, FetchArg, MAX_ARGUMENT, MAX_ARRAY, MAX_DEREFS, MAX_NAME, MAX_STACK_WORD, MAX_TEXT, Origin, Source,
    Span, Type, Width,
};
use crate::fetch::nearest::{hint, nearest};
use crate::fetch::number::{parse_signed, parse_unsigned};
use crate::fetch::register;
use crate::syntax::SyntaxError;

type Parsed<T> = Result<T, SyntaxError>;

fn fail<T>(at: usize, len: usize, message: impl Into<String>) -> Parsed<T> {
    Err(SyntaxError::new(at, len, message))
}

/// Parses one fetch argument.
///
/// # Errors
/// The first mistake, with its place in `text`.
pub fn parse_arg(text: &str) -> Result<FetchArg, SyntaxError> {
    let end = text.trim_end().len();
    let start = end - text[..end].trim_start().len();
    let body = &text[start..end];
    if body.is_empty() {
        return fail(0, text.len(), "no argument expression");
    }
    if body.len() > MAX_TEXT {
        return fail(start, body.len(), format!("argument expression is too long: over {MAX_TEXT} bytes"));
    }
    let mut parser = Parser { text: &text[..end], at: start };
    let (name, name_span) = parser.name()?;
    let (source, origin_span) = parser.source()?;
    let (ty, type_span) = parser.suffix(&source)?;
    Ok(FetchArg { name, source, ty, text: text.to_owned(), name_span, origin_span, type_span })
}

/// Whether the text is a C identifier.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct Parser<'a> {
    /// Up to the end of what is to be parsed; what precedes `at` is only there for the positions.
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Whether `c`, one byte of ASCII, comes next; then it is taken.
    fn take(&mut self, c: char) -> bool {
        let taken = self.rest().starts_with(c);
        self.at += usize::from(taken);
        taken
    }

    /// `NAME=`, or an empty name.
    fn name(&mut self) -> Parsed<(String, Span)> {
        let rest = self.rest();
        let none = Ok((String::new(), Span { at: self.at, len: rest.len() }));
        if rest.starts_with(['%', '$', '@', '\\', '+', '-']) {
            return none;
        }
        let Some(len) = rest.find('=') else { return none };
        let (name, span) = (&rest[..len], Span { at: self.at, len });
        if name.is_empty() {
            return fail(span.at, 1, "argument name is not specified");
        }
        if len > MAX_NAME {
            return fail(span.at, len, format!("argument name is too long: over {MAX_NAME} bytes"));
        }
        if !is_identifier(name) {
            return fail(
                span.at,
                len,
                format!("argument name '{name}' must follow the same rules as C identifiers"),
            );
        }
        if name.starts_with("common_") {
            return fail(
                span.at,
                len,
                format!("argument name '{name}' is reserved, as are all with 'common_' in front"),
            );
        }
        self.at += len + 1;
        if self.rest().is_empty() {
            return fail(self.at, 1, "no argument expression");
        }
        Ok((name.to_owned(), span))
    }

    /// The origin with its dereferences, and where the origin stands.
    fn source(&mut self) -> Parsed<(Source, Span)> {
        let mut derefs = Vec::new();
        while self.rest().starts_with(['+', '-']) {
            if derefs.len() == MAX_DEREFS {
                return fail(
                    self.at,
                    self.rest().len(),
                    format!("dereference is too much nested: over {MAX_DEREFS} deep"),
                );
            }
            derefs.push(self.deref_offset()?);
        }
        let start = self.at;
        let origin = self.origin()?;
        let span = Span { at: start, len: self.at - start };
        if !derefs.is_empty() && matches!(origin, Origin::Comm) {
            return fail(span.at, span.len, "$comm can not be dereferenced");
        }
        if !derefs.is_empty() && matches!(origin, Origin::ImmediateText(_)) {
            return fail(span.at, span.len, "an immediate string can not be dereferenced");
        }
        for _ in &derefs {
            if !self.take(')') {
                return fail(self.at, 1, "dereference brace is not closed");
            }
        }
        derefs.reverse();
        Ok((Source { origin, derefs }, span))
    }

    /// `+N(` or `-uN(`.
    fn deref_offset(&mut self) -> Parsed<i64> {
        let (start, rest) = (self.at, self.rest());
        let Some(len) = rest.find('(') else {
            return fail(start, rest.len(), "dereference needs a brace, like +8(%di)");
        };
        let negative = rest.starts_with('-');
        let digits = rest.get(1..len).unwrap_or_default();
        let digits = digits.strip_prefix('u').unwrap_or(digits);
        let offset = parse_unsigned(digits).and_then(|offset| i64::try_from(offset).ok());
        let Some(offset) = offset else {
            return fail(start, len, format!("invalid dereference offset '{}'", &rest[..len]));
        };
        self.at += len + 1;
        Ok(if negative { -offset } else { offset })
    }

    fn origin(&mut self) -> Parsed<Origin> {
        if let Some(body) = self.rest().strip_prefix("\\\"") {
            return self.immediate_text(body);
        }
        let rest = self.rest();
        let len = rest.find([')', ':']).unwrap_or(rest.len());
        let (word, start) = (&rest[..len], self.at);
        let origin = match word.chars().next() {
            Some('%') => register_origin(&word[1..], start),
            Some('$') => variable(word, start),
            Some('@') => memory(&word[1..], start),
            Some('\\') => match parse_signed(&word[1..]) {
                Some((value, _)) => Ok(Origin::Immediate(value)),
                None => fail(start + 1, len - 1, format!("invalid immediate value '{}'", &word[1..])),
            },
            Some(c) if is_parameter(word) && (c.is_ascii_alphabetic() || c == '_') => {
                Ok(Origin::Parameter(word.to_owned()))
            }
            _ => fail(start, len, "invalid fetch argument: a source begins with one of % $ @ \\ + -"),
        }?;
        self.at += len;
        Ok(origin)
    }

    /// `\"text"`, where `body` follows the first quote.
    fn immediate_text(&mut self, body: &str) -> Parsed<Origin> {
        let mut text = Vec::new();
        let mut bytes = body.bytes();
        loop {
            match bytes.next() {
                Some(b'"') => break,
                Some(b'\\') => match bytes.next() {
                    Some(b'n') => text.push(b'\n'),
                    Some(b't') => text.push(b'\t'),
                    Some(c) => text.push(c),
                    None => {}
                },
                Some(c) => text.push(c),
                None => return fail(self.text.len(), 1, "string is not closed with '\"'"),
            }
        }
        self.at += 2 + body.len() - bytes.len();
        Ok(Origin::ImmediateText(text))
    }

    /// What may follow the source: nothing, or `:TYPE`.
    fn suffix(&mut self, source: &Source) -> Parsed<(Type, Span)> {
        let is_text = matches!(source.origin, Origin::Comm | Origin::ImmediateText(_));
        let whole = Span { at: self.at, len: 0 };
        if self.rest().is_empty() {
            let base = if is_text { Base::Text } else { Type::DEFAULT.base };
            return Ok((Type { base, count: None }, whole));
        }
        if !self.take(':') {
            let text = self.rest();
            return fail(self.at, text.len(), format!("'{text}' is left over after the argument's source"));
        }
        let span = Span { at: self.at, len: self.rest().len() };
        let ty = parse_type(self.rest(), self.at)?;
        if is_text && ty != (Type { base: Base::Text, count: None }) {
            return fail(span.at, span.len, "$comm and immediate strings have no type but 'string'");
        }
        Ok((ty, span))
    }
}

fn register_origin(name: &str, at: usize) -> Parsed<Origin> {
    match register::by_name(name) {
        Some(part) => Ok(Origin::Register(part)),
        None => {
            let hint = nearest(name, register::names()).map(|near| format!("; did you mean '%{near}'?"));
            let hint = hint.unwrap_or_default();
            fail(at, name.len() + 1, format!("invalid register name '%{name}'{hint}"))
        }
    }
}

/// `$…`
fn variable(word: &str, at: usize) -> Parsed<Origin> {
    const NAMES: [&str; 8] = ["$arg1", "$retval", "$stack", "$stack0", "$comm", "$tid", "$ts", "$latency"];
    match word {
        "$retval" => return Ok(Origin::ReturnValue),
        "$stack" => return Ok(Origin::Stack),
        "$comm" | "$COMM" => return Ok(Origin::Comm),
        "$tid" => return Ok(Origin::Tid),
        "$ts" => return Ok(Origin::Timestamp),
        "$latency" => return Ok(Origin::Latency),
        _ => {}
    }
    let numbered = |prefix| {
        let digits = word.strip_prefix(prefix)?;
        digits.starts_with(|c: char| c.is_ascii_digit() || c == '*').then_some(digits)
    };
    // Decimal, without the kernel's octal: $arg010 is a slip.
    let number = |digits: &str, most: u64| {
        let plain = digits == "0" || !digits.starts_with('0');
        digits.parse().ok().filter(|&n: &u64| plain && n <= most)
    };
    if let Some(digits) = numbered("$arg") {
        return match number(digits, MAX_ARGUMENT) {
            Some(n) if n > 0 => Ok(Origin::Argument(n as u32)),
            _ => fail(
                at,
                word.len(),
                format!("invalid argument number '{digits}': $arg1 to $arg{MAX_ARGUMENT}"),
            ),
        };
    }
    if let Some(digits) = numbered("$stack") {
        return match number(digits, MAX_STACK_WORD) {
            Some(n) => Ok(Origin::StackWord(n as u32)),
            None => fail(
                at + "$stack".len(),
                digits.len(),
                format!("invalid stack number '{digits}': at most {MAX_STACK_WORD}"),
            ),
        };
    }
    if let Some(digits) = numbered("$xmm") {
        return match number(digits, 31) {
            Some(n) => Ok(Origin::Xmm(n as u8)),
            None => fail(at, word.len(), format!("invalid register number '{digits}': $xmm0 to $xmm31")),
        };
    }
    fail(at, word.len(), format!("unknown variable '{word}'{}", hint(word, NAMES)))
}

/// `@…`, where `word` follows the `@`.
fn memory(word: &str, at: usize) -> Parsed<Origin> {
    let len = word.len() + 1;
    if let Some(offset) = word.strip_prefix('+') {
        return match parse_unsigned(offset) {
            Some(offset) => Ok(Origin::File(FileOffset(offset))),
            None => fail(at, len, format!("invalid file offset value '{offset}'")),
        };
    }
    match parse_unsigned(word) {
        Some(address) => Ok(Origin::Address(address)),
        None if is_identifier(word) => fail(
            at,
            len,
            format!("a symbol is not available here: take the file offset of '{word}', as @+OFFSET"),
        ),
        None => fail(at, len, format!("invalid memory address '{word}'")),
    }
}

/// `name`, followed by any of `.field`, `->field`, `[N]`.
fn is_parameter(word: &str) -> bool {
    let flat = word.replace("->", ".");
    flat.split('.').all(|step| {
        let (name, mut indices) = step.split_at(step.find('[').unwrap_or(step.len()));
        while let Some((index, rest)) = indices.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            if parse_unsigned(index).is_none() {
                return false;
            }
            indices = rest;
        }
        is_identifier(name) && indices.is_empty()
    })
}

/// Every type but the bit fields.
const TYPES: [(&str, Base); 19] = [
    ("u8", Base::Unsigned(Width::W8)),
    ("u16", Base::Unsigned(Width::W16)),
    ("u32", Base::Unsigned(Width::W32)),
    ("u64", Base::Unsigned(Width::W64)),
    ("s8", Base::Signed(Width::W8)),
    ("s16", Base::Signed(Width::W16)),
    ("s32", Base::Signed(Width::W32)),
    ("s64", Base::Signed(Width::W64)),
    ("x8", Base::Hex(Width::W8)),
    ("x16", Base::Hex(Width::W16)),
    ("x32", Base::Hex(Width::W32)),
    ("x64", Base::Hex(Width::W64)),
    ("char", Base::Char),
    ("f32", Base::F32),
    ("f64", Base::F64),
    ("string", Base::Text),
    ("ustring", Base::Text),
    ("symbol", Base::Symbol),
    ("symstr", Base::SymbolText),
];

/// `TYPE` or `TYPE[N]`, which stands at `at`.
fn parse_type(text: &str, at: usize) -> Parsed<Type> {
    let (name, array) = text.split_at(text.find('[').unwrap_or(text.len()));
    let base = parse_base(name, at)?;
    let count = if array.is_empty() { None } else { Some(parse_count(array, at + name.len())?) };
    Ok(Type { base, count })
}

fn parse_base(name: &str, at: usize) -> Parsed<Base> {
    if let Some((_, base)) = TYPES.iter().find(|(known, _)| *known == name) {
        return Ok(*base);
    }
    if let Some(bits) = name.strip_prefix('b').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return match parse_bits(bits) {
            Some(base) => Ok(base),
            None => fail(
                at,
                name.len(),
                format!("invalid bit field '{name}': write b<width>@<offset>/<8, 16, 32 or 64>, within it"),
            ),
        };
    }
    if name.is_empty() {
        return fail(at, 1, "no type after the ':'");
    }
    fail(
        at,
        name.len(),
        format!("unknown type '{name}' is specified{}", hint(name, TYPES.iter().map(|(name, _)| *name))),
    )
}

/// `W@O/S`
fn parse_bits(text: &str) -> Option<Base> {
    let (bits, rest) = text.split_once('@')?;
    let (shift, container) = rest.split_once('/')?;
    let (bits, shift) = (parse_unsigned(bits)?, parse_unsigned(shift)?);
    let container = match container {
        "8" => Width::W8,
        "16" => Width::W16,
        "32" => Width::W32,
        "64" => Width::W64,
        _ => return None,
    };
    let fits = bits > 0 && bits.checked_add(shift)? <= u64::from(container.bits());
    fits.then_some(Base::Bits { bits: bits as u8, shift: shift as u8, container })
}

/// `[N]`, which stands at `at`.
fn parse_count(text: &str, at: usize) -> Parsed<u8> {
    let Some(close) = text.find(']') else {
        return fail(at + text.len(), 1, "array is not closed");
    };
    if close + 1 < text.len() {
        return fail(at + close + 1, text.len() - close - 1, "array has wrong suffix");
    }
    let digits = &text[1..close];
    match parse_unsigned(digits) {
        Some(n) if n > MAX_ARRAY => {
            fail(at + 1, digits.len(), format!("array number {n} is too big: at most {MAX_ARRAY}"))
        }
        Some(n) if n > 0 => Ok(n as u8),
        _ => fail(at + 1, digits.len(), format!("invalid array size '{digits}'")),
    }
}
