//! What the user wants, and what would come of it: each probe looked up in the files of a
//! program before anything is started.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::overlay::{self, Overrides};
use super::predict::{self, Prediction, Predictor};
use super::program::Program;
use super::style::Style;
use super::{EXIT_CONFIG, Failure, eprint, libraries};
use crate::addr::LinkAddr;
use crate::config::{self, Action, Diagnostic, Kind, Loaded, Method, ProbeSpec, Severity};
use crate::elf::{self, ElfError, ElfFile, Resolved, StdFiles, pattern};
use crate::error::Refusal;
use crate::fetch;
use crate::place::ObjectPattern;

/// A config file and the probes of `-e`, read and checked.
pub struct Wanted {
    text: String,
    file: Loaded,
    lines: Vec<String>,
    one_liners: Loaded,
}

impl Wanted {
    /// Reads both.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn read(path: Option<&Path>, lines: &[String]) -> Result<Self, Failure> {
        let (bytes, name) = match path {
            Some(path) => {
                let name = path.display().to_string();
                let bytes = std::fs::read(path)
                    .map_err(|error| Failure::Failed(EXIT_CONFIG, format!("{name}: {error}")))?;
                (bytes, name)
            }
            None => (Vec::new(), String::new()),
        };
        Ok(Self {
            file: config::parse_bytes(&bytes, &name),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            lines: lines.to_vec(),
            one_liners: config::from_one_liners(lines),
        })
    }

    /// The probes that are good, the file's first.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeSpec> {
        self.file.config.probes.iter().chain(&self.one_liners.config.probes)
    }

    /// Prints what is wrong or odd; whether anything is wrong.
    pub fn report(&self) -> bool {
        let mut all: Vec<&Diagnostic> =
            self.file.diagnostics.iter().chain(&self.one_liners.diagnostics).collect();
        let joint;
        if !self.lines.is_empty() && !all.iter().any(|d| d.severity == Severity::Error) {
            // What only shows when both are together: a name given twice.
            joint = config::parse(&self.combined(&Overrides::default()), "the config with -e");
            all.extend(joint.diagnostics.iter().filter(|d| d.severity == Severity::Error));
        }
        report(all)
    }

    /// One text with the probes of both. A file that is no TOML adds nothing.
    pub fn combined(&self, overrides: &Overrides) -> String {
        let more: Vec<String> = self.lines.iter().map(|line| config::toml_for_one_liner(line)).collect();
        overlay::combine(&self.text, &more, overrides)
            .or_else(|_| overlay::combine("", &more, overrides))
            .unwrap_or_default()
    }
}

/// Prints diagnostics on standard error; whether one is an error.
pub fn report<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> bool {
    let style = Style::of(&std::io::stderr());
    let mut wrong = false;
    for diagnostic in diagnostics {
        let (word, marked) = match diagnostic.severity {
            Severity::Error => ("error", style.bad("error")),
            Severity::Warning => ("warning", style.odd("warning")),
        };
        wrong |= diagnostic.severity == Severity::Error;
        let text = diagnostic.to_string();
        eprint(&text.replacen(&format!(": {word}: "), &format!(": {marked}: "), 1));
        eprint("\n");
    }
    wrong
}

/// What would come of one probe.
pub struct Planned<'a> {
    /// What was asked.
    pub spec: &'a ProbeSpec,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What would come of a probe.
pub enum Outcome {
    /// It has these places, at least one.
    Places(Vec<PlannedPlace>),
    /// It can't be.
    Refused(Refusal),
    /// Its object isn't among those known: no mistake, it may be loaded later.
    Pending(Refusal),
}

/// One place of a probe.
pub struct PlannedPlace {
    /// The object's path.
    pub object: PathBuf,
    /// The symbol it was found by, or that covers it.
    pub symbol: Option<String>,
    /// Bytes from the symbol.
    pub offset: u64,
    /// Offset in the file.
    pub file_offset: u64,
    /// Where the file wants it.
    link: LinkAddr,
    /// How it would be probed.
    pub how: Result<Prediction, Refusal>,
}

