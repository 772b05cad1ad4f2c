//! From parsed arguments and filter to the program that runs at a hit, with every check that
//! needs to know the place or more than one text.

use crate::fetch::arg::{Base, FetchArg, Origin, Span, Width};
use crate::fetch::filter::{Comparison, FilterExpr, Op, Quote};
use crate::fetch::nearest::hint;
use crate::fetch::number::parse_signed;
use crate::fetch::program::{
    ACCEPT, ArgProgram, EventProgram, Format, Operand, REJECT, Relation, Start, Step, Store, Test,
};
use crate::regs::{ARGUMENT_REGS, Reg};
use crate::syntax::SyntaxError;
use std::fmt;

/// Most arguments of a probe, as in ftrace.
pub const MAX_ARGS: usize = 128;

/// Where in a function the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// At its first instruction, before anything of the frame is made.
    Entry,
    /// Behind it.
    Inside,
    /// `args` at its first instruction, `ret` where it returned to.
    Return,
    /// The same, with the time between the two.
    Call,
}

impl At {
    const fn has_return(self) -> bool {
        matches!(self, Self::Return | Self::Call)
    }
}

/// Which side of a call an argument is fetched at; the only one where there is but one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Entry,
    Return,
}

/// Which text an error is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The argument at this index, those of the return counted on from those of the entry.
    Arg(usize),
    /// The filter.
    Filter,
}

/// Why arguments or a filter can't be compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompileError {
    /// Which text is wrong.
    pub part: Part,
    /// What is wrong, with its place in that text.
    pub error: SyntaxError,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for CompileError {}

const LATENCY_NEEDS_CALL: &str = "$latency needs both sides of the call to be timed; write kind = \"call\"";

type Compiled<T> = Result<T, SyntaxError>;

fn fail<T>(span: Span, message: impl Into<String>) -> Compiled<T> {
    Err(SyntaxError::new(span.at, span.len, message))
}

/// Compiles the arguments and the filter of a probe for one place: `args` are fetched there, `ret`
/// where the function returned to, in the order of the record's values. Arguments without a name
/// get their default one.
///
/// # Errors
/// The first mistake.
pub fn compile(
    args: &[FetchArg],
    ret: &[FetchArg],
    filter: Option<&FilterExpr>,
    at: At,
) -> Result<EventProgram, CompileError> {
    let mut programs: Vec<ArgProgram> = Vec::with_capacity(args.len() + ret.len());
    let sides = args.iter().map(|arg| (arg, Side::Entry)).chain(ret.iter().map(|arg| (arg, Side::Return)));
    for (index, (arg, side)) in sides.enumerate() {
        let arg = arg.clone().with_default_name(index);
        let program = compile_arg(&arg, &programs, side, at)
            .map_err(|error| CompileError { part: Part::Arg(index), error })?;
        programs.push(program);
    }
    let mut steps = Vec::new();
    if let Some(filter) = filter {
        let fields = Fields { args: &programs, at };
        lower(filter, fields, ACCEPT, REJECT, &mut steps)
            .map_err(|error| CompileError { part: Part::Filter, error })?;
    }
    Ok(EventProgram { args: programs.into(), entry_args: args.len(), filter: steps.into() })
}

fn compile_arg(arg: &FetchArg, before: &[ArgProgram], side: Side, at: At) -> Compiled<ArgProgram> {
    if side == Side::Return && !at.has_return() {
        let whole = Span { at: 0, len: arg.text.len() };
        return fail(
            whole,
            "nothing is fetched at the return here; write kind = \"return\" or kind = \"call\"",
        );
    }
    if before.len() >= MAX_ARGS {
        return fail(arg.name_span, format!("too many arguments: over {MAX_ARGS}"));
    }
    if before.iter().any(|other| *other.name == arg.name) {
        return fail(arg.name_span, format!("argument name '{}' is already used", arg.name));
    }
    if let Some(what) = arg.not_yet() {
        let is_type = matches!(arg.ty.base, Base::F32 | Base::F64 | Base::SymbolText);
        let span = if is_type { arg.type_span } else { arg.origin_span };
        return fail(span, format!("{what} is not in this version yet"));
    }
    let (start, loads_first) = start(arg, side, at)?;
    let mut loads: Vec<i64> = loads_first.into_iter().collect();
    loads.extend(&arg.source.derefs);
    // The outermost dereference is where the value lies; the others load pointers.
    let place = loads.pop();
    let (store, format) = store(arg.ty.base);
    if arg.ty.count.is_some() && store != Store::Text && place.is_none() {
        return fail(arg.type_span, "an array accepts only a memory argument, like +0($arg1)");
    }
    if store == Store::Text
        && place.is_none()
        && matches!(start, Start::Tid | Start::Timestamp | Start::Latency)
    {
        return fail(arg.type_span, "string accepts only a memory argument");
    }
    Ok(ArgProgram {
        name: arg.name.clone().into(),
        start,
        loads: loads.into(),
        place,
        store,
        format,
        count: arg.ty.count,
    })
}

