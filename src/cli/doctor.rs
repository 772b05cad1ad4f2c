//! `uprobe doctor`: whether probes would work here, and in a program; and where not, why, and what to do.
//!
//! What the system says is read first; then it is tried, with a small process of our own that is probed. The
//! program is only looked at: nothing of it is run.

mod finding;
mod image;
mod system;
mod trial;

use std::ffi::OsString;
use std::path::Path;

use lexopt::{Arg, Parser};

use super::style::Style;
use super::{EXIT_FAILED, EXIT_OK, Failure, common_option, print, program, run};
use finding::{Finding, Level};

pub use trial::{ARGUMENT as TRIAL, main as trial_main};

/// `uprobe doctor`; `args` is the command line after it.
///
/// # Errors
/// A wrong command line.
pub(super) fn main(mut args: Parser) -> Result<u8, Failure> {
    let (mut as_json, mut program): (bool, Option<(OsString, Vec<OsString>)>) = (false, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("json") => as_json = true,
            Arg::Value(name) => program = Some((name, args.raw_args()?.collect())),
            other => return common_option(other, "doctor"),
        }
    }
    let library = run::library();
    let mut findings = system::look(library.as_deref());
    if let Ok(library) = &library {
        findings.extend(trial::both(library));
    }
    if let Some((name, rest)) = &program {
        findings.extend(image::look(name, rest, library.as_deref().ok()));
    }
    let works = findings.iter().all(|finding| finding.level != Level::Fails);
    print(&if as_json { finding::json(&findings, works) } else { table(&findings, works) })?;
    Ok(if works { EXIT_OK } else { EXIT_FAILED })
}

/// What keeps `uprobe run` from being of use, found without trying: the first of it.
///
/// # Errors
/// In the words of `doctor`.
pub(super) fn refuse(program: &program::Program, library: &Path) -> Result<(), String> {
    let findings = [system::library(Ok(library)), system::shadow_stack(), image::shadow_stack(program)];
    match findings.into_iter().flatten().find(|finding| finding.level == Level::Fails) {
        Some(finding) => Err(finding.sentence()),
        None => Ok(()),
    }
}

fn table(findings: &[Finding], works: bool) -> String {
    let style = Style::of(&std::io::stdout());
    let mut out = String::new();
    for finding in findings {
        // Padded before it is coloured.
        let word = format!("{:<8}", finding.level.word());
        let word = match finding.level {
            Level::Ok => word,
            Level::Warning => style.odd(&word),
            Level::Fails => style.bad(&word),
        };
        out.push_str(&format!("{word} {}: {}\n", finding.check, finding.text));
        if !finding.advice.is_empty() {
            out.push_str(&format!("{:8} {}\n", "", finding.advice));
        }
    }
    out.push_str(if works { "Probes work here.\n" } else { "Probes would not work here.\n" });
    out
}
