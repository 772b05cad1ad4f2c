//! Saying which of the config's probes can't be armed: at the start, and when a library is loaded.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering::*};

use crate::config::{self, ProbeSpec};
use crate::error::Refusal;
use crate::place::ObjectPattern;
use crate::probe::{Maker, Registry, State};
use crate::runtime::messages::{Level, say};
use crate::runtime::start::Strictness;
use crate::sys::{self, MemoryUsage};

/// [`Strictness::Inherited`], for the libraries loaded later.
static IS_INHERITED: AtomicBool = AtomicBool::new(false);

/// Whether the parent is traced, too: it has the library mapped.
fn is_followed() -> bool {
    let stat = sys::read_whole(c"/proc/self/stat").unwrap_or_default();
    let text = String::from_utf8_lossy(&stat);
    let parent =
        text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
    let path = parent.and_then(|pid| CString::new(format!("/proc/{pid}/maps")).ok());
    let maps = path.and_then(|path| sys::read_whole(&path).ok()).unwrap_or_default();
    memchr::memmem::find(&maps, b"/libuprobe.so").is_some()
}

/// Says it of one probe. Whether it is a mistake, and not something that may still come right.
fn complain(spec: &ProbeSpec, refusal: &Refusal, strictness: Strictness) -> bool {
    if matches!(refusal, Refusal::NotYet { .. }) {
        return true;
    }
    // In a program that another traced one started, "the program itself" may be anything.
    let absent = matches!(refusal, Refusal::NoSymbol { .. })
        && (strictness == Strictness::Inherited
            || (strictness == Strictness::Lenient
                && spec.place.object == ObjectPattern::Exe
                && is_followed()));
    let pending = refusal.is_pending() || absent;
    let (severity, level) = if pending {
        (config::Severity::Warning, Level::Info)
    } else {
        (config::Severity::Error, Level::Error)
    };
    say(level, &spec.origin.diagnostic(severity, refusal.to_string(), None).to_string());
    !pending
}

/// Reports the probes that can't be armed; whether there are any.
pub fn report(registry: &mut Registry, strictness: Strictness, before: MemoryUsage) -> bool {
    IS_INHERITED.store(strictness == Strictness::Inherited, Relaxed);
    let mut any = false;
    let mut armed = 0;
    for request in registry.requests.iter().flatten() {
        let Maker::Spec(spec) = &request.maker else { continue };
        let spec = &spec.probe;
        if let Some(refusal) = request.refusal().filter(|_| request.instances().is_empty()) {
            any |= complain(spec, refusal, strictness);
        }
        // Of a pattern's many places a few are always refused; strictness is about what was named.
        let is_pattern = request.instances().len() > 1;
        for instance in request.instances().iter().filter_map(|i| registry.instances[*i as usize].as_ref()) {
            armed += usize::from(instance.state() == State::Armed);
            match instance.refusal.as_deref() {
                Some(refusal) if is_pattern => {
                    let text = format!(
                        "{}: {refusal}",
                        instance.consumer().function().map_or(instance.consumer().name, |(name, _)| name)
                    );
                    say(
                        Level::Warn,
                        &spec.origin.diagnostic(config::Severity::Warning, text, None).to_string(),
                    );
                }
                Some(refusal) => any |= complain(spec, refusal, strictness),
                None => {}
            }
        }
    }
    registry.reported = mistakes(registry).collect();
    let now = sys::memory_usage();
    let each = |now: usize, before: usize| now.saturating_sub(before) / armed.max(1);
    say(
        Level::Info,
        &format!(
            "{armed} places armed; {} bytes of memory and {} of address space each; {}",
            each(now.resident, before.resident),
            each(now.mapped, before.mapped),
            registry.detour_usage()
        ),
    );
    any
}

/// The probes for one place, or for none, that can't be armed, by their number.
fn mistakes(registry: &Registry) -> impl Iterator<Item = usize> + '_ {
    (0..registry.requests.len()).filter(|number| mistake(registry, *number).is_some())
}

fn mistake(registry: &Registry, number: usize) -> Option<(&ProbeSpec, &Refusal)> {
    let request = registry.requests[number].as_ref()?;
    let Maker::Spec(spec) = &request.maker else { return None };
    let refusal = match request.instances() {
        [] => request.refusal()?,
        [one] => registry.instances[*one as usize].as_ref()?.refusal.as_deref()?,
        _ => return None,
    };
    // Another of the objects that a pattern means may have it.
    let may_come = matches!(spec.probe.place.object, ObjectPattern::Glob(_))
        && matches!(refusal, Refusal::NoSymbol { .. });
    (!refusal.is_pending() && !may_come).then_some((&spec.probe, refusal))
}

/// Reports those that a library has shown to be mistakes: it is loaded now, and has no such place. Each once,
/// however often the library is loaded.
pub fn report_later(registry: &mut Registry) {
    let new: Vec<usize> =
        mistakes(registry).filter(|number| registry.reported.binary_search(number).is_err()).collect();
    if new.is_empty() {
        return;
    }
    let strictness = if IS_INHERITED.load(Relaxed) { Strictness::Inherited } else { Strictness::Strict };
    for number in &new {
        if let Some((spec, refusal)) = mistake(registry, *number) {
            complain(spec, refusal, strictness);
        }
    }
    registry.reported.extend(new);
    registry.reported.sort_unstable();
}
