//! What leaves the process: event records and their text, the end report, file names.

pub mod summary;
mod summary_json;
mod summary_openmetrics;
mod summary_table;
pub mod template;
