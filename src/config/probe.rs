//! One probe: from the texts of a `[[probe]]` table or a one-liner to a checked [`ProbeSpec`].

use std::ops::Range;

use crate::config::action::{self, Action};
use crate::config::diagnostic::Report;
use crate::config::located::Located;
use crate::config::name;
use crate::config::oneliner;
use crate::config::spec::{Kind, Method, ProbeSpec};
use crate::config::table::{Table, nearest};
use crate::fetch::arg::{Base, Origin, Source, Type};
use crate::fetch::{self, At, CompileError, FetchArg, Part};
use crate::place::{self, Place, Target};
use crate::syntax::SyntaxError;

/// The most fetch arguments of one probe, as in ftrace.
const MAX_ARGS: usize = 128;

/// Every key of `[[probe]]`, in the order of the README.
const KEYS: [&str; 13] = [
    "at",
    "name",
    "kind",
    "args",
    "ret",
    "filter",
    "action",
    "maxactive",
    "method",
    "limit",
    "sample",
    "enabled",
    "def",
];

/// The texts of a probe, typed but not yet parsed.
#[derive(Debug)]
pub(super) struct Draft {
    place: Located,
    kind: Kind,
    /// False where `kind` is no kind: what depends on it is not said then.
    is_kind_known: bool,
    /// Where the kind is said, or the place.
    kind_at: Range<usize>,
    pub(super) name: Option<Located>,
    group: Option<String>,
    args: Vec<Located>,
    ret: Vec<Located>,
    /// Where a one-liner has arguments of both sides: the number of each in the line, those of
    /// `args` first. Their default names say it, as in ftrace.
    numbers: Option<Vec<usize>>,
    filter: Option<Located>,
    actions: Option<Vec<Located>>,
    maxactive: u32,
    method: Method,
    limit: u64,
    sample: u64,
    enabled: bool,
}

impl Draft {
    fn at(place: Located) -> Self {
        let kind_at = place.whole();
        Self {
            place,
            kind: Kind::Entry,
            is_kind_known: true,
            kind_at,
            name: None,
            group: None,
            args: Vec::new(),
            ret: Vec::new(),
            numbers: None,
            filter: None,
            actions: None,
            maxactive: 0,
            method: Method::Auto,
            limit: 0,
            sample: 1,
            enabled: true,
        }
    }

    /// The draft of a one-liner.
    pub(super) fn from_one_liner(text: &Located) -> Result<Self, SyntaxError> {
        let line = oneliner::split(&text.value)?;
        let mut draft = Self::at(text.slice(line.place));
        draft.kind = line.kind;
        draft.kind_at = text.span(line.kind_at.start, line.kind_at.len());
        draft.name = line.event.map(|range| text.slice(range));
        draft.group = line.group.map(|range| text.value[range].to_owned());
        draft.maxactive = line.maxactive.map_or(0, |(number, _)| number);
        let args = line.args.into_iter().map(|range| text.slice(range));
        match line.kind {
            Kind::Entry => draft.args = args.collect(),
            // As in the kernel: what can be read at the return is; arguments are read at the entry.
            Kind::Return | Kind::Call => {
                let (entry, back): (Vec<_>, Vec<_>) =
                    args.enumerate().partition(|(_, arg)| arg.value.contains("$arg"));
                draft.numbers = Some(entry.iter().chain(&back).map(|(number, _)| *number).collect());
                draft.args = entry.into_iter().map(|(_, arg)| arg).collect();
                draft.ret = back.into_iter().map(|(_, arg)| arg).collect();
            }
        }
        Ok(draft)
    }

    /// The draft of a `[[probe]]` table.
    pub(super) fn from_table(table: &Table<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        table.check_keys(&KEYS, report);
        let mut draft = if table.get("def").is_some() {
            Self::from_def(table, report)?
        } else {
            Self::from_keys(table, report)?
        };
        draft.filter = table.string("filter", report);
        draft.actions = table.strings("action", report);
        draft.limit = table.integer("limit", 0, i64::MAX as u64, report).unwrap_or(0);
        draft.sample = table.integer("sample", 1, i64::MAX as u64, report).unwrap_or(1);
        draft.enabled = table.boolean("enabled", report).unwrap_or(true);
        let methods = [("auto", Method::Auto), ("int3", Method::Int3)];
        draft.method = table.choice("method", &methods, report).map_or(Method::Auto, |(method, _)| method);
        draft.read_maxactive(table, report);
        Some(draft)
    }

