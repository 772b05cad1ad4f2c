//! Events and reports: the record of a hit, and how records and summaries are printed.

pub mod event_json;
pub mod event_text;
pub mod histogram;
pub mod latency;
pub mod line;
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

pub use latency::Latency;
pub use line::LineBuf;

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