impl Planned<'_> {
    /// Why this probe can't be armed as it was asked. Of several places (a glob) those that
    /// can't be probed are left out, as long as there are others.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome {
            Outcome::Refused(refusal) => Some(refusal),
            Outcome::Pending(_) => None,
            Outcome::Places(places) if places.iter().any(|p| p.how.is_ok()) => None,
            Outcome::Places(places) => places.iter().find_map(|p| p.how.as_ref().err()),
        }
    }
}

/// Looks each probe up in the program and the libraries it is linked against.
///
/// # Errors
/// A sentence where the loader could not start the program.
pub fn against_program<'a>(wanted: &'a Wanted, program: &Program) -> Result<Vec<Planned<'a>>, String> {
    let libraries = libraries::of_program(&program.loader, &program.image)?;
    if let Some(name) = libraries.missing.first() {
        return Err(format!("{}: the library {name} is not found", program.image.display()));
    }
    let mut objects = vec![Object::new(&program.image, true)];
    for path in &libraries.found {
        let object = Object::new(path, false);
        if objects.iter().all(|known| known.path != object.path) {
            objects.push(object);
        }
    }
    let mut plan = wanted.probes().map(|spec| plan(spec, &objects)).collect::<Vec<_>>();
    consider_together(&mut plan);
    Ok(plan)
}

/// Looks each probe up in the object it names, as far as that can be found without a program.
pub fn without_program(wanted: &Wanted) -> Vec<Planned<'_>> {
    let files = |spec: &ProbeSpec| match &spec.place.object {
        ObjectPattern::Path(path) => Some(PathBuf::from(path)).filter(|path| path.exists()),
        ObjectPattern::Name(name) => libraries::find(name),
        ObjectPattern::Exe | ObjectPattern::Glob(_) => None,
    };
    let planned = |spec| {
        let objects: Vec<Object> = files(spec).iter().map(|path| Object::new(path, false)).collect();
        plan(spec, &objects)
    };
    let mut plan = wanted.probes().map(planned).collect::<Vec<_>>();
    consider_together(&mut plan);
    plan
}

