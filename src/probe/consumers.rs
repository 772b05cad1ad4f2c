//! Consumers made from what was asked for, for one place.

use std::ffi::CString;

use crate::addr::{FileOffset, LinkAddr, RuntimeAddr};
use crate::config::{Action, Kind, Method, ProbeSpec};
use crate::elf::{self, ElfFile, Resolved};
use crate::error::Refusal;
use crate::fetch::{self, At};
use crate::hit::c_structs::{CUprobe, CUretprobe};
use crate::hit::consumer::{Consumer, EventRole, Mark, More, Role, Side, Special, Symbol};
use crate::hit::counters::Counters;
use crate::hit::histogram::{HistogramCounts, Measured};
use crate::hit::latency::LatencyCounts;
use crate::hit::{cells, returns, ticks, vectors};
use crate::place::{Label, Target};
use crate::probe::api::{ApiProbe, is_entry, not_entry, return_denied};
use crate::probe::instance::{Maker, ModuleKey, Spec};
use crate::probe::modules::{MappedFiles, Module};
use crate::sys::Shelf;

/// For a config's probe.
///
/// # Errors
/// Why it can't be at this place.
pub fn of_spec(
    spec: &mut Spec,
    key: ModuleKey,
    module: &Module,
    file: &ElfFile,
    resolved: &Resolved,
    name: &str,
    shelf: &mut Shelf,
) -> Result<Consumer, Refusal> {
    if spec.probe.kind != Kind::Entry {
        not_entry(resolved).or_else(|| return_denied(file, resolved)).map_or(Ok(()), Err)?;
    }
    let role = shared_role(spec, key, module, resolved)?;
    let measured = measured(&spec.probe, &role.program)?;
    let mut more = More::new(shelf.keep_text(name));
    more.symbol = symbol(resolved, name, shelf);
    let spec = &spec.probe;
    let is_special = spec.kind != Kind::Entry
        || spec.sample != 1
        || spec.limit != 0
        || !measured.is_empty()
        || !role.plugins.is_empty()
        || spec.actions.contains(&Action::Log);
    let mut special = Special::new();
    special.sample = spec.sample;
    special.limit = spec.limit;
    if spec.kind != Kind::Entry {
        prepare_return(&mut special, spec.maxactive, file, resolved)?;
    }
    if spec.kind == Kind::Call {
        ticks::calibrate();
    }
    if spec.sample != 1 || spec.limit != 0 {
        more.counters.use_others();
    }
    let times = if spec.kind == Kind::Call { LatencyCounts::CELLS } else { 0 };
    // There may be very many of these, and cells are few.
    let has_filter = role.program.has_filter();
    let first = match spec.kind {
        Kind::Entry => cells::take(1 + u32::from(has_filter)),
        // The times behind the counts: compiled code knows where they are.
        Kind::Return | Kind::Call => cells::take(Counters::EVENT_CELLS + times),
    };
    match spec.kind {
        Kind::Entry => more.counters.use_entry_cells(first, has_filter),
        Kind::Return | Kind::Call => more.counters.use_event_cells(first),
    }
    if spec.kind == Kind::Call {
        let times = if first == 0 { 0 } else { first + Counters::EVENT_CELLS };
        special.latency = Some(Box::new(LatencyCounts::new(times)));
    }
    special.hists = measured
        .into_iter()
        .map(|(name, measured, is_signed)| {
            HistogramCounts::new(name, measured, is_signed, cells::take(HistogramCounts::CELLS))
        })
        .collect();
    more.special = is_special.then(|| Box::new(special));
    let mut consumer = Consumer::new(Role::Event(role));
    consumer.mark(Mark::OnlyInt3, spec.method == Method::Int3);
    consumer.set_more(Box::new(more));
    Ok(consumer)
}

