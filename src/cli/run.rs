//! `uprobe run`: check first, then start the program with the library in it, and end as it ends.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use super::overlay::{self, Overrides};
use super::plan::{self, Wanted};
use super::process::{self, Ended};
use super::program::{self, Program};
use super::{EXIT_CONFIG, EXIT_FAILED, Failure, common_option, complain, doctor, eprint};

/// The command line.
#[derive(Default)]
struct Options {
    config: Option<PathBuf>,
    probes: Vec<String>,
    overrides: Overrides,
    lenient: bool,
    program: OsString,
    args: Vec<OsString>,
}

/// `uprobe run`; `args` is the command line after it.
///
/// # Errors
/// Whatever keeps the program from being started.
pub(super) fn main(args: Parser) -> Result<u8, Failure> {
    let options = match Options::parse(args)? {
        Ok(options) => options,
        Err(status) => return Ok(status),
    };
    let wanted = Wanted::read(options.config.as_deref(), &options.probes)?;
    let mut wrong = wanted.report();
    if wrong && !options.lenient {
        return Err(Failure::Said(EXIT_CONFIG));
    }
    let search = std::env::var_os("PATH");
    let program = program::find(&options.program, &options.args, search.as_deref())?;
    let plan = plan::against_program(&wanted, &program).map_err(|why| Failure::Failed(126, why))?;
    wrong = plan::report_refusals(&plan) || wrong;
    if wrong && !options.lenient {
        return Err(Failure::Said(EXIT_CONFIG));
    }
    let library = library()?;
    doctor::refuse(&program, &library).map_err(|why| Failure::Failed(EXIT_CONFIG, why))?;
    let config = config_value(&options, &wanted)?;
    // Strict in this program; what it executes inherits the variable and may lack its functions.
    let strict =
        if options.lenient { OsString::from("0") } else { absolute(&program.image)?.into_os_string() };
    start(&program, &environment(&library, config, strict)?)
}

impl Options {
    /// The inner error is the exit status of `--help` and the like.
    fn parse(mut args: Parser) -> Result<Result<Self, u8>, Failure> {
        let mut options = Self::default();
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Short('c') | Arg::Long("config") => {
                    if options.config.replace(args.value()?.into()).is_some() {
                        return Err(Failure::Usage(
                            "more than one config; put the probes into one file".into(),
                        ));
                    }
                }
                Arg::Short('e') | Arg::Long("probe") => options.probes.push(args.value()?.string()?),
                Arg::Long("output") => options.overrides.output = Some(path_template(args.value()?)?),
                Arg::Long("summary") => options.overrides.summary = Some(path_template(args.value()?)?),
                Arg::Long("format") => {
                    let format = one_of(args.value()?, "--format", &["text", "json", "trace"])?;
                    options.overrides.format = Some(format);
                }
                Arg::Long("summary-format") => {
                    let known = ["table", "json", "openmetrics", "none"];
                    let format = one_of(args.value()?, "--summary-format", &known)?;
                    options.overrides.summary_format = Some(format);
                }
                Arg::Long("strict") => options.lenient = false,
                Arg::Long("no-strict") => options.lenient = true,
                Arg::Value(program) => {
                    options.program = program;
                    options.args = args.raw_args()?.collect();
                }
                other => return common_option(other, "run").map(Err),
            }
        }
        if options.program.is_empty() {
            return Err(Failure::Usage("no program to run".into()));
        }
        if options.config.is_none() && options.probes.is_empty() {
            return Err(Failure::Usage("nothing to probe: give a config with -c or a probe with -e".into()));
        }
        Ok(Ok(options))
    }
}

fn path_template(value: OsString) -> Result<String, Failure> {
    let path = value.string()?;
    match crate::trace::template::check(&path) {
        Ok(()) if !path.is_empty() => Ok(path),
        Ok(()) => Err(Failure::Usage("the path is empty".into())),
        Err(error) => Err(Failure::Usage(format!("'{path}': {error}"))),
    }
}

fn one_of(value: OsString, option: &str, known: &[&str]) -> Result<String, Failure> {
    let value = value.string()?;
    if known.contains(&value.as_str()) {
        return Ok(value);
    }
    Err(Failure::Usage(format!("{option} is one of {}, not '{value}'", known.join(", "))))
}

