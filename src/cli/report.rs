//! `uprobe report`: a binary trace in forms that people and other programs read.

mod chrome;
mod events;
mod flame;
mod folded;
mod summary;

use std::ffi::OsString;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};

use super::{EXIT_FAILED, EXIT_OK, Failure, common_option, complain, eprint};
use crate::trace::file::HEADER_SIZE;
use crate::trace::reader::{Event, Trace};

/// What is made of the trace.
#[derive(Clone, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Summary,
    Chrome,
    Folded,
    Flamegraph(PathBuf),
}

/// Several traces as one.
struct Traces(Vec<Trace>);

impl Traces {
    /// All events, by time.
    fn events(&self) -> Vec<(&Trace, &Event)> {
        let each = self.0.iter().flat_map(|trace| trace.events.iter().map(move |event| (trace, event)));
        let mut all: Vec<_> = each.collect();
        if self.0.len() > 1 {
            all.sort_by_key(|(_, event)| event.ns);
        }
        all
    }
}

/// `uprobe report`; `args` is the command line after it.
///
/// # Errors
/// A wrong command line, or nothing that could be read.
pub(super) fn main(mut args: Parser) -> Result<u8, Failure> {
    let mut form = None;
    let mut paths: Vec<OsString> = Vec::new();
    while let Some(arg) = args.next()? {
        let wanted = match arg {
            Arg::Long("text") => Form::Text,
            Arg::Long("json") => Form::Json,
            Arg::Long("summary") => Form::Summary,
            Arg::Long("chrome") => Form::Chrome,
            Arg::Long("folded") => Form::Folded,
            Arg::Long("flamegraph") => Form::Flamegraph(args.value()?.into()),
            Arg::Value(path) => {
                paths.push(path);
                continue;
            }
            other => return common_option(other, "report"),
        };
        if form.replace(wanted).is_some() {
            return Err(Failure::Usage("more than one form: give one of --text, --json, --summary, --chrome, --folded and --flamegraph".into()));
        }
    }
    if paths.is_empty() {
        return Err(Failure::Usage("no trace to report".into()));
    }
    let mut status = EXIT_OK;
    let mut traces = Traces(Vec::new());
    for path in &paths {
        let shown = path.to_string_lossy();
        match read(Path::new(path)) {
            Ok(trace) => {
                for what in &trace.damage {
                    eprint(&format!("uprobe: warning: {shown}: {what}\n"));
                    status = EXIT_FAILED;
                }
                if trace.lost > 0 {
                    let plural = if trace.lost == 1 { " was" } else { "s were" };
                    eprint(&format!(
                        "uprobe: note: {shown}: {} event{plural} lost, the file was full; see [output] size\n",
                        trace.lost
                    ));
                }
                traces.0.push(trace);
            }
            Err(why) => {
                complain(&format!("{shown}: {why}"));
                status = EXIT_FAILED;
            }
        }
    }
    if traces.0.is_empty() {
        return Err(Failure::Said(EXIT_FAILED));
    }
    let form = form.unwrap_or(Form::Text);
    let done = match &form {
        Form::Flamegraph(path) => write_file(path, &traces),
        form => match write(form, &traces) {
            // Nobody reads it any more (`| head`): that is the end of the output and no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| format!("standard output: {error}")),
        },
    };
    done.map_err(|message| Failure::Failed(EXIT_FAILED, message))?;
    Ok(status)
}

fn write(form: &Form, traces: &Traces) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    match form {
        Form::Text => events::write(&mut out, traces, events::Lines::Text)?,
        Form::Json => events::write(&mut out, traces, events::Lines::Json)?,
        Form::Summary => summary::write(&mut out, traces)?,
        Form::Chrome => chrome::write(&mut out, traces)?,
        Form::Folded => folded::write(&mut out, traces)?,
        Form::Flamegraph(_) => {}
    }
    out.flush()
}

fn write_file(path: &Path, traces: &Traces) -> Result<(), String> {
    let svg = flame::svg(&folded::stacks(traces));
    std::fs::write(path, svg).map_err(|error| format!("{}: {error}", path.display()))
}

/// The trace in a file, of which only what is in use is read.
fn read(path: &Path) -> Result<Trace, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(HEADER_SIZE as u64).read_to_end(&mut bytes).map_err(failed)?;
    if let Some(used) = Trace::used(&bytes) {
        let more = used.saturating_sub(bytes.len() as u64);
        file.take(more).read_to_end(&mut bytes).map_err(failed)?;
    }
    Trace::read(bytes).map_err(|why| why.to_string())
}
