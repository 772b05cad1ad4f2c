//! `uprobe list`: the functions of an object, and how each would be probed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};

use super::predict::{Prediction, Predictor};
use super::style::Style;
use super::{EXIT_FAILED, EXIT_OK, Failure, common_option, libraries, print, program};
use crate::elf::pattern::SymbolMatcher;
use crate::elf::{self, Bounds, BoundsFrom, ElfFile, Function, StdFiles, SymbolKind};
use crate::error::Refusal;
use crate::probe::denied;

/// One place.
struct Row<'a> {
    function: &'a Function,
    names: Vec<&'a str>,
    file_offset: u64,
    how: Result<Prediction, Refusal>,
    /// Why its return can't be followed.
    no_return: Option<&'static str>,
}

/// `uprobe list`; `args` is the command line after it.
///
/// # Errors
/// A wrong command line, or an object that can't be read.
pub(super) fn main(mut args: Parser) -> Result<u8, Failure> {
    let (mut json, mut object, mut pattern) = (false, None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("json") => json = true,
            Arg::Long(name @ ("usdt" | "lines")) => {
                return Err(Failure::Usage(format!("'--{name}' is not in this version yet")));
            }
            Arg::Value(value) if object.is_none() => object = Some(value),
            Arg::Value(value) if pattern.is_none() => pattern = Some(value.string()?),
            other => return common_option(other, "list"),
        }
    }
    let Some(object) = object else {
        return Err(Failure::Usage("no object to list: give a path or the name of a library".into()));
    };
    let path = find(&object)?;
    let failed = |why: String| Failure::Failed(EXIT_FAILED, format!("{}: {why}", path.display()));
    let file = ElfFile::open(&path, &StdFiles).map_err(|error| failed(error.to_string()))?;
    let wanted = pattern.as_deref().map(parse_pattern).transpose()?;
    let rows = rows(&file, wanted.as_ref());
    let text = if json { as_json(&path, &rows) } else { as_table(&path, &rows) };
    print(&text)?;
    Ok(if rows.is_empty() { EXIT_FAILED } else { EXIT_OK })
}

/// A path; or a library's name, looked up as the loader does; or a program's, as a shell does.
fn find(object: &OsString) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(object);
    let name = object.to_string_lossy();
    let found = if path.exists() {
        Some(path)
    } else if name.contains('/') {
        None
    } else {
        libraries::find(&name).or_else(|| program::which(object, std::env::var_os("PATH").as_deref()).ok())
    };
    let Some(found) = found else {
        return Err(Failure::Failed(EXIT_FAILED, format!("{name}: no such file, library or program")));
    };
    found.canonicalize().map_err(|error| Failure::Failed(EXIT_FAILED, format!("{name}: {error}")))
}

fn parse_pattern(text: &str) -> Result<SymbolMatcher, Failure> {
    match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        Some(regex) => SymbolMatcher::regex(regex)
            .map_err(|error| Failure::Usage(format!("the regular expression: {error}"))),
        // An exact name is a glob without wildcards; brackets of C++ names are not classes.
        None => Ok(SymbolMatcher::glob(text)),
    }
}

/// The functions one of whose names matches, in address order.
fn rows<'a>(file: &'a ElfFile, wanted: Option<&SymbolMatcher>) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    let mut predictor = Predictor::default();
    for function in file.functions(&StdFiles) {
        let names: Vec<&str> = file.names(function).collect();
        let local_label = function.kind == SymbolKind::NoType && function.is_local;
        if local_label || wanted.is_some_and(|w| names.iter().all(|name| w.match_symbol(name).is_none())) {
            continue;
        }
        let Some(offset) = file.offset_of(function.link) else { continue };
        let no_return = denied::why_no_return_in(file, &names);
        rows.push(Row {
            function,
            names,
            file_offset: offset.0,
            how: how(file, function, &mut predictor),
            no_return,
        });
    }
    rows
}

