//! Before the program gives up rights (another user, another root, limits, a seccomp filter): whatever will be
//! needed for the rest of its life is opened and mapped now.

use std::sync::atomic::Ordering::Relaxed;

use crate::config::{Action, SummaryFormat};
use crate::hit::restrict::Loss;
use crate::hit::{actions, dispatch, output, process, thread, ticks};
use crate::probe::{Instance, Maker, Registry, lock};
use crate::runtime::files;
use crate::runtime::messages::{Level, say};
use crate::runtime::start::{self, SETTINGS};
use crate::sys::reserve;

/// Room for a report, and for whatever else is to be done where the kernel gives no more memory: some bytes for
/// each place (more where it has a histogram), in all the buffers they go through, and the pieces of our heap.
#[must_use]
pub fn memory_for_report(registry: &Registry) -> usize {
    const EACH: usize = 640;
    const HISTOGRAM: usize = 4096;
    const BESIDES: usize = 4 << 20;
    const MOST: usize = 512 << 20;
    let of_each = |instance: &Instance| {
        let consumer = instance.consumer();
        if consumer.latency.is_some() || !consumer.hists.is_empty() { HISTOGRAM } else { EACH }
    };
    (BESIDES + registry.instances.iter().flatten().map(of_each).sum::<usize>()).min(MOST)
}

/// Called before the program makes such a call.
pub fn before_loss(loss: Loss) {
    process::check_fork();
    let done = lock::with(|registry| {
        if loss.memory {
            reserve::open();
        }
        if loss.memory || loss.breakpoints {
            thread::provide();
        }
        open_files(registry);
        if loss.breakpoints {
            let gone = registry.disarm_breakpoints(start::ends());
            say(
                Level::Warn,
                &format!(
                    "a seccomp filter forbids rt_sigreturn: {gone} places at a breakpoint are not probed any more"
                ),
            );
        }
        if loss.breakpoints || loss.death {
            actions::give_back_defaults(loss.breakpoints);
        }
        if let Some(own) = registry.modules.iter().find(|module| module.is_own) {
            if loss.counter {
                ticks::lose_counter(own.low, own.high);
            }
            if loss.dispatched {
                dispatch::note_own(own.low, own.high);
            }
        }
    });
    if let Err(busy) = done {
        say(Level::Warn, &format!("not prepared for what the program gives up: {busy:?}"));
    }
}

fn open_files(registry: &Registry) {
    let Some(settings) = SETTINGS.get() else { return };
    if output::is_scarce() || process::page().finished.load(Relaxed) != 0 {
        return;
    }
    let is_logged = registry.requests.iter().flatten().any(|request| match &request.maker {
        Maker::Spec(spec) => spec.probe.actions.contains(&Action::Log),
        Maker::Api(..) => false,
    });
    if is_logged {
        output::prepare();
    }
    if let (Some(path), true) = (&settings.summary.path, settings.summary.format != SummaryFormat::None) {
        files::open_report_early(&settings.naming, path);
    }
}