/// For a struct of the C API, or a replacement. `cells` gives those of a return probe, and of one that counts in them.
///
/// # Errors
/// Why it can't be at this place.
pub fn of_api(
    api: ApiProbe,
    label: Option<Label>,
    cells: impl FnOnce() -> u32,
    file: &ElfFile,
    resolved: &Resolved,
) -> Result<Consumer, Refusal> {
    api.refusal(file, resolved).map_or(Ok(()), Err)?;
    let mut consumer = Consumer::new(api.role());
    label.into_iter().for_each(|label| consumer.set_label(label));
    consumer.mark(Mark::OnlyInt3, api.wants_int3());
    consumer.note_handlers(!api.spares_vectors());
    let is_return = matches!(api, ApiProbe::Return(_));
    if !is_return && !api.counts_apart() {
        return Ok(consumer);
    }
    let mut more = More::new("");
    if let ApiProbe::Return(up) = api {
        // SAFETY: registered: the struct is there.
        let maxactive = unsafe { (*up.cast::<CUretprobe>()).maxactive };
        let mut special = Special::new();
        prepare_return(&mut special, maxactive.max(0) as u32, file, resolved)?;
        more.special = Some(Box::new(special));
    }
    more.counters.use_return_cells(cells());
    consumer.set_more(Box::new(more));
    if api.counts_apart() {
        consumer.count_apart();
    }
    Ok(consumer)
}

/// Made for good: hits count in it until the process ends.
pub fn keep(consumer: Consumer, shelf: &mut Shelf) -> *const Consumer {
    let consumer: &'static Consumer = shelf.keep(consumer);
    consumer.keep_counts();
    consumer
}

/// What a place is called in its file. Nearly always the probe has the same name.
fn symbol(resolved: &Resolved, name: &str, shelf: &mut Shelf) -> Option<&'static Symbol> {
    static LIKE_THE_PROBE: Symbol = Symbol::LIKE_THE_PROBE;
    let function = resolved.symbol.as_deref()?;
    if function == name && resolved.symbol_offset == 0 {
        return Some(&LIKE_THE_PROBE);
    }
    let function = shelf.keep_text(function);
    Some(shelf.keep(Symbol::new(function, resolved.symbol_offset)))
}

/// Does nothing: that of a probe that is refused.
pub fn idle(
    maker: &Maker,
    label: Option<Label>,
    resolved: &Resolved,
    name: &str,
    shelf: &mut Shelf,
) -> *const Consumer {
    let consumer = match maker {
        Maker::Api(api) => {
            let mut consumer = Consumer::new(api.role());
            label.into_iter().for_each(|label| consumer.set_label(label));
            consumer
        }
        Maker::Spec(spec) => {
            let role = Box::leak(Box::new(EventRole {
                side: Side::Entry,
                program: fetch::EventProgram::default(),
                needs: fetch::Needs::default(),
                log: false,
                plugins: Vec::new(),
                plugin_probe: Box::new(empty_probe()),
                at: spec.at,
            }));
            let mut consumer = Consumer::new(Role::Event(role));
            let mut more = More::new(shelf.keep_text(name));
            more.symbol = symbol(resolved, name, shelf);
            consumer.set_more(Box::new(more));
            consumer
        }
    };
    Box::into_raw(Box::new(consumer))
}

/// What is done at a hit there: made once for all places of the probe in one object.
fn shared_role(
    spec: &mut Spec,
    key: ModuleKey,
    module: &Module,
    resolved: &Resolved,
) -> Result<&'static EventRole, Refusal> {
    let at = match spec.probe.kind {
        Kind::Entry if is_entry(resolved) => At::Entry,
        Kind::Entry => At::Inside,
        Kind::Return => At::Return,
        Kind::Call => At::Call,
    };
    if let Some((_, _, role)) = spec.roles.iter().find(|(other, where_, _)| (*other, *where_) == (key, at)) {
        return Ok(role);
    }
    let role: &'static EventRole = Box::leak(Box::new(event_role(spec, module, at)?));
    spec.roles.push((key, at, role));
    Ok(role)
}