/// How a probe at the function's first byte would be made.
fn how(file: &ElfFile, function: &Function, predictor: &mut Predictor) -> Result<Prediction, Refusal> {
    if function.kind == SymbolKind::Ifunc {
        return Err(Refusal::IfuncNotReady);
    }
    let start = function.link;
    let end = start.add(function.size.max(1));
    predictor.at(file, start, &Bounds { start, end, from: BoundsFrom::Symbol })
}

fn as_table(path: &Path, rows: &[Row<'_>]) -> String {
    let style = Style::of(&std::io::stdout());
    let mut out = String::new();
    let plural = if rows.len() == 1 { "" } else { "s" };
    let _ = writeln!(out, "{}: {} place{plural}", path.display(), rows.len());
    if rows.is_empty() {
        return out;
    }
    let _ =
        writeln!(out, "{}", style.bold(&format!("{:>10}  {:>8}  {:<14}  PLACE", "OFFSET", "SIZE", "HOW")));
    for row in rows {
        let (how, reason) = match &row.how {
            Ok(prediction) => (prediction.word(), None),
            Err(refusal) if refusal.is_pending() => ("when loaded", Some(refusal)),
            Err(refusal) => ("no", Some(refusal)),
        };
        let _ = write!(out, "{:>#10x}  {:>8}  {how:<14}  ", row.file_offset, row.function.size);
        let (first, others) = row.names.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
        let _ = write!(out, "{first}");
        if let Some(demangled) = elf::demangle(first) {
            let _ = write!(out, "  {}", style.dim(&demangled));
        }
        if !others.is_empty() {
            let _ = write!(out, "  {}", style.dim(&format!("= {}", others.join(" "))));
        }
        if let Some(reason) = reason {
            let _ = write!(out, "  {}", style.odd(&reason.to_string()));
        }
        if let Ok(Err(why)) = row.how.as_ref().map(|prediction| &prediction.jump) {
            let _ = write!(out, "  {}", style.dim(&why.to_string()));
        }
        if let Some(why) = row.no_return {
            let _ = write!(out, "  {}", style.odd(&format!("return refused: {why}")));
        }
        out.push('\n');
    }
    out
}

fn as_json(path: &Path, rows: &[Row<'_>]) -> String {
    let mut out = String::from("{\"version\":1,\"object\":");
    json_string(&mut out, &path.to_string_lossy());
    out.push_str(",\"places\":[");
    for (i, row) in rows.iter().enumerate() {
        out.push_str(if i == 0 { "\n  {\"symbol\":" } else { ",\n  {\"symbol\":" });
        let mut names = row.names.iter();
        json_or_null(&mut out, names.next().copied());
        out.push_str(",\"demangled\":");
        json_or_null(&mut out, row.names.first().and_then(|name| elf::demangle(name)).as_deref());
        out.push_str(",\"aliases\":[");
        for (i, name) in names.enumerate() {
            out.push_str(if i == 0 { "" } else { "," });
            json_string(&mut out, name);
        }
        let _ = write!(
            out,
            "],\"file_offset\":{},\"address\":\"{:#x}\",\"size\":{},\"method\":",
            row.file_offset, row.function.link, row.function.size
        );
        json_or_null(&mut out, row.how.as_ref().ok().map(|prediction| prediction.method().as_str()));
        out.push_str(",\"reason\":");
        let reason = match &row.how {
            Ok(prediction) => prediction.jump.as_ref().err().map(ToString::to_string),
            Err(refusal) => Some(refusal.to_string()),
        };
        json_or_null(&mut out, reason.as_deref());
        out.push_str(",\"return_refused\":");
        json_or_null(&mut out, row.no_return);
        out.push('}');
    }
    out.push_str("]}\n");
    out
}

fn json_or_null(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => json_string(out, text),
        None => out.push_str("null"),
    }
}

fn json_string(out: &mut String, text: &str) {
    // Writing to a String can't fail.
    let _ = crate::trace::summary::json_string(out, text.as_bytes());
}