/// What `UPROBES` is set to: the file, or where options add to it, the text itself.
fn config_value(options: &Options, wanted: &Wanted) -> Result<OsString, Failure> {
    if let Some(path) = &options.config
        && options.probes.is_empty()
        && options.overrides.is_empty()
    {
        return Ok(absolute(path)?.into_os_string());
    }
    let text = wanted.combined(&options.overrides);
    if text.len() > overlay::MOST_INLINE {
        let message = format!(
            "the config has {} bytes, and with options only {} can be passed on; put all of it into the file",
            text.len(),
            overlay::MOST_INLINE
        );
        return Err(Failure::Failed(EXIT_FAILED, message));
    }
    Ok(OsString::from(format!("{}{text}", overlay::INLINE)))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::Failed(EXIT_FAILED, format!("{}: {error}", path.display())))
}

/// Where libuprobe.so lies: `UPROBE_LIBRARY`, or beside this command, or in `../lib`.
pub(super) fn library() -> Result<PathBuf, Failure> {
    const NAME: &str = "libuprobe.so";
    let failed = |message: String| Failure::Failed(EXIT_FAILED, message);
    let path = if let Some(given) = std::env::var_os("UPROBE_LIBRARY").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(given);
        if !path.is_file() {
            return Err(failed(format!("UPROBE_LIBRARY: no such file: {}", path.display())));
        }
        path
    } else {
        let own = std::env::current_exe().map_err(|error| failed(format!("/proc/self/exe: {error}")))?;
        let dir = own.parent().unwrap_or(Path::new("/"));
        // `deps` is where cargo's test build leaves it.
        ["", "../lib", "../lib/x86_64-linux-gnu", "deps"]
            .iter()
            .map(|place| dir.join(place).join(NAME))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                failed(format!("no {NAME} in {} or ../lib; set UPROBE_LIBRARY to its path", dir.display()))
            })?
    };
    let path = path.canonicalize().map_err(|error| failed(format!("{}: {error}", path.display())))?;
    if path.as_os_str().as_bytes().iter().any(|b| matches!(b, b':' | b' ')) {
        return Err(failed(format!(
            "{}: the loader splits LD_PRELOAD at colons and blanks; set UPROBE_LIBRARY to a path without",
            path.display()
        )));
    }
    Ok(path)
}

/// Our environment with the library and its config in it.
fn environment(library: &Path, config: OsString, strict: OsString) -> Result<Vec<CString>, Failure> {
    let mut preload = library.as_os_str().to_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|v| !v.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    let ours = [("LD_PRELOAD", preload), ("UPROBES", config), ("UPROBE_STRICT", strict)];
    std::env::vars_os()
        .filter(|(name, _)| ours.iter().all(|(our, _)| name != our))
        .chain(ours.iter().map(|(name, value)| (OsString::from(name), value.clone())))
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            c_string(entry)
        })
        .collect()
}

fn c_string(text: OsString) -> Result<CString, Failure> {
    CString::new(text.into_vec())
        .map_err(|_| Failure::Failed(EXIT_CONFIG, "the config contains a NUL character".into()))
}

/// Signals by which a program dies of a mistake: a shell would say so.
const WORTH_SAYING: [(i32, &str); 8] = [
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGSYS, "SIGSYS"),
    (libc::SIGKILL, "SIGKILL"),
];

fn start(program: &Program, env: &[CString]) -> Result<u8, Failure> {
    let path = c_string(program.path.clone().into_os_string())?;
    let argv = program.argv.iter().cloned().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let name = program.path.file_name().unwrap_or(OsStr::new("program")).to_string_lossy();
    match process::run(&path, &argv, env) {
        Ok(Ended::Exited(status)) => Ok(status),
        Ok(Ended::Signaled(signal)) => {
            if let Some((_, word)) = WORTH_SAYING.iter().find(|(number, _)| *number == signal) {
                eprint(&format!("uprobe: {name} was killed by signal {signal} ({word})\n"));
            }
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
        Ok(Ended::NotStarted(errno)) => {
            let error = std::io::Error::from_raw_os_error(errno);
            complain(&format!("{}: {error}", program.path.display()));
            Ok(if errno == libc::ENOENT { 127 } else { 126 })
        }
        Err(error) => Err(Failure::Failed(EXIT_FAILED, format!("{name}: {error}"))),
    }
}
