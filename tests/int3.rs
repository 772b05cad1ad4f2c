//! Every test of hits, signals, returns and unwinding once more, with int3 at each place: there a jump stands
//! otherwise. The harness knows by this binary's name.

#![allow(clippy::duplicate_mod, reason = "each of them is a test of its own, too, with the harness")]

#[path = "c_returns.rs"]
mod c_returns;
#[path = "counts.rs"]
mod counts;
#[path = "defer.rs"]
mod defer;
#[path = "dlopen.rs"]
mod dlopen;
#[path = "handlers.rs"]
mod handlers;
#[path = "instructions.rs"]
mod instructions;
#[path = "jumps.rs"]
mod jumps;
#[path = "objects.rs"]
mod objects;
#[path = "output.rs"]
mod output;
#[path = "processes.rs"]
mod processes;
#[path = "returns.rs"]
mod returns;
#[path = "returns_flow.rs"]
mod returns_flow;
#[path = "returns_process.rs"]
mod returns_process;
#[path = "returns_values.rs"]
mod returns_values;
#[path = "review.rs"]
mod review;
#[path = "signals.rs"]
mod signals;
#[path = "stack.rs"]
mod stack;
#[path = "unwinding.rs"]
mod unwinding;
