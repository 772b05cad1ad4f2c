//! `uprobe check`: what would come of each probe, with nothing run.

use std::fmt::Write as _;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::plan::{self, Outcome, Planned, PlannedPlace, Wanted};
use super::program;
use super::style::Style;
use super::{EXIT_CONFIG, EXIT_OK, Failure, common_option, print};
use crate::config::Kind;

/// `uprobe check`; `args` is the command line after it.
///
/// # Errors
/// A wrong command line, or a program that can't be probed.
pub(super) fn main(mut args: Parser) -> Result<u8, Failure> {
    let mut config: Option<PathBuf> = None;
    let mut program = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('c') | Arg::Long("config") if config.is_none() => config = Some(args.value()?.into()),
            Arg::Value(value) if config.is_none() => config = Some(value.into()),
            Arg::Value(value) => {
                let rest: Vec<_> = args.raw_args()?.collect();
                program = Some((value, rest));
            }
            other => return common_option(other, "check"),
        }
    }
    let Some(config) = config else {
        return Err(Failure::Usage("no config to check".into()));
    };
    let wanted = Wanted::read(Some(&config), &[])?;
    let wrong = wanted.report();
    let (plan, where_) = match &program {
        Some((name, rest)) => {
            let search = std::env::var_os("PATH");
            let program = program::find(name, rest, search.as_deref())?;
            let plan = plan::against_program(&wanted, &program).map_err(|why| Failure::Failed(126, why))?;
            (plan, format!("{} and its libraries", program.image.display()))
        }
        None => (plan::without_program(&wanted), "the objects found by name".to_owned()),
    };
    let style = Style::of(&std::io::stdout());
    let mut out = String::new();
    for planned in &plan {
        describe(&mut out, planned, style, program.is_some());
    }
    let refused = plan.iter().filter(|p| is_wrong(p)).count();
    let probes = plan.len();
    let plural = if probes == 1 { "" } else { "s" };
    let _ = writeln!(
        out,
        "{}: {probes} probe{plural} checked against {where_}, {refused} wrong{}",
        config.display(),
        if wrong { "; and the config itself has mistakes" } else { "" }
    );
    print(&out)?;
    Ok(if wrong || refused > 0 { EXIT_CONFIG } else { EXIT_OK })
}

fn is_wrong(planned: &Planned<'_>) -> bool {
    planned.spec.not_yet.is_none() && planned.refusal().is_some()
}

/// The probe's name and `at`, then a line for each place.
fn describe(out: &mut String, planned: &Planned<'_>, style: Style, has_program: bool) {
    let spec = planned.spec;
    let kind = match spec.kind {
        Kind::Entry => "",
        Kind::Return => "  (return)",
        Kind::Call => "  (call)",
    };
    let off = if spec.enabled { "" } else { "  (disabled)" };
    let _ = writeln!(out, "{}  {}{kind}{off}", style.bold(&spec.name), spec.at);
    match &planned.outcome {
        Outcome::Places(places) => places.iter().for_each(|place| place_line(out, place, style)),
        Outcome::Refused(refusal) => {
            let _ = writeln!(out, "    {} {refusal}", style.bad("refused"));
        }
        Outcome::Pending(refusal) => {
            let hint = match (has_program, refusal.code()) {
                (_, "ifunc-not-ready") => "",
                (true, _) => " (the program is not linked against it; armed if it is loaded later)",
                (false, _) => " (name the program to look in: uprobe check CONFIG -- PROGRAM)",
            };
            let _ = writeln!(out, "    {} {refusal}{hint}", style.odd("pending"));
        }
    }
}

fn place_line(out: &mut String, place: &PlannedPlace, style: Style) {
    let object = place.object.display();
    let _ = write!(out, "    {object}:{:#x}", place.file_offset);
    if let Some(symbol) = &place.symbol {
        let _ = write!(out, "  {symbol}");
        if place.offset > 0 {
            let _ = write!(out, "+{:#x}", place.offset);
        }
    }
    let _ = match &place.how {
        Ok(prediction) => match &prediction.jump {
            Ok(_) => writeln!(out, "  {}", prediction.word()),
            Err(why) => writeln!(out, "  {}  {}", prediction.word(), style.dim(&why.to_string())),
        },
        Err(refusal) if refusal.is_pending() => writeln!(out, "  {} {refusal}", style.odd("pending")),
        Err(refusal) => writeln!(out, "  {} {refusal}", style.bad("refused")),
    };
}
