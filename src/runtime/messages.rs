//! The library's own messages: standard error, each line begins `uprobe: ` (UPROBE_LOG).

use std::sync::atomic::{AtomicU8, Ordering::*};

use crate::hit::output;

/// How much is said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Level {
    Error = 0,
    Warn,
    Info,
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Error as u8);

/// Reads UPROBE_LOG's value; an unknown one is reported and means `error`.
pub fn set_level(text: &str) {
    let level = match text {
        "" | "error" => Level::Error,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "debug" => Level::Debug,
        other => {
            say(
                Level::Error,
                &format!("UPROBE_LOG: unknown level '{other}', it is error, warn, info or debug"),
            );
            Level::Error
        }
    };
    LEVEL.store(level as u8, Relaxed);
}

/// Says it, if the level is wanted. Each line of `text` gets the prefix; one write.
pub fn say(level: Level, text: &str) {
    if level as u8 > LEVEL.load(Relaxed) {
        return;
    }
    let mut lines = String::new();
    for line in text.lines() {
        lines.push_str("uprobe: ");
        lines.push_str(line);
        lines.push('\n');
    }
    output::write_stderr(lines.as_bytes());
}
