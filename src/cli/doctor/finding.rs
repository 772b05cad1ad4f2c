//! One thing that was looked at.

use std::fmt::Write as _;

/// What it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Probes work, with less than all.
    Warning,
    /// Probes don't work.
    Fails,
}

impl Level {
    /// As it is printed, and in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fails => "fails",
        }
    }
}

/// What was looked at, what was found, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// A stable word.
    pub check: &'static str,
    /// What it means.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do; empty where there is nothing.
    pub advice: String,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, text: text.into(), advice: String::new() }
    }

    /// Probes work, with less than all.
    pub fn warning(check: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, text: text.into(), advice: advice.into() }
    }

    /// Probes don't work.
    pub fn fails(check: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Fails, text: text.into(), advice: advice.into() }
    }

    /// All of it in one line.
    pub fn sentence(&self) -> String {
        let dot = if self.advice.is_empty() { "" } else { ". " };
        format!("{}{dot}{}", self.text, self.advice)
    }
}

/// One object.
pub fn json(findings: &[Finding], works: bool) -> String {
    let mut out = format!("{{\"version\":1,\"works\":{works},\"checks\":[");
    for (number, finding) in findings.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        // Writing into a String does not fail.
        let _ = write!(
            out,
            "{comma}\n{{\"check\":{},\"level\":{},\"text\":{},\"advice\":{}}}",
            string(finding.check),
            string(finding.level.word()),
            string(&finding.text),
            string(&finding.advice)
        );
    }
    out.push_str("]}\n");
    out
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        let _ = match letter {
            '"' | '\\' => write!(out, "\\{letter}"),
            control if u32::from(control) < 0x20 => write!(out, "\\u{:04x}", u32::from(control)),
            other => write!(out, "{other}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_any_text() {
        let finding = Finding::warning("x", "a \"b\" \\ \n", "do");
        assert_eq!(
            json(&[finding], true),
            "{\"version\":1,\"works\":true,\"checks\":[\n{\"check\":\"x\",\"level\":\"warning\",\
             \"text\":\"a \\\"b\\\" \\\\ \\u000a\",\"advice\":\"do\"}]}\n"
        );
    }
}
