//! The protocols that rest on membarrier(2), or on stores that are seen before the next load of the same thread
//! is made, on processors with store buffers.

mod sys {
    pub use uprobe_interleavings::tso::atomic;
}

#[allow(dead_code)]
#[path = "../../../src/hit/protocol/mod.rs"]
mod protocol;

mod mutants {
    include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
}

use sys::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*, fence};
use uprobe_interleavings::tso::{explore, membarrier, yield_now};

/// Turns of the scheduler in one order.
const TURNS: usize = 3;

/// As `barrier::light` and `heavy` where there is membarrier.
fn light() {}

fn heavy() {
    fence(SeqCst);
    membarrier();
    fence(SeqCst);
}

/// Both, where there is none.
fn fenced() {
    fence(SeqCst);
}

/// A barrier that was forgotten.
fn nothing() {}

/// Two threads count; neither addition is lost. `others` run beside them.
macro_rules! counting {
    ($protocol:path, $light:expr, $heavy:expr $(, $others:expr)*) => {{
        use $protocol as p;
        struct Shared {
            phase: AtomicU32,
            counting: [AtomicBool; 2],
            word: AtomicU64,
        }
        fn thread<const ME: usize>(shared: &Shared) {
            let wait = || {
                while shared.counting.iter().any(|counting| counting.load(Acquire)) {
                    yield_now();
                }
            };
            p::arrive(&shared.phase, $heavy, wait);
            p::add(&shared.phase, &shared.counting[ME], &shared.word, 1, $light);
            p::add(&shared.phase, &shared.counting[ME], &shared.word, 1, $light);
        }
        let shared = || Shared {
            phase: AtomicU32::new(p::NOBODY),
            counting: [AtomicBool::new(false), AtomicBool::new(false)],
            word: AtomicU64::new(0),
        };
        let orders = explore(TURNS, shared, &[thread::<0>, thread::<1> $(, $others)*], |shared| {
            assert_eq!(shared.word.load(Relaxed), 4, "an addition was lost");
        });
        println!("{orders} orders");
    }};
}

/// A hit reads what another thread takes away and frees.
macro_rules! freeing {
    ($protocol:path, $light:expr, $heavy:expr) => {{
        use $protocol as p;
        struct Shared {
            sequence: AtomicU64,
            published: AtomicU64,
            freed: AtomicBool,
        }
        fn hit(shared: &Shared) {
            for _ in 0..2 {
                p::enter(&shared.sequence, $light);
                if shared.published.load(Acquire) != 0 {
                    assert!(!shared.freed.load(Relaxed), "read after it was freed");
                }
                p::leave(&shared.sequence);
            }
        }
        fn change(shared: &Shared) {
            shared.published.store(0, SeqCst);
            $heavy();
            if let Some(seen) = p::under_way(&shared.sequence) {
                while !p::is_over(&shared.sequence, seen) {
                    yield_now();
                }
            }
            shared.freed.store(true, SeqCst);
        }
        let shared = || Shared {
            sequence: AtomicU64::new(0),
            published: AtomicU64::new(1),
            freed: AtomicBool::new(false),
        };
        println!("{} orders", explore(TURNS, shared, &[hit, change], |_| {}));
    }};
}

/// After unregister no handler runs.
macro_rules! running {
    ($protocol:path, $light:expr, $heavy:expr) => {{
        use $protocol as p;
        struct Shared {
            running: AtomicPtr<u64>,
            alive: AtomicBool,
            gone: AtomicBool,
        }
        const WHOM: *mut u64 = 64 as *mut u64;
        fn hit(shared: &Shared) {
            for _ in 0..2 {
                p::begin_run(&shared.running, WHOM, $light);
                if shared.alive.load(Acquire) {
                    assert!(!shared.gone.load(Relaxed), "a handler runs after unregister");
                }
                p::end_run(&shared.running);
            }
        }
        fn unregister(shared: &Shared) {
            shared.alive.store(false, SeqCst);
            $heavy();
            while p::runs(&shared.running, WHOM) {
                yield_now();
            }
            shared.gone.store(true, SeqCst);
        }
        let shared = || Shared {
            running: AtomicPtr::default(),
            alive: AtomicBool::new(true),
            gone: AtomicBool::new(false),
        };
        println!("{} orders", explore(TURNS, shared, &[hit, unregister], |_| {}));
    }};
}

