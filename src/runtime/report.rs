//! The report at the end of the process, from whatever way it ends.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering::*;

use crate::config::{Kind as ConfigKind, ProbeSpec, SummaryFormat};
use crate::error::Refusal;
use crate::hit::consumer::{Consumer, Role};
use crate::hit::histogram::HistogramCounts;
use crate::hit::point::ProbePoint;
use crate::hit::{clock, output, process, shadow, stack};
use crate::insn::Way;
use crate::probe::{Instance, Maker, Registry, Request, State as ProbeState, lock};
use crate::runtime::messages::{Level, say};
use crate::runtime::start::SETTINGS;
use crate::runtime::timebase;
use crate::runtime::{files, prepare};
use crate::sys::{self, reserve};
use crate::trace::summary::{self, Kind, Method, ProbeSummary, State, Summary};

/// Writes the report, once per process. Signal-safe but for waiting at most two seconds for another
/// thread's registration to end.
pub fn finish() {
    let Some(settings) = SETTINGS.get() else { return };
    process::check_fork();
    if process::page().finished.swap(1, AcqRel) != 0 || settings.summary.format == SummaryFormat::None {
        return;
    }
    timebase::warn_of_drift();
    let here = stack::here();
    let done = lock::with_some_patience(|registry| {
        shadow::sweep(&here);
        if !can_have_memory(registry) {
            say(Level::Error, "no report: there is no memory for it");
            return;
        }
        let text = render(registry, settings.summary.format);
        match &settings.summary.path {
            None => output::write_stderr(text.as_bytes()),
            Some(path) => {
                if let Err(errno) = files::write_report(&settings.naming, path, text.as_bytes()) {
                    let error = std::io::Error::from_raw_os_error(errno);
                    say(Level::Error, &format!("the report can't be written to '{path}': {error}"));
                }
            }
        }
    });
    if let Err(busy) = done {
        say(Level::Error, &format!("no report: the registry is not to be had ({busy:?})"));
    }
}

/// Whether rendering will not run out of memory, which would be the program's end: what the system gives, or what was
/// set aside.
fn can_have_memory(registry: &Registry) -> bool {
    let wanted = prepare::memory_for_report(registry) / 2;
    if reserve::left() >= wanted {
        return true;
    }
    let Ok(address) = sys::map_reserved(wanted) else { return false };
    // SAFETY: our own fresh mapping.
    unsafe { sys::munmap(address, wanted) }.is_ok()
}

/// Whether anything was hit: a process that executes another program without a hit has nothing to
/// report yet.
#[must_use]
pub fn has_hits() -> bool {
    lock::with_some_patience(|registry| {
        let is_reported = |instance: &&Instance| matches!(instance.consumer().role(), Role::Event(_));
        let mut reported = registry.instances.iter().flatten().filter(is_reported);
        reported.any(|instance| instance.consumer().counters.has_executions())
    })
    .unwrap_or(true)
}

fn render(registry: &Registry, format: SummaryFormat) -> String {
    let exe = registry.modules.first().map_or(&b""[..], |module| module.path.as_os_str().as_bytes());
    let summary = Summary {
        version: summary::VERSION,
        pid: process::pid() as u32,
        exe: Cow::Borrowed(exe),
        wall_ns: clock::now_ns().saturating_sub(process::page().start_ns.load(Relaxed)),
        probes: probes(registry),
    };
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = match format {
        SummaryFormat::Json => summary::json(&summary, &mut text),
        SummaryFormat::OpenMetrics => summary::openmetrics(&summary, &mut text),
        SummaryFormat::Table | SummaryFormat::None => summary::table(&summary, &mut text),
    };
    text
}

fn probes(registry: &Registry) -> Vec<ProbeSummary<'_>> {
    let mut all = Vec::new();
    for request in registry.requests.iter().flatten() {
        let Maker::Spec(spec) = &request.maker else { continue };
        let spec = &spec.probe;
        let kind = match spec.kind {
            ConfigKind::Entry => Kind::Entry,
            ConfigKind::Return => Kind::Return,
            ConfigKind::Call => Kind::Call,
        };
        let mut found: Vec<&Instance> =
            request.instances().iter().filter_map(|i| registry.instances[*i as usize].as_ref()).collect();
        found.retain(|instance| instance.is_place());
        found.sort_by(|a, b| {
            registry
                .object_of(a)
                .as_os_str()
                .cmp(registry.object_of(b).as_os_str())
                .then(a.offset.cmp(&b.offset))
        });
        if found.is_empty() {
            all.push(nowhere(request, spec, kind));
        }
        all.extend(found.into_iter().map(|instance| of_instance(registry, &spec.at, instance, kind)));
    }
    all
}