    /// `def`, and no key that says the same.
    fn from_def(table: &Table<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        for key in ["at", "kind", "args", "ret"] {
            if let Some(span) = table.key_span(key) {
                report.error(span, format!("'{key}' can't stand beside 'def'; def says it already"));
            }
        }
        let text = table.string("def", report)?;
        let mut draft = Self::from_one_liner(&text).map_err(|e| report.syntax(&text, e)).ok()?;
        if let Some(name) = table.string("name", report) {
            if draft.name.as_ref().is_some_and(|event| event.value != name.value) {
                report.error(name.whole(), "the probe has two names; leave out 'name' or the event in def");
            }
            draft.name = Some(name);
        }
        Some(draft)
    }

    /// `at` and what goes with it.
    fn from_keys(table: &Table<'_, '_>, report: &mut Report<'_>) -> Option<Self> {
        let place = table.string("at", report);
        if table.get("at").is_none() {
            report.error(table.header(), "the probe has no 'at'; write at = \"OBJECT:SYMBOL\"");
        }
        let kinds = [("entry", Kind::Entry), ("return", Kind::Return), ("call", Kind::Call)];
        let kind = table.choice("kind", &kinds, report);
        let args = table.strings("args", report).unwrap_or_default();
        let ret = table.strings("ret", report).unwrap_or_default();
        let name = table.string("name", report);
        let is_entry = kind.as_ref().map_or(table.get("kind").is_none(), |(kind, _)| *kind == Kind::Entry);
        if is_entry && let Some(span) = table.key_span("ret") {
            report.error(span, "'ret' needs a return; write kind = \"return\" or kind = \"call\"");
        }
        let mut draft = Self::at(place?);
        (draft.args, draft.ret, draft.name) = (args, ret, name);
        draft.is_kind_known = kind.is_some() || table.get("kind").is_none();
        if let Some((kind, span)) = kind {
            (draft.kind, draft.kind_at) = (kind, span);
        }
        Some(draft)
    }

    fn read_maxactive(&mut self, table: &Table<'_, '_>, report: &mut Report<'_>) {
        let Some(maxactive) = table.integer("maxactive", 0, u64::from(u32::MAX), report) else { return };
        let span = table.key_span("maxactive").unwrap_or_default();
        if self.maxactive != 0 {
            report.error(span, "'maxactive' is in def already");
        } else if self.kind == Kind::Entry && self.is_kind_known && maxactive != 0 {
            report.error(
                span,
                "'maxactive' is how many calls are followed, and kind \"entry\" follows none; \
                 write kind = \"return\" or kind = \"call\"",
            );
        }
        self.maxactive = maxactive as u32;
    }

    /// Parses and checks every text. None if the probe can't be used; what is merely not in this
    /// version is reported and kept. The name is made unique by the caller.
    pub(super) fn build(self, report: &mut Report<'_>) -> Option<ProbeSpec> {
        let errors_before = report.hard_errors();
        let mut lacks = Lacks::default();
        if let Some(name) = &self.name
            && let Err(e) = name::check(&name.value)
        {
            report.syntax(name, e);
        }
        let place = self.place(&mut lacks, report);
        let mut numbers =
            self.numbers.clone().unwrap_or_else(|| (0..self.args.len() + self.ret.len()).collect());
        let ret_numbers = numbers.split_off(self.args.len());
        let args = parse_args(&self.args, &numbers, &mut lacks, report);
        let ret = parse_args(&self.ret, &ret_numbers, &mut lacks, report);
        self.check_arg_count(report);
        let filter = self
            .filter
            .as_ref()
            .and_then(|text| fetch::filter::parse(&text.value).map_err(|e| report.syntax(text, e)).ok());
        let actions = self.actions(&args, &ret, &mut lacks, report);
        let place = place?;
        let spec = ProbeSpec {
            name: self
                .name
                .as_ref()
                .map_or_else(|| name::default(&place, self.kind), |name| name.value.clone()),
            name_is_default: self.name.is_none(),
            group: self.group.clone(),
            at: self.place.value.trim().to_owned(),
            place,
            kind: self.kind,
            args: parsed(args),
            ret: parsed(ret),
            filter,
            filter_text: self.filter.as_ref().map(|text| text.value.clone()),
            actions,
            maxactive: self.maxactive,
            method: self.method,
            limit: self.limit,
            sample: self.sample,
            enabled: self.enabled,
            origin: report.origin(&self.place.whole()),
            not_yet: lacks.first,
        };
        if report.hard_errors() == errors_before {
            self.compile(&spec, report);
        }
        (report.hard_errors() == errors_before).then_some(spec)
    }