/// What a consumer that follows calls needs besides.
fn prepare_return(
    special: &mut Special,
    maxactive: u32,
    file: &ElfFile,
    resolved: &Resolved,
) -> Result<(), Refusal> {
    if !returns::prepare() {
        return Err(Refusal::OutOfMemory);
    }
    vectors::start();
    special.maxactive = maxactive;
    special.returns_twice = file.names_at(resolved.link).any(|name| name == "vfork");
    if special.returns_twice {
        returns::expect_second_returns();
    }
    Ok(())
}

fn empty_probe() -> CUprobe {
    CUprobe {
        pathname: std::ptr::null(),
        symbol_name: std::ptr::null(),
        offset: 0,
        addr: std::ptr::null_mut(),
        pre_handler: None,
        post_handler: None,
        fault_handler: None,
        data: std::ptr::null_mut(),
        nhit: Default::default(),
        nmissed: Default::default(),
        flags: Default::default(),
        reserved0: 0,
        opaque: [std::ptr::null_mut(); 4],
    }
}

/// Compiles what a config's probe does at a hit in `module`.
fn event_role(all: &Spec, module: &Module, at: At) -> Result<EventRole, Refusal> {
    let spec = &all.probe;
    let mut program = fetch::compile(&spec.args, &spec.ret, spec.filter.as_ref(), at)
        .map_err(|e| Refusal::BadFetch { why: e.to_string() })?;
    if program.needs_binding() {
        let bytes = module_offsets(module);
        program
            .bind(&|offset| bytes(offset))
            .map_err(|offset| Refusal::BadFetch { why: format!("file offset {offset:#x} is not loaded") })?;
    }
    let log = spec.actions.contains(&Action::Log);
    let read: Vec<Measured> =
        measured(spec, &program)?.into_iter().map(|(_, measured, _)| measured).collect();
    let needs = program.needs(log, spec.kind != Kind::Entry, read.iter().map(|measured| measured.arg()));
    let mut probe = empty_probe();
    // The plugin may look at the names; they live as long as the probe, which is for ever.
    probe.pathname = leak(&module.path.display().to_string());
    if let Target::Symbol { pattern: crate::place::SymbolPattern::Exact(name), offset } = &spec.place.target {
        probe.symbol_name = leak(name);
        probe.offset = *offset;
    }
    let side = match spec.kind {
        Kind::Entry => Side::Entry,
        Kind::Return => Side::Return,
        Kind::Call => Side::Call,
    };
    Ok(EventRole {
        side,
        program,
        needs,
        log,
        plugins: all.plugins.clone(),
        plugin_probe: Box::new(probe),
        at: all.at,
    })
}

/// What `hist(NAME)` counts: the name, where the value comes from, and whether it has a sign.
fn measured(
    spec: &ProbeSpec,
    program: &fetch::EventProgram,
) -> Result<Vec<(String, Measured, bool)>, Refusal> {
    let mut all = Vec::new();
    for action in &spec.actions {
        let Action::Hist(name) = action else { continue };
        let arg = program.args().iter().enumerate().find(|(_, arg)| arg.name() == name);
        all.push(match arg {
            Some((index, arg)) if arg.is_integer() => {
                (name.clone(), Measured::Arg(index as u16), arg.format() == fetch::Format::Signed)
            }
            None if name == "$latency" && spec.kind == Kind::Call => (name.clone(), Measured::Latency, false),
            _ => return Err(Refusal::BadFetch { why: format!("hist: '{name}' is no integer") }),
        });
    }
    Ok(all)
}

fn leak(text: &str) -> *const libc::c_char {
    CString::new(text).map_or(std::ptr::null(), |text| text.into_raw().cast_const())
}

/// File offset to runtime address, through the module's file.
fn module_offsets(module: &Module) -> impl Fn(FileOffset) -> Option<RuntimeAddr> + use<> {
    let file = elf::FileSource::open(&MappedFiles, &module.path)
        .and_then(|bytes| ElfFile::parse(&module.path, bytes).ok());
    let bias = module.bias;
    move |offset| {
        let link: LinkAddr = file.as_ref()?.link_of(offset)?;
        Some(link.at(bias))
    }
}
