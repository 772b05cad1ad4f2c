//! From a parsed filter to steps over the values of a record, with the checks that need to know
//! the fields' types. A part of `compile`.

use crate::fetch::arg::Span;
use crate::fetch::compile::{At, Compiled, LATENCY_NEEDS_CALL, fail};
use crate::fetch::filter::{Comparison, FilterExpr, Op, Quote};
use crate::fetch::nearest::hint;
use crate::fetch::number::parse_signed;
use crate::fetch::program::{ArgProgram, Format, Operand, Relation, Step, Store, Test};

/// Appends the steps of `expr`, which go on at `if_true` or `if_false`. Recursion as deep as
/// the parser allowed.
pub(super) fn lower(
    expr: &FilterExpr,
    fields: Fields<'_>,
    if_true: u16,
    if_false: u16,
    steps: &mut Vec<Step>,
) -> Compiled<()> {
    match expr {
        FilterExpr::Compare(comparison) => {
            let (operand, test) = compile_comparison(comparison, fields)?;
            steps.push(Step { operand, test, if_true, if_false });
            Ok(())
        }
        FilterExpr::Not(inner) => lower(inner, fields, if_false, if_true, steps),
        FilterExpr::All(terms) => {
            lower_chain(terms, fields, |next| (next, if_false), (if_true, if_false), steps)
        }
        FilterExpr::Any(terms) => {
            lower_chain(terms, fields, |next| (if_true, next), (if_true, if_false), steps)
        }
    }
}

/// Terms in a row: all but the last go on at the term after them for the result that doesn't
/// decide, the last goes on at `last`.
fn lower_chain(
    terms: &[FilterExpr],
    fields: Fields<'_>,
    exits: impl Fn(u16) -> (u16, u16),
    last: (u16, u16),
    steps: &mut Vec<Step>,
) -> Compiled<()> {
    for (index, term) in terms.iter().enumerate() {
        let next = steps.len() + comparisons(term);
        let (if_true, if_false) = if index + 1 == terms.len() { last } else { exits(next as u16) };
        lower(term, fields, if_true, if_false, steps)?;
    }
    Ok(())
}

/// How many steps it takes. At most `MAX_COMPARISONS`, by the parser.
fn comparisons(expr: &FilterExpr) -> usize {
    match expr {
        FilterExpr::Compare(_) => 1,
        FilterExpr::Not(inner) => comparisons(inner),
        FilterExpr::All(terms) | FilterExpr::Any(terms) => terms.iter().map(comparisons).sum(),
    }
}

/// What a filter can name.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) args: &'a [ArgProgram],
    pub(super) at: At,
}

/// What is known of a field at compile time.
struct Field {
    operand: Operand,
    kind: Kind,
    /// For messages: `a string`, `x32`.
    what: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unsigned,
    Signed,
    Text,
}

fn compile_comparison(comparison: &Comparison, fields: Fields<'_>) -> Compiled<(Operand, Test)> {
    let field = field(comparison, fields)?;
    let test = match field.kind {
        Kind::Text => text_test(comparison)?,
        kind => number_test(comparison, kind, &field.what)?,
    };
    Ok((field.operand, test))
}

fn field(comparison: &Comparison, Fields { args, at }: Fields<'_>) -> Compiled<Field> {
    let (name, span) = (comparison.field.as_str(), comparison.field_span);
    if let Some(index) = args.iter().position(|arg| *arg.name == *name) {
        return arg_field(&args[index], index as u16, span);
    }
    let number = |operand, what: &str| Ok(Field { operand, kind: Kind::Unsigned, what: what.into() });
    match name {
        "$tid" | "common_pid" => number(Operand::Tid, "u32"),
        "$ts" => number(Operand::Timestamp, "u64"),
        "$comm" | "comm" | "COMM" => {
            Ok(Field { operand: Operand::Comm, kind: Kind::Text, what: "a string".into() })
        }
        "$latency" if at == At::Call => number(Operand::Latency, "u64"),
        "$latency" => fail(span, LATENCY_NEEDS_CALL),
        _ => {
            let latency = (at == At::Call).then_some("$latency");
            let known = args.iter().map(|arg| &*arg.name).chain(["$tid", "$comm", "$ts"]).chain(latency);
            let hint = match (hint(name, known), name) {
                (hint, _) if !hint.is_empty() => hint,
                (_, "$retval") if at.has_return() => {
                    "; name it in 'ret', like ret = [\"x=$retval\"]".to_owned()
                }
                (_, "$retval") => "; write kind = \"return\" and ret = [\"x=$retval\"]".to_owned(),
                (_, name) if name.starts_with(['$', '%']) => {
                    format!("; name it in 'args', like args = [\"x={name}\"]")
                }
                (hint, _) => hint,
            };
            fail(span, format!("field '{name}' not found{hint}"))
        }
    }
}