    /// The place, parsed; whether this kind can be there.
    fn place(&self, lacks: &mut Lacks, report: &mut Report<'_>) -> Option<Place> {
        let place = place::parse(&self.place.value).map_err(|e| report.syntax(&self.place, e)).ok()?;
        match &place.target {
            Target::Symbol { offset, .. } if *offset != 0 && self.kind != Kind::Entry => {
                let plus = self.place.value.rfind('+').unwrap_or(0);
                let range = self.place.span(plus, self.place.value.len() - plus);
                report.error(range, "a return is probed at the function's entry; leave out the offset");
            }
            Target::Usdt { .. } if self.kind != Kind::Entry => {
                report.error(self.kind_at.clone(), "a static marker has no return");
            }
            Target::Line { .. } if self.kind != Kind::Entry => {
                report.error(self.kind_at.clone(), "a source line has no return; name the function");
            }
            Target::Usdt { .. } => lacks.note(self.place.whole(), "a static marker ('usdt:')", report),
            Target::Line { .. } => {
                lacks.note(self.place.whole(), "a source line ('OBJECT@FILE:LINE')", report)
            }
            Target::Symbol { .. } | Target::FileOffset(_) => {}
        }
        Some(place)
    }

    fn check_arg_count(&self, report: &mut Report<'_>) {
        if let Some(first) = self.args.iter().chain(&self.ret).nth(MAX_ARGS) {
            let count = self.args.len() + self.ret.len();
            report.error(
                first.whole(),
                format!("a probe can have at most {MAX_ARGS} fetch arguments, found {count}"),
            );
        }
    }

    fn actions(
        &self,
        args: &[Parsed],
        ret: &[Parsed],
        lacks: &mut Lacks,
        report: &mut Report<'_>,
    ) -> Vec<Action> {
        let Some(texts) = &self.actions else { return vec![Action::Log] };
        let mut actions: Vec<Action> = Vec::with_capacity(texts.len());
        for text in texts {
            let action = match action::parse(&text.value) {
                Ok(action) => action,
                Err(e) => {
                    report.syntax(text, e);
                    continue;
                }
            };
            if actions.contains(&action) && !matches!(action, Action::Call { .. }) {
                report.warning(text.whole(), format!("the action '{}' is there twice", text.value.trim()));
                continue;
            }
            if let Action::Hist(name) = &action {
                self.check_hist(name, text, args.iter().chain(ret), report);
            }
            if matches!(action, Action::Return(_)) && self.kind != Kind::Entry {
                report.error(
                    text.whole(),
                    "the action 'return' is for kind = \"entry\"; the function doesn't run then",
                );
            }
            if let Some(what) = action.not_yet() {
                lacks.note(text.whole(), what, report);
            }
            actions.push(action);
        }
        actions
    }

