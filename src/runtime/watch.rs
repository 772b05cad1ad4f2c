//! Objects that come and go: an internal probe on the function the dynamic linker calls for
//! debuggers (`_r_debug.r_brk`), as gdb does.

use crate::hit::consumer::Flow;
use crate::hit::trap::Hit;
use crate::probe::{Registry, linker, lock};
use crate::runtime::messages::{Level, say};
use crate::runtime::refusals;

/// `r_state`: the list of objects is complete. (link.h)
const RT_CONSISTENT: i32 = 0;

/// Puts the probe there.
pub fn install(registry: &mut Registry) {
    // SAFETY: the linker's own struct, which lives for ever.
    let breakpoint = unsafe { (*linker()).breakpoint };
    if breakpoint == 0 {
        say(
            Level::Warn,
            "the dynamic linker's _r_debug was not found: libraries loaded later are not probed",
        );
        return;
    }
    if let Err(refusal) = registry.register_internal(breakpoint, on_change) {
        say(Level::Warn, &format!("libraries loaded later are not probed: {refusal}"));
    }
}

/// At a hit, in the thread that called dlopen or dlclose: objects are mapped, constructors have not
/// run; or destructors have, and the object is gone. The linker waits for us.
fn on_change(_hit: &mut Hit<'_>) -> Flow {
    // SAFETY: it lives for ever, and the linker writes it before it calls us.
    if unsafe { (&raw const (*linker()).state).read_volatile() } != RT_CONSISTENT {
        return Flow::Continue;
    }
    report(lock::with(|registry| {
        let before = registry.detour_usage();
        registry.objects_mapped(on_relocated);
        refusals::report_later(registry);
        let usage = registry.detour_usage();
        if usage != before {
            say(Level::Info, &format!("libraries were loaded; {usage}"));
        }
    }));
    Flow::Continue
}

/// At the first instruction of a new object's DT_INIT, where an IFUNC of it is to be probed.
fn on_relocated(hit: &mut Hit<'_>) -> Flow {
    let at = hit.point.at;
    report(lock::with(|registry| registry.object_relocated(at)));
    Flow::Continue
}

fn report(result: Result<(), lock::Busy>) {
    if let Err(busy) = result {
        say(Level::Error, &format!("a loaded library was not looked at: {busy:?}"));
    }
}
