//! The registry: what was asked for, where it is, and how it gets into the text and out again.
//!
//! Ordinary Rust under one lock ([`lock`]). The order is always prepare, commit, retire: nothing is
//! visible to a hit before it is complete, and nothing a hit may be reading is freed.
//!
//! `Request` (a config's probe, one of the C API) ─ resolved in each loaded object ─►
//! `Instance` (one place in one file, with its `Consumer`) ─ once or more in memory ─► `ProbePoint`

mod action;
mod api;
mod commit;
mod compact;
mod consumers;
pub mod denied;
mod frames;
mod instance;
pub mod lock;
mod modules;
mod names;
mod optimize;
mod own_text;
mod registry;
mod replace;
mod request;
mod resolve;
mod retire;
mod shared;

pub use api::{ApiProbe, is_entry, not_entry, return_denied};
pub use instance::{Asked, Instance, Maker, State};
pub use modules::{MappedFiles, Module, RDebug, is_program, linker, list_modules};
pub use registry::Registry;
pub use request::Request;
pub use retire::wait_until_idle;
