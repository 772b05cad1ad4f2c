//! The engine in a process: starting, gates, the dynamic linker's hook, files, the end.

pub mod files;
pub mod gates;
pub mod messages;
pub mod plugins;
pub mod prepare;
mod refusals;
pub mod report;
pub mod start;
mod starters;
pub mod timebase;
mod trace_file;
pub mod watch;