    /// `hist(NAME)` needs a fetched value of that name.
    fn check_hist<'p>(
        &self,
        name: &str,
        text: &Located,
        args: impl Iterator<Item = &'p Parsed>,
        report: &mut Report<'_>,
    ) {
        let mut names: Vec<&str> = Vec::new();
        // Not what the action's own name may have of it.
        let open = text.value.find('(').unwrap_or(0);
        let at = text.value[open..].find(name).map_or(0, |at| open + at);
        for arg in args {
            match arg {
                Ok(arg) if arg.name == name => {
                    if let Some(what) = no_integer(arg.ty) {
                        let message = format!("'{name}' is {what}; hist takes an integer");
                        report.error(text.span(at, name.len()), message);
                    }
                    return;
                }
                Ok(arg) => names.push(&arg.name),
                // Its name may be the one.
                Err(_) => return,
            }
        }
        if self.kind == Kind::Call {
            names.push("$latency");
        }
        if names.contains(&name) {
            return;
        }
        let advice = match nearest(name, &names) {
            Some(word) => format!("did you mean '{word}'?"),
            None if name == "$latency" => "it needs kind = \"call\"".to_owned(),
            None => "give the value a name in args".to_owned(),
        };
        report.error(text.span(at, name.len()), format!("nothing called '{name}' is fetched; {advice}"));
    }

    /// Compiles args, ret and filter as the runtime will, so that what can't work is said here.
    fn compile(&self, spec: &ProbeSpec, report: &mut Report<'_>) {
        let at = match (self.kind, &spec.place.target) {
            (Kind::Return, _) => At::Return,
            (Kind::Call, _) => At::Call,
            // Wrong, and said already; whatever is right for some kind is not wrong besides.
            _ if !self.is_kind_known || !spec.ret.is_empty() => At::Call,
            (_, Target::Symbol { offset: 1.., .. } | Target::Line { .. } | Target::Usdt { .. }) => At::Inside,
            (_, Target::Symbol { .. } | Target::FileOffset(_)) => At::Entry,
        };
        let fields = self.compile_args(spec, at, report);
        let (args, ret) = fields.split_at(spec.args.len());
        let Some(text) = &self.filter else { return };
        match fetch::compile(args, ret, spec.filter.as_ref(), at) {
            Ok(_) => {}
            Err(e) if e.part != Part::Filter => report.error(self.place.whole(), e.error.message),
            Err(e) => report.syntax(text, e.error),
        }
    }

    /// Compiles the arguments of both sides and reports each mistake. Returns arguments of the same
    /// names and types that compile everywhere, for the filter to be checked against.
    fn compile_args(&self, spec: &ProbeSpec, at: At, report: &mut Report<'_>) -> Vec<FetchArg> {
        let texts: Vec<&Located> = self.args.iter().chain(&self.ret).collect();
        let mut left: Vec<FetchArg> = spec
            .args
            .iter()
            .chain(&spec.ret)
            .map(|arg| if arg.not_yet().is_some() { stand_in(arg) } else { arg.clone() })
            .collect();
        let mut reported = None;
        loop {
            let (args, ret) = left.split_at(spec.args.len());
            let Err(CompileError { part: Part::Arg(index), error }) = fetch::compile(args, ret, None, at)
            else {
                break;
            };
            if reported >= Some(index) || index >= left.len() {
                break;
            }
            report.syntax(texts[index], error);
            left[index] = stand_in(&left[index]);
            left[index].name = format!("{} ", left[index].name);
            reported = Some(index);
        }
        left.iter().map(stand_in).collect()
    }
}

/// An argument of the same name and type that can be compiled at every place.
fn stand_in(arg: &FetchArg) -> FetchArg {
    let mut arg = arg.clone();
    arg.source = Source { origin: Origin::Stack, derefs: vec![0] };
    if matches!(arg.ty.base, Base::F32 | Base::F64 | Base::SymbolText) {
        arg.ty = Type::DEFAULT;
    }
    arg
}

/// What the probe needs that this version doesn't have.
#[derive(Default)]
struct Lacks {
    first: Option<&'static str>,
}

impl Lacks {
    fn note(&mut self, range: Range<usize>, what: &'static str, report: &mut Report<'_>) {
        self.first.get_or_insert(what);
        report.not_yet(range, what);
    }
}

/// A fetch argument; the error is reported already.
/// What a value of this type is, where it is not one integer.
const fn no_integer(ty: Type) -> Option<&'static str> {
    match (ty.count, ty.base) {
        (Some(_), _) => Some("an array"),
        (None, Base::Text | Base::SymbolText) => Some("a string"),
        (None, Base::F32 | Base::F64) => Some("a floating-point number"),
        (None, _) => None,
    }
}

type Parsed = Result<FetchArg, ()>;

fn parsed(args: Vec<Parsed>) -> Vec<FetchArg> {
    args.into_iter().flatten().collect()
}

/// Parses fetch arguments; `numbers` are theirs in the probe.
fn parse_args(
    texts: &[Located],
    numbers: &[usize],
    lacks: &mut Lacks,
    report: &mut Report<'_>,
) -> Vec<Parsed> {
    let mut args = Vec::with_capacity(texts.len());
    for (text, number) in texts.iter().zip(numbers) {
        let arg = fetch::parse_arg(&text.value).map(|arg| arg.with_default_name(*number));
        if let Ok(arg) = &arg
            && let Some(what) = arg.not_yet()
        {
            lacks.note(text.whole(), what, report);
        }
        args.push(arg.map_err(|e| report.syntax(text, e)));
    }
    args
}
