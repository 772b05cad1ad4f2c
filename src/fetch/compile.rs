//! From parsed arguments and filter to the program that runs at a hit, with every check that
//! needs to know the place or more than one text.

use crate::fetch::arg::{Base, FetchArg, Origin, Span, Width};
use crate::fetch::compile_filter::{Fields, lower};
use crate::fetch::filter::FilterExpr;
use crate::fetch::program::{ACCEPT, ArgProgram, EventProgram, Format, REJECT, Start, Store};
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
    pub(super) const fn has_return(self) -> bool {
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

pub(super) const LATENCY_NEEDS_CALL: &str =
    "$latency needs both sides of the call to be timed; write kind = \"call\"";

pub(super) type Compiled<T> = Result<T, SyntaxError>;

pub(super) fn fail<T>(span: Span, message: impl Into<String>) -> Compiled<T> {
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
