//! Whatever unwinds the stack gets through the frames of functions whose returns are followed: C++
//! exceptions, Rust panics, the end of a thread, longjmp, backtrace(3), debuggers. What a program
//! prints is the same as without the library, and each call is accounted for: it came back, or was left.

#[path = "unwinding/account.rs"]
mod account;
#[path = "unwinding/backtraces.rs"]
mod backtraces;
mod common;
#[path = "unwinding/debugger.rs"]
mod debugger;
#[path = "unwinding/exceptions.rs"]
mod exceptions;
#[path = "unwinding/panics.rs"]
mod panics;
#[path = "unwinding/threads.rs"]
mod threads;
#[path = "unwinding/unwinders.rs"]
mod unwinders;
#[path = "unwinding/walked.rs"]
mod walked;
