//! The harness of the tests that run the library as users do: it builds small C and C++
//! programs, preloads `libuprobe.so` into them (or into programs of the system), and hands
//! back status, output, summary and event log.
//!
//! Each test binary includes this module and uses a part of it.
#![allow(dead_code, missing_docs)]

mod build;
mod calls;
mod check;
mod launch;
pub mod script;
mod signals;

// Each of these is used by some of the binaries.
#[allow(unused_imports)]
pub use build::{Compiler, Program, has_command, own_command, require_command, scratch};
#[allow(unused_imports)]
pub use calls::{
    Calls, KINDS, Latency, Told, assert_calls_as_told, assert_followed, assert_ways, calls_of, full_place,
    launch, told_calls,
};
#[allow(unused_imports)]
pub use check::{
    assert_hits_as_told, assert_identity, assert_same_as_native, assert_same_output, dynamic_functions,
    every_nth, functions_by_unwind, instruction_offsets, told,
};
#[allow(unused_imports)]
pub use launch::{End, Launch, Outcome, Probe, Running, library, only_int3};