/// Indices are handed out while a thread makes an array that is too small for all of them.
macro_rules! cells {
    ($protocol:path) => {{
        use $protocol as p;
        struct Shared {
            smallest: AtomicU32,
            next: AtomicU32,
            is_used: AtomicBool,
            taken: AtomicU32,
        }
        fn make(shared: &Shared) {
            shared.is_used.store(p::offer(&shared.smallest, &shared.next, 5), SeqCst);
        }
        fn hand_out(shared: &Shared) {
            shared.taken.store(p::take(&shared.smallest, &shared.next, 2), SeqCst);
        }
        let shared = || Shared {
            smallest: AtomicU32::new(u32::MAX),
            next: AtomicU32::new(4),
            is_used: AtomicBool::new(false),
            taken: AtomicU32::new(0),
        };
        let orders = explore(TURNS, shared, &[make, hand_out], |shared| {
            // 4 and 5, and an array of five.
            assert!(
                !shared.is_used.load(SeqCst) || shared.taken.load(SeqCst) == 0,
                "an index outside an array"
            );
        });
        println!("{orders} orders");
    }};
}

/// The id and the length become known at the same time.
macro_rules! definition {
    ($protocol:path) => {{
        use $protocol as p;
        fn word(len: usize, id: u32) -> u64 {
            (len as u64) << 32 | u64::from(id)
        }
        fn announce(shared: &p::Definition) {
            assert!(shared.announce(0x1000, 40, word).is_some());
        }
        fn define(shared: &p::Definition) {
            shared.define(7, word);
        }
        let orders = explore(TURNS, p::Definition::default, &[announce, define], |shared| {
            assert_eq!(shared.word.load(Acquire), word(40, 7), "nobody has made the word");
        });
        println!("{orders} orders");
    }};
}

#[test]
fn no_index_lies_outside_an_array() {
    cells!(crate::protocol::cell_count);
}

#[test]
#[should_panic(expected = "an index outside an array")]
fn who_looks_first_and_offers_second_has_one() {
    cells!(crate::mutants::looked_before_offered::cell_count);
}

#[test]
fn whoever_is_second_makes_the_word() {
    definition!(crate::protocol::definition);
}

#[test]
#[should_panic(expected = "nobody has made the word")]
fn written_without_an_order_nobody_does() {
    definition!(crate::mutants::length_unordered::definition);
}

#[test]
fn no_addition_is_lost_when_a_second_thread_comes() {
    counting!(crate::protocol::only_thread, light, heavy);
}

/// Where there is no membarrier, `light` is a fence and `heavy` no more than one.
#[test]
fn nor_with_fences_alone() {
    counting!(crate::protocol::only_thread, fenced, fenced);
}

/// Nobody is to be alone any more, for another reason than that a second thread has come, which it has or will.
#[test]
fn nor_when_being_alone_is_called_off() {
    use crate::protocol::only_thread;
    counting!(only_thread, light, heavy, |shared: &Shared| only_thread::end(&shared.phase));
}

#[test]
#[should_panic(expected = "an addition was lost")]
fn an_arrival_without_its_barrier_loses_one() {
    counting!(crate::mutants::arrival_without_heavy::only_thread, light, heavy);
}

#[test]
#[should_panic(expected = "an addition was lost")]
fn a_count_without_its_fence_loses_one() {
    counting!(crate::mutants::count_without_light::only_thread, fenced, fenced);
}

#[test]
fn nothing_is_freed_under_a_hit() {
    freeing!(crate::protocol::grace, light, heavy);
    freeing!(crate::protocol::grace, fenced, fenced);
}

#[test]
fn no_handler_runs_after_unregister() {
    running!(crate::protocol::grace, light, heavy);
    running!(crate::protocol::grace, fenced, fenced);
}

#[test]
#[should_panic(expected = "read after it was freed")]
fn a_change_without_its_barrier_frees_too_early() {
    freeing!(crate::protocol::grace, light, fenced);
}

#[test]
#[should_panic(expected = "read after it was freed")]
fn a_hit_without_its_fence_reads_what_is_freed() {
    freeing!(crate::mutants::hit_without_light::grace, fenced, fenced);
}

#[test]
#[should_panic(expected = "a handler runs after unregister")]
fn an_unregister_without_its_barrier_returns_too_early() {
    running!(crate::protocol::grace, light, nothing);
}

#[test]
#[should_panic(expected = "a handler runs after unregister")]
fn a_run_without_its_fence_is_not_seen() {
    running!(crate::mutants::run_without_light::grace, fenced, fenced);
}
