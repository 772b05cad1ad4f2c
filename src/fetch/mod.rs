//! Fetch arguments and filters: what a probe reads at a hit, and which hits count.
//!
//! ```text
//! text ── arg::parse_arg, filter::parse ──> FetchArg, FilterExpr      (ordinary code)
//!      ── compile ──> EventProgram                                   (ordinary code)
//!      ── eval, filter_eval ──> RecordBuf, accept or reject          (at a hit)
//! ```
//!
//! The grammars are ftrace's. Where they differ:
//!
//! * `$arg2:string`, `%di:string`, `$retval:string[4]`: a value that is not memory is taken as the
//!   pointer, so it means what `+0($arg2):string` means. ftrace has no meaning for it.
//! * `%ax` is the whole register, as in ftrace; its parts are `%eax`, `%al`, `%ah`, and
//!   `%r8d`, `%r8w`, `%r8b`. A part is zero-extended.
//! * `$tid`, `$ts` (CLOCK_MONOTONIC, ns) and `$latency` (ns from entry to return) are ours.
//!
//! A probe of returns has arguments of two sides in one program: those of the entry are fetched
//! into a record that is put away until the call returns, when the others are appended.
//!
//! Nothing here knows a process: `Memory` is given, and is an array in the tests.

pub mod arg;
mod comparisons;
mod compile;
mod compile_filter;
mod eval;
pub mod filter;
mod filter_eval;
mod nearest;
mod needs;
mod number;
mod parse;
mod program;
mod register;

pub use arg::FetchArg;
pub use comparisons::{Comparison, Condition, Next, RegisterValue};
pub use compile::{At, CompileError, Part, compile};
pub use eval::HitInput;
pub use filter::FilterExpr;
pub use needs::Needs;
pub use parse::parse_arg;
pub use program::{ArgProgram, EventProgram, Format, Relation};

#[cfg(test)]
mod tests;
