//! The parser of filters: ftrace's event filters.
//!
//! ```text
//! filter     := and { "||" and }
//! and        := term { "&&" term }
//! term       := { "!" } ( "(" filter ")" | comparison )
//! comparison := field op value            `!a == 1` means !(a == 1), as in ftrace
//! op         := == != < <= > >= & ~
//! value      := number | 'x' | "string" | 'string' | bare word
//! ```
//!
//! Whether a value suits its field only the compiler knows, since it knows the field's type.
//! `&` is a comparison by itself: true where any of the bits is set.

use crate::fetch::arg::Span;
use crate::syntax::SyntaxError;

/// Most bytes of a value, as in ftrace.
pub const MAX_VALUE: usize = 255;
/// Most `( )` around one comparison.
pub const MAX_DEPTH: usize = 32;
/// Most comparisons.
pub const MAX_COMPARISONS: usize = 128;

/// A parsed filter. Not deeper than [`MAX_DEPTH`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilterExpr {
    /// All of these, at least two.
    All(Vec<FilterExpr>),
    /// Any of these, at least two.
    Any(Vec<FilterExpr>),
    /// Not this.
    Not(Box<FilterExpr>),
    /// A comparison.
    Compare(Comparison),
}

/// A field, an operator and a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comparison {
    /// The name of an argument, or `$tid`, `$comm` …
    pub field: String,
    /// The operator.
    pub op: Op,
    /// The value, as written, without its quotes.
    pub value: String,
    /// Its quotes.
    pub quote: Quote,
    pub(super) field_span: Span,
    pub(super) op_span: Span,
    pub(super) value_span: Span,
}

/// An operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `&`
    Bits,
    /// `~`
    Glob,
}

impl Op {
    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Bits => "&",
            Self::Glob => "~",
        }
    }
}

/// How a value was quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Quote {
    None,
    Single,
    Double,
}

type Parsed<T> = Result<T, SyntaxError>;

fn fail<T>(at: usize, len: usize, message: impl Into<String>) -> Parsed<T> {
    Err(SyntaxError::new(at, len, message))
}

