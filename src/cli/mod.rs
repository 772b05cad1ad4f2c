//! The command `uprobe`: a file per subcommand.
//!
//! Ordinary Rust in a process of its own; no probe is ever armed here. What `run` and
//! `check` say about a probe comes from the same code as what the library says.

mod check;
mod doctor;
mod help;
mod libraries;
mod list;
mod overlay;
mod plan;
mod predict;
#[expect(unsafe_code, reason = "fork, exec, wait and signal dispositions of one child")]
mod process;
mod program;
mod report;
mod run;
mod style;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use lexopt::{Arg, Parser};

/// All is well.
const EXIT_OK: u8 = 0;
/// It failed.
const EXIT_FAILED: u8 = 1;
/// The command line is wrong.
const EXIT_USAGE: u8 = 2;
/// EX_CONFIG: the config is wrong, or a probe can't be armed.
const EXIT_CONFIG: u8 = 78;

/// Why a command ends early.
enum Failure {
    /// The command line is wrong: a sentence.
    Usage(String),
    /// Anything else: exit status and a sentence.
    Failed(u8, String),
    /// Everything has been said; only the exit status is left.
    Said(u8),
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<program::NotRunnable> for Failure {
    fn from(refusal: program::NotRunnable) -> Self {
        let dot = if refusal.advice.is_empty() { "" } else { ". " };
        Self::Failed(refusal.status, format!("{}{dot}{}", refusal.message, refusal.advice))
    }
}

/// A command: its name, its help, and what it does with the rest of the command line.
struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(Parser) -> Result<u8, Failure>,
}

const COMMANDS: [Command; 5] = [
    Command { name: "run", help: help::RUN, run: run::main },
    Command { name: "list", help: help::LIST, run: list::main },
    Command { name: "check", help: help::CHECK, run: check::main },
    Command { name: "report", help: help::REPORT, run: report::main },
    Command { name: "doctor", help: help::DOCTOR, run: doctor::main },
];

/// Names that are taken, for later versions.
const NOT_YET: [&str; 1] = ["top"];

/// Runs the command line; returns the exit status.
pub fn main() -> ExitCode {
    ExitCode::from(dispatch(std::env::args_os().skip(1).collect()))
}

fn dispatch(args: Vec<OsString>) -> u8 {
    let mut parser = Parser::from_args(args);
    let (help, result) = match parser.next() {
        Ok(Some(Arg::Value(name))) => match COMMANDS.iter().find(|c| name == c.name) {
            Some(command) => (Some(command.name), (command.run)(parser)),
            None if name == doctor::TRIAL => (None, Ok(doctor::trial_main())),
            None if NOT_YET.iter().any(|n| name == *n) => {
                let message = format!("'{}' is not in this version yet", name.to_string_lossy());
                (None, Err(Failure::Usage(message)))
            }
            None => (None, Err(Failure::Usage(unknown_command(&name.to_string_lossy())))),
        },
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => (None, print(help::MAIN)),
        Ok(Some(Arg::Short('V') | Arg::Long("version"))) => (None, print(VERSION)),
        Ok(Some(other)) => (None, Err(other.unexpected().into())),
        Ok(None) => {
            eprint(help::MAIN);
            (None, Err(Failure::Said(EXIT_USAGE)))
        }
        Err(error) => (None, Err(error.into())),
    };
    match result {
        Ok(status) | Err(Failure::Said(status)) => status,
        Err(Failure::Failed(status, message)) => {
            complain(&message);
            status
        }
        Err(Failure::Usage(message)) => {
            complain(&message);
            let command = help.map_or(String::new(), |name| format!(" {name}"));
            eprint(&format!("Try 'uprobe{command} --help'.\n"));
            EXIT_USAGE
        }
    }
}

const VERSION: &str = concat!("uprobe ", env!("CARGO_PKG_VERSION"), "\n");

/// What every command does with an option it doesn't know itself.
fn common_option(arg: Arg<'_>, command: &str) -> Result<u8, Failure> {
    match arg {
        Arg::Short('h') | Arg::Long("help") => {
            print(COMMANDS.iter().find(|c| c.name == command).map_or(help::MAIN, |c| c.help))
        }
        Arg::Short('V') | Arg::Long("version") => print(VERSION),
        other => Err(other.unexpected().into()),
    }
}

fn unknown_command(name: &str) -> String {
    let known = COMMANDS.iter().map(|c| c.name).chain(NOT_YET);
    match known.min_by_key(|k| strsim::damerau_levenshtein(k, name)) {
        Some(near) if strsim::damerau_levenshtein(near, name) <= 2 => {
            format!("unknown command '{name}'; did you mean '{near}'?")
        }
        _ => format!("unknown command '{name}'"),
    }
}

/// Writes to standard output. Where nobody reads it any more (`| head`), that is the end
/// of the output and no failure.
fn print(text: &str) -> Result<u8, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(EXIT_FAILED, format!("standard output: {error}")))
        }
        _ => Ok(EXIT_OK),
    }
}

/// Writes to standard error; where that can't be written there is nobody to tell.
fn eprint(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn complain(message: &str) {
    let style = style::Style::of(&std::io::stderr());
    eprint(&format!("uprobe: {} {message}\n", style.bad("error:")));
}
