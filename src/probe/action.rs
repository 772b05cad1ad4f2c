//! What of a place's consumer is compiled into its detour.

use crate::fetch::Comparison;
use crate::hit::compiled::{Action, Compiled, Filter, Measure, Place, Then};
use crate::hit::consumer::{Consumer, EventRole, Role, Side};
use crate::hit::point::ProbePoint;

/// For the only consumer of the place. `None`: nothing is. The registry's lock must be held.
pub(super) fn compiled_action(point: &ProbePoint) -> Option<Action> {
    let consumer = only_consumer(point)?;
    let Role::Event(event) = consumer.role() else { return None };
    let filter = match event.program.has_filter() {
        true => Some(Box::new(filter(consumer, event)?)),
        false => None,
    };
    let then = match counted(consumer, event) {
        Some(then) => then,
        // There would be nothing but the call.
        None if filter.is_none() => return None,
        None => Then::Call,
    };
    let action = Action { filter, then };
    is_feasible(&action).then_some(action)
}

/// The place's only consumer, as long as the lock is held; a config's lives for ever. The registry's lock must be
/// held.
pub(super) fn only_consumer(point: &ProbePoint) -> Option<&'static Consumer> {
    let listeners = point.consumers.load()?;
    // SAFETY: listed consumers are alive.
    listeners.only().map(|only| unsafe { &*std::ptr::from_ref(only) })
}

/// Whether the consumer has no filter, or one that is compiled where it is the only one.
pub(super) fn filters_compiled(consumer: &Consumer) -> bool {
    let Role::Event(event) = consumer.role() else { return true };
    if !event.program.has_filter() {
        return true;
    }
    let comparisons = event.program.comparisons();
    consumer.counters.filtered.cell().zip(comparisons).is_some_and(|(cell, comparisons)| {
        let filter = Some(Box::new(Filter { comparisons, cell, alive: None }));
        is_feasible(&Action { filter, then: Then::Call })
    })
}

fn filter(consumer: &'static Consumer, event: &EventRole) -> Option<Filter> {
    let comparisons: Box<[Comparison]> = event.program.comparisons()?;
    let cell = consumer.counters.filtered.cell()?;
    // A handler that crashes takes the probe with it.
    let alive = (!event.plugins.is_empty()).then_some(std::ptr::from_ref(&consumer.alive));
    Some(Filter { comparisons, cell, alive })
}

/// Where hits are counted, and no more than one value of each.
fn counted(consumer: &Consumer, event: &EventRole) -> Option<Then> {
    let only_counts = event.side == Side::Entry && !event.log && event.plugins.is_empty();
    if !only_counts || consumer.sample != 1 || consumer.limit != 0 {
        return None;
    }
    let hits = consumer.counters.hits.cell()?;
    match consumer.hists.as_slice() {
        [] => (!event.acts()).then_some(Then::Count(hits)),
        [hist] => {
            let value = event.program.register_value(hist.measured.arg()?)?;
            Some(Then::Histogram(Box::new(Measure { value, first: hist.first()?, hits })))
        }
        _ => None,
    }
}

/// Whether there is code for it.
fn is_feasible(action: &Action) -> bool {
    if let Action { filter: None, then: Then::Count(_) } = action {
        return true;
    }
    let compiled = Compiled { action: action.clone(), red_zone: true, flags: true };
    compiled.build(Place { entry: 0, call: 0 }).is_some()
}