/// Lets each place know of the others in its object.
fn consider_together(plan: &mut [Planned<'_>]) {
    let mut by_object: BTreeMap<PathBuf, Vec<(LinkAddr, bool, &mut Prediction)>> = BTreeMap::new();
    for planned in plan.iter_mut().filter(|planned| planned.spec.enabled) {
        let only_int3 = planned.spec.method == Method::Int3;
        let Outcome::Places(places) = &mut planned.outcome else { continue };
        for place in places {
            if let Ok(prediction) = &mut place.how {
                by_object.entry(place.object.clone()).or_default().push((place.link, only_int3, prediction));
            }
        }
    }
    by_object.values_mut().for_each(|places| predict::together(places));
}

/// Points at each probe that can't be armed; whether there is one.
pub fn report_refusals(plan: &[Planned<'_>]) -> bool {
    let refused: Vec<Diagnostic> = plan
        .iter()
        .filter(|planned| planned.spec.enabled && planned.spec.not_yet.is_none())
        .filter_map(|planned| Some((planned.spec, planned.refusal()?)))
        .map(|(spec, refusal)| spec.origin.diagnostic(Severity::Error, refusal.to_string(), None))
        .collect();
    report(&refused)
}

/// A file that is, or may be, mapped into the program.
struct Object {
    /// As the loader will call it, and the program as it is executed.
    called: PathBuf,
    /// Without links.
    path: PathBuf,
    is_exe: bool,
    /// `None` until a probe asks for it.
    file: OnceCell<Result<ElfFile, ElfError>>,
    predictor: RefCell<Predictor>,
}

impl Object {
    fn new(path: &Path, is_exe: bool) -> Self {
        let called = path.to_path_buf();
        let path = path.canonicalize().unwrap_or_else(|_| called.clone());
        Self { called, path, is_exe, file: OnceCell::new(), predictor: RefCell::default() }
    }

    fn file(&self) -> Result<&ElfFile, Refusal> {
        let file = self.file.get_or_init(|| ElfFile::open(&self.path, &StdFiles));
        file.as_ref().map_err(|error| error.refusal(&self.path))
    }

    fn matches(&self, pattern: &ObjectPattern) -> bool {
        let same_file = |path: &str| Path::new(path).canonicalize().is_ok_and(|path| path == self.path);
        pattern::object_matches(pattern, &self.called, self.is_exe, &same_file)
            || pattern::other_path_matches(pattern, &self.path, || std::env::current_dir().ok())
    }
}

/// Looks one probe up in those of the objects that it means.
fn plan<'a>(spec: &'a ProbeSpec, objects: &[Object]) -> Planned<'a> {
    let planned = |outcome| Planned { spec, outcome };
    if let Some(what) = spec.not_yet {
        return planned(Outcome::Refused(Refusal::NotYet { what }));
    }
    if let Some(refusal) = spec.actions.iter().find_map(plugin_refusal) {
        return planned(Outcome::Refused(refusal));
    }
    let mut places = Vec::new();
    let mut refused = None;
    let mut known = false;
    for object in objects.iter().filter(|object| object.matches(&spec.place.object)) {
        known = true;
        match object.file().and_then(|file| Ok((file, elf::resolve(&spec.place, file, &StdFiles)?))) {
            Ok((file, found)) => places.extend(found.into_iter().map(|one| place(spec, object, file, one))),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    planned(match (places.is_empty(), refused) {
        (false, _) => Outcome::Places(places),
        (true, Some(refusal)) => Outcome::Refused(refusal),
        (true, None) => {
            debug_assert!(!known, "an object gives places or a refusal");
            Outcome::Pending(Refusal::ObjectNotLoaded { object: object_text(&spec.at) })
        }
    })
}

/// Why the handler that an action calls can't be had.
fn plugin_refusal(action: &Action) -> Option<Refusal> {
    let Action::Call { plugin, function } = action else { return None };
    let bad = |why: String| Some(Refusal::BadPlugin { why });
    // As dlopen does: only a name without a slash is searched for.
    let path = if plugin.contains('/') { Some(PathBuf::from(plugin)) } else { libraries::find(plugin) };
    let Some(path) = path.filter(|path| path.is_file()) else {
        return bad(format!("the plugin '{plugin}' is not found"));
    };
    match ElfFile::open(&path, &StdFiles) {
        Err(error) => bad(format!("the plugin '{plugin}': {error}")),
        Ok(file) => {
            let is_there =
                file.functions(&StdFiles).iter().any(|f| !f.is_local && file.names(f).any(|n| n == function));
            if is_there { None } else { bad(format!("the plugin '{plugin}' has no function '{function}'")) }
        }
    }
}

/// The object as the user wrote it; nothing before the colon is the program.
fn object_text(at: &str) -> String {
    match at.split_once(':') {
        Some(("", _)) | None => "exe".to_owned(),
        Some((object, _)) => object.to_owned(),
    }
}

fn place(spec: &ProbeSpec, object: &Object, file: &ElfFile, found: Resolved) -> PlannedPlace {
    let how = object.predictor.borrow_mut().of(file, &found).and_then(|prediction| {
        let is_entry = match &found.bounds {
            Some(bounds) => bounds.start == found.link,
            None => found.symbol_offset == 0,
        };
        let at = match (spec.kind, is_entry) {
            (Kind::Entry, true) => fetch::At::Entry,
            (Kind::Entry, false) => fetch::At::Inside,
            (_, false) => {
                let start = found.bounds.as_ref().map_or(found.link.0, |bounds| bounds.start.0);
                return Err(Refusal::NotFunctionEntry { offset: found.link.0.saturating_sub(start) });
            }
            (Kind::Return, true) => fetch::At::Return,
            (Kind::Call, true) => fetch::At::Call,
        };
        match fetch::compile(&spec.args, &spec.ret, spec.filter.as_ref(), at) {
            Ok(_) => Ok(prediction),
            Err(error) => Err(Refusal::BadFetch { why: error.to_string() }),
        }
    });
    PlannedPlace {
        object: object.path.clone(),
        symbol: found.symbol,
        offset: found.symbol_offset,
        file_offset: found.offset.0,
        link: found.link,
        how,
    }
}
