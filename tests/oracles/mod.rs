//! What the fuzzers check, each a function of any bytes that panics where something is wrong. Shared by
//! the fuzz targets of `fuzz/` and by `tests/oracles.rs`, which runs them for seconds over good inputs
//! that it changes a little, and over every input that ever failed.

//! The user has `insn_native` as a module of its own.

#![allow(dead_code, reason = "each user uses its part")]

pub mod bytes;
pub mod config;
pub mod fetched;
pub mod glob;
pub mod harmless;
pub mod model;
pub mod relocated;
pub mod seeds;
pub mod window;
pub mod world;