/// Where the value begins, and the offset of the load that belongs to the origin itself.
fn start(arg: &FetchArg, side: Side, at: At) -> Compiled<(Start, Option<i64>)> {
    let whole = |reg| Start::Register { reg, shift: 0, mask: u64::MAX };
    Ok(match &arg.source.origin {
        Origin::Register(part) => {
            let mask = u64::MAX >> 64u32.saturating_sub(part.bits.into()).min(63);
            (Start::Register { reg: part.reg, shift: part.shift.into(), mask }, None)
        }
        Origin::Argument(n) => match (side, at) {
            (Side::Entry, At::Entry | At::Return | At::Call) => (argument(*n), None),
            (Side::Entry, At::Inside) => {
                return fail(
                    arg.origin_span,
                    format!("$arg{n} is available only at a function's first instruction: use %reg"),
                );
            }
            (Side::Return, _) => {
                return fail(
                    arg.origin_span,
                    format!("$arg{n} is not available on return; fetch it at the entry, in 'args'"),
                );
            }
        },
        Origin::ReturnValue if side == Side::Return => (whole(Reg::Rax), None),
        Origin::ReturnValue => {
            let what = "$retval is not available before the function returns";
            return fail(arg.origin_span, format!("{what}; {}", advice_for_return(at, "kind = \"return\"")));
        }
        Origin::Latency if side == Side::Return && at == At::Call => (Start::Latency, None),
        Origin::Latency if side == Side::Return => return fail(arg.origin_span, LATENCY_NEEDS_CALL),
        Origin::Latency => {
            let what = "$latency is not known before the function returns";
            return fail(arg.origin_span, format!("{what}; {}", advice_for_return(at, "kind = \"call\"")));
        }
        Origin::StackWord(n) => (Start::StackWord { displacement: u64::from(*n) * 8 }, None),
        Origin::Stack => (whole(Reg::Rsp), None),
        Origin::Comm => (Start::Comm, None),
        Origin::Tid => (Start::Tid, None),
        Origin::Timestamp => (Start::Timestamp, None),
        Origin::Address(address) => (Start::Immediate(*address), Some(0)),
        Origin::File(offset) => (Start::File { offset: *offset, address: None }, Some(0)),
        Origin::Immediate(value) => (Start::Immediate(*value), None),
        Origin::ImmediateText(text) => (Start::Text(text.clone().into()), None),
        Origin::Xmm(_) | Origin::Parameter(_) => {
            return fail(arg.origin_span, "not in this version yet");
        }
    })
}

/// What to do about a source that is only known at the return, fetched at the entry.
fn advice_for_return(at: At, kind: &str) -> String {
    match at {
        At::Call => "fetch it at the return, in 'ret'".to_owned(),
        At::Return if kind == "kind = \"return\"" => "fetch it at the return, in 'ret'".to_owned(),
        _ => format!("write {kind} and fetch it in 'ret'"),
    }
}

/// `$argN` at a function's first instruction: six registers, then the words above the return
/// address (System V ABI, 3.2.3).
fn argument(n: u32) -> Start {
    let index = (n as usize).saturating_sub(1);
    match ARGUMENT_REGS.get(index) {
        Some(&reg) => Start::Register { reg, shift: 0, mask: u64::MAX },
        None => Start::StackWord { displacement: (index - ARGUMENT_REGS.len() + 1) as u64 * 8 },
    }
}

fn store(base: Base) -> (Store, Format) {
    let int = |width: Width, format| {
        let mask = u64::MAX >> (64 - width.bits());
        (Store::Int { width: width.bytes(), shift: 0, mask }, format)
    };
    match base {
        Base::Unsigned(width) => int(width, Format::Unsigned),
        Base::Signed(width) => int(width, Format::Signed),
        Base::Hex(width) => int(width, Format::Hex),
        Base::Char => int(Width::W8, Format::Char),
        Base::Symbol | Base::SymbolText | Base::F32 | Base::F64 => int(Width::W64, Format::Symbol),
        Base::Text => (Store::Text, Format::Text),
        Base::Bits { bits, shift, container } => {
            // Shifting by less than 64 all the same: bits is at least 1.
            let mask = u64::MAX >> 64u32.saturating_sub(bits.into()).min(63);
            let store = Store::Int { width: container.bytes(), shift: shift.into(), mask };
            (store, Format::Unsigned)
        }
    }
}

/// Appends the steps of `expr`, which go on at `if_true` or `if_false`. Recursion as deep as
/// the parser allowed.
fn lower(
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
struct Fields<'a> {
    args: &'a [ArgProgram],
    at: At,
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
            let hint = match name.strip_prefix('$').or_else(|| name.strip_prefix('%')) {
                Some("retval") => format!("; name it in 'ret', like ret = [\"x={name}\"]"),
                Some(_) => format!("; name it in 'args', like args = [\"x={name}\"]"),
                None => hint(name, known),
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