fn arg_field(arg: &ArgProgram, index: u16, span: Span) -> Compiled<Field> {
    if arg.count.is_some() {
        return fail(span, format!("field '{}' is an array, which can't be compared", arg.name));
    }
    let bits = match arg.store {
        Store::Int { width, .. } => u32::from(width) * 8,
        Store::Text => 0,
    };
    let (kind, what) = match arg.format {
        Format::Unsigned => (Kind::Unsigned, format!("u{bits}")),
        Format::Hex | Format::Symbol => (Kind::Unsigned, format!("x{bits}")),
        Format::Signed => (Kind::Signed, format!("s{bits}")),
        Format::Char => (Kind::Unsigned, "char".to_owned()),
        Format::Text => (Kind::Text, "a string".to_owned()),
    };
    Ok(Field { operand: Operand::Arg(index), kind, what })
}

fn text_test(comparison: &Comparison) -> Compiled<Test> {
    match comparison.op {
        Op::Equal | Op::NotEqual => {
            let bytes = unescape(comparison);
            Ok(Test::Text(comparison.op == Op::Equal, bytes.into()))
        }
        Op::Glob => Ok(Test::Glob(comparison.value.as_bytes().into())),
        op => fail(
            comparison.op_span,
            format!(
                "illegal operation for field type: '{}' on '{}', a string; use == != or ~",
                op.text(),
                comparison.field
            ),
        ),
    }
}

fn number_test(comparison: &Comparison, kind: Kind, what: &str) -> Compiled<Test> {
    let relation = match comparison.op {
        Op::Equal => Some(Relation::Equal),
        Op::NotEqual => Some(Relation::NotEqual),
        Op::Less => Some(Relation::Less),
        Op::LessOrEqual => Some(Relation::LessOrEqual),
        Op::Greater => Some(Relation::Greater),
        Op::GreaterOrEqual => Some(Relation::GreaterOrEqual),
        Op::Bits => None,
        Op::Glob => {
            return fail(
                comparison.op_span,
                format!("illegal operation for field type: '~' on '{}', {what}", comparison.field),
            );
        }
    };
    let (value, negative) = number(comparison, what)?;
    let span = comparison.value_span;
    let Some(relation) = relation else { return Ok(Test::Bits(value)) };
    match kind {
        Kind::Signed => match i64::try_from(value) {
            Ok(value) => Ok(Test::Signed(relation, value)),
            Err(_) if negative => Ok(Test::Signed(relation, value as i64)),
            Err(_) => fail(span, format!("'{}' is beyond the range of {what}", comparison.value)),
        },
        _ if negative => fail(
            span,
            format!("'{}' is {what} and never negative: give it a type like s64", comparison.field),
        ),
        _ => Ok(Test::Unsigned(relation, value)),
    }
}

/// The value as a number, and whether it is negative.
fn number(comparison: &Comparison, what: &str) -> Compiled<(u64, bool)> {
    let (field, value, span) = (&comparison.field, &comparison.value, comparison.value_span);
    match comparison.quote {
        Quote::None => {}
        Quote::Single => {
            if let [byte] = unescape(comparison)[..] {
                return Ok((u64::from(byte), false));
            }
            return fail(span, format!("expecting a number or one character: '{field}' is {what}"));
        }
        Quote::Double => {
            return fail(span, format!("expecting a number: '{field}' is {what}"));
        }
    }
    match parse_signed(value) {
        Some(number) => Ok(number),
        None if value.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            fail(span, format!("illegal integer value '{value}'"))
        }
        None => fail(span, format!("expecting a number, not '{value}': '{field}' is {what}")),
    }
}

/// The value's bytes: in quotes, `\n`, `\t` and `\` before a quote or itself are taken as in C.
fn unescape(comparison: &Comparison) -> Vec<u8> {
    let raw = comparison.value.as_bytes();
    if comparison.quote == Quote::None {
        return raw.to_vec();
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let escaped = match rest.peek() {
            Some(b'n') => Some(b'\n'),
            Some(b't') => Some(b'\t'),
            Some(&next @ (b'\\' | b'"' | b'\'')) => Some(next),
            _ => None,
        };
        match escaped {
            Some(meant) if byte == b'\\' => {
                bytes.push(meant);
                rest.next();
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}
