//! Events and reports: the record of a hit, and how records and summaries are printed.

pub mod event_json;
pub mod event_text;
pub mod file;
pub mod histogram;
pub mod latency;
pub mod line;
pub mod reader;
pub mod record;
pub mod summary;
mod summary_bars;
mod summary_json;
mod summary_latency;
mod summary_openmetrics;
mod summary_table;
pub mod template;

#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod reader_tests;

pub use latency::Latency;
pub use line::LineBuf;

use crate::fetch::{EventProgram, Format};

/// What must be known of a probe's arguments to print their values.
pub trait Arguments {
    /// Names and formats, in the order of a record's values.
    fn arguments(&self) -> impl Iterator<Item = (&str, Format)>;
    /// Whether one of them is `$latency`, so that it needn't be printed besides.
    fn prints_latency(&self) -> bool;
}

impl Arguments for EventProgram {
    fn arguments(&self) -> impl Iterator<Item = (&str, Format)> {
        self.args().iter().map(|arg| (arg.name(), arg.format()))
    }

    fn prints_latency(&self) -> bool {
        self.prints_latency()
    }
}

/// What an event says besides its arguments.
#[derive(Clone, Copy, Debug)]
pub struct EventHead<'a> {
    /// The probe's name.
    pub name: &'a str,
    /// Its place, as the user could write it: `libc.so.6:openat`.
    pub at: &'a str,
    /// The address of the place in this process.
    pub address: u64,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name, up to a NUL.
    pub comm: &'a [u8; 16],
    /// The processor the thread ran on.
    pub cpu: u32,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub ts_ns: u64,
    /// Of a return: the address it returns to, of which no stub is left.
    pub caller: Option<u64>,
    /// Of a return that is paired with its entry: nanoseconds between the two.
    pub latency_ns: Option<u64>,
}