/// Parses a filter.
///
/// # Errors
/// The first mistake, with its place in `text`.
pub fn parse(text: &str) -> Result<FilterExpr, SyntaxError> {
    if text.trim().is_empty() {
        return fail(0, text.len(), "no filter expression");
    }
    let mut parser = Parser { text, at: 0, comparisons: 0 };
    let expr = parser.any(0)?;
    match parser.peek() {
        None => Ok(expr),
        Some(b')') => fail(parser.at, 1, "too many ')'"),
        Some(_) => {
            let len = parser.word_len();
            let word = parser.rest().get(..len).unwrap_or_default();
            let hint = match word {
                "and" | "AND" => ": write && for 'and'",
                "or" | "OR" => ": write || for 'or'",
                _ => "",
            };
            fail(parser.at, len, format!("expected && or || before '{word}'{hint}"))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    comparisons: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no white space; `at` is moved there.
    fn peek(&mut self) -> Option<u8> {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.rest().bytes().next()
    }

    /// Whether `word` comes next; then it is taken.
    fn take(&mut self, word: &str) -> bool {
        self.peek();
        let taken = self.rest().starts_with(word);
        if taken {
            self.at += word.len();
        }
        taken
    }

    /// How long what stands here is, for the underline: a run of operators, or up to white space or the
    /// next operator.
    fn word_len(&self) -> usize {
        let rest = self.rest();
        let ends = |c: char| c.is_whitespace() || "()&|!=<>~\"'".contains(c);
        let operators = rest.find(|c: char| !"&|!=<>~".contains(c)).unwrap_or(rest.len());
        if operators > 0 {
            return operators;
        }
        let first = rest.chars().next().map_or(0, char::len_utf8);
        rest.get(first..).and_then(|rest| rest.find(ends)).map_or(rest.len(), |len| len + first)
    }

    fn any(&mut self, depth: usize) -> Parsed<FilterExpr> {
        let mut terms = vec![self.all(depth)?];
        while self.take("||") {
            terms.push(self.all(depth)?);
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { FilterExpr::Any(terms) })
    }

    fn all(&mut self, depth: usize) -> Parsed<FilterExpr> {
        let mut terms = vec![self.term(depth)?];
        while self.take("&&") {
            terms.push(self.term(depth)?);
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { FilterExpr::All(terms) })
    }

    fn term(&mut self, depth: usize) -> Parsed<FilterExpr> {
        let mut negated = false;
        while self.peek() == Some(b'!') && !self.rest().starts_with("!=") {
            self.at += 1;
            negated = !negated;
        }
        let open = self.at;
        let expr = if self.take("(") {
            if depth == MAX_DEPTH {
                return fail(open, 1, format!("too deeply nested: over {MAX_DEPTH} '('"));
            }
            let expr = self.any(depth + 1)?;
            match self.peek() {
                Some(b')') => self.at += 1,
                None => return fail(open, 1, "too many '(': this one is not closed"),
                Some(_) => return fail(self.at, self.word_len(), "expected && or || or ')'"),
            }
            expr
        } else {
            FilterExpr::Compare(self.comparison()?)
        };
        Ok(if negated { FilterExpr::Not(Box::new(expr)) } else { expr })
    }

    fn comparison(&mut self) -> Parsed<Comparison> {
        let (field, field_span) = self.field()?;
        let (op, op_span) = self.op(&field)?;
        let (value, quote, value_span) = self.value(op)?;
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return fail(field_span.at, field_span.len, format!("too many terms: over {MAX_COMPARISONS}"));
        }
        Ok(Comparison { field, op, value, quote, field_span, op_span, value_span })
    }

    fn field(&mut self) -> Parsed<(String, Span)> {
        if self.peek().is_none() {
            return fail(self.text.len(), 1, "expected a comparison, the filter ends here");
        }
        let rest = self.rest();
        let sigil = usize::from(rest.starts_with('$'));
        let name = rest.get(sigil..).unwrap_or_default();
        let len = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        if len == 0 || name.starts_with(|c: char| c.is_ascii_digit()) {
            let len = self.word_len();
            return fail(self.at, len, format!("expected the name of a field, not '{}'", &rest[..len]));
        }
        let span = Span { at: self.at, len: sigil + len };
        self.at += span.len;
        Ok((rest[..span.len].to_owned(), span))
    }

    fn op(&mut self, field: &str) -> Parsed<(Op, Span)> {
        const OPS: [Op; 8] = [
            Op::Equal,
            Op::NotEqual,
            Op::LessOrEqual,
            Op::Less,
            Op::GreaterOrEqual,
            Op::Greater,
            Op::Glob,
            Op::Bits,
        ];
        self.peek();
        let (at, rest) = (self.at, self.rest());
        let known = OPS.into_iter().find(|op| rest.starts_with(op.text()));
        let len = rest.find(|c: char| !"=!<>~&|+-*/%^".contains(c)).unwrap_or(rest.len());
        // What may follow an operator at once: the sign of a number, a glob.
        let alone = |op: &Op| rest[op.text().len()..len].trim_matches(['-', '*', '/', '^']).is_empty();
        match known.filter(alone) {
            Some(op) if !rest.starts_with("&&") => {
                self.at += op.text().len();
                Ok((op, Span { at, len: op.text().len() }))
            }
            _ if len == 0 || rest.starts_with("&&") || rest.starts_with("||") => fail(
                at,
                self.word_len(),
                format!("expected an operator after '{field}': one of == != < <= > >= & ~"),
            ),
            _ => {
                let hint = match &rest[..len] {
                    "=" | "===" => "; did you mean '=='?",
                    "=~" => "; did you mean '~'?",
                    "!~" => "; write !(… ~ …)",
                    "<>" => "; did you mean '!='?",
                    _ => "",
                };
                fail(at, len, format!("invalid operator '{}'{hint}", &rest[..len]))
            }
        }
    }

    fn value(&mut self, op: Op) -> Parsed<(String, Quote, Span)> {
        let Some(first) = self.peek() else {
            return fail(self.text.len(), 1, format!("no value after '{}'", op.text()));
        };
        let at = self.at;
        let (value, quote, len) = match first {
            b'"' => self.quoted('"', Quote::Double)?,
            b'\'' => self.quoted('\'', Quote::Single)?,
            _ => {
                let rest = self.rest();
                let len = bare_len(rest);
                if len == 0 {
                    return fail(at, self.word_len(), format!("no value after '{}'", op.text()));
                }
                (rest[..len].to_owned(), Quote::None, len)
            }
        };
        if value.len() > MAX_VALUE {
            return fail(at, len, format!("operand too long: over {MAX_VALUE} bytes"));
        }
        self.at += len;
        Ok((value, quote, Span { at, len }))
    }

    /// A quoted value, and its length with the quotes. A backslash protects the quote after it, and is kept:
    /// a glob needs it.
    fn quoted(&self, mark: char, quote: Quote) -> Parsed<(String, Quote, usize)> {
        let body = self.rest().get(1..).unwrap_or_default();
        let mut protected = false;
        for (len, c) in body.char_indices() {
            if c == mark && !protected {
                return Ok((body[..len].to_owned(), quote, len + 2));
            }
            protected = c == '\\' && !protected;
        }
        fail(self.at, self.rest().len(), format!("missing matching quote {mark}"))
    }
}

/// How many bytes of a value without quotes stand here. Brackets are kept together: `[a-z]`.
fn bare_len(rest: &str) -> usize {
    rest.find(|c: char| c.is_whitespace() || "()&|!=<>\"'".contains(c)).unwrap_or(rest.len())
}