/// A probe without a place.
fn nowhere<'a>(request: &Request, spec: &'a ProbeSpec, kind: Kind) -> ProbeSummary<'a> {
    let mut probe = ProbeSummary::new(spec.name.as_str(), spec.at.as_str());
    probe.kind = kind;
    let refusal = request.refusal();
    probe.state = if refusal.is_none_or(Refusal::is_pending) { State::Pending } else { State::Refused };
    probe.reason = refusal.map(|refusal| Cow::Owned(refusal.to_string()));
    probe
}

fn of_instance<'a>(
    registry: &'a Registry,
    at: &'a str,
    instance: &'a Instance,
    kind: Kind,
) -> ProbeSummary<'a> {
    let consumer: &Consumer = instance.consumer();
    let point = instance.points.first();
    let mut probe = ProbeSummary::new(consumer.name, at);
    probe.kind = kind;
    probe.object = Some(Cow::Borrowed(registry.object_of(instance).as_os_str().as_bytes()));
    let function = consumer.function();
    probe.symbol = function.map(|(name, _)| Cow::Borrowed(name));
    probe.offset = function.map_or(0, |(_, offset)| offset);
    probe.file_offset = Some(instance.offset.0);
    probe.address = point.map(|point| point.at);
    probe.state = match instance.state() {
        ProbeState::Armed => State::Armed,
        ProbeState::Pending => State::Pending,
        ProbeState::Refused => State::Refused,
        ProbeState::Disabled => State::Disabled,
    };
    probe.method = point.map(|point| method(point));
    probe.reason = reason(registry, instance, consumer);
    let counters = &consumer.counters;
    probe.hits = counters.hits.read();
    probe.nmissed = counters.nmissed.load(Relaxed);
    probe.filtered = counters.filtered.read();
    probe.sampled_out = counters.sampled_out.load(Relaxed);
    probe.lost = counters.lost.load(Relaxed);
    if kind != Kind::Entry {
        probe.returns = counters.returns.read();
        probe.unwound = counters.unwound.load(Relaxed);
        // Other threads go on meanwhile: what was loaded last is not less than its parts.
        probe.hits = counters.hits.read().max(probe.returns + probe.unwound);
        probe.in_flight = probe.hits - probe.returns - probe.unwound;
    }
    if let Some(latency) = &consumer.latency {
        probe.latency = latency.read();
    }
    probe.hist = consumer.hists.iter().map(HistogramCounts::read).collect();
    probe
}

fn reason<'a>(registry: &Registry, instance: &Instance, consumer: &Consumer) -> Option<Cow<'a, str>> {
    let signal = consumer.crash_signal();
    if signal != 0 {
        let address = consumer.crash_address.load(Relaxed);
        return Some(Cow::Owned(Refusal::HandlerFault { signal, address }.to_string()));
    }
    if let Some(refusal) = &instance.refusal {
        return Some(Cow::Owned(refusal.to_string()));
    }
    let at_int3 = instance.points.first().filter(|point| !point.optimized.load(Relaxed));
    if let Some(why) = at_int3.and_then(|point| registry.not_optimized.get(&point.at)) {
        return Some(Cow::Owned(why.to_string()));
    }
    instance.points.is_empty().then_some(Cow::Borrowed("object-not-loaded: the object is not loaded now"))
}

fn method(point: &ProbePoint) -> Method {
    match point.insn.way {
        _ if point.optimized.load(Acquire) => Method::Jump,
        Way::Emulate(_) => Method::Emulate,
        Way::Slot(_) => match point.consumers.load() {
            Some(listeners) if listeners.wants_post() => Method::Step,
            _ => Method::Boost,
        },
    }
}
