//! The protocols that need nothing but the orders of C11, under loom: any load may see an older store
//! unless an order forbids it, any two accesses without one between them are a race. What rests on the one
//! order of all SeqCst accesses, which loom takes for acquire and release, is in `store_buffers.rs`.

mod sys {
    pub use loom::sync::atomic;
}

#[allow(dead_code)]
#[path = "../../../src/hit/protocol/mod.rs"]
mod protocol;

mod mutants {
    include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
}

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use loom::thread;

/// At most so many threads are interrupted in one order; more find nothing more here, and take minutes.
const TURNS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(TURNS);
    builder.check(model);
}

/// Blocks 1 to 3: nobody has one that another has, and what one wrote into it the next one sees.
macro_rules! blocks {
    ($protocol:path) => {{
        use $protocol as p;
        struct Pool {
            head: AtomicU64,
            links: [AtomicU32; 4],
            owned: [UnsafeCell<u32>; 4],
        }
        fn link<'a>(pool: &'a Pool) -> impl Fn(u32) -> &'a AtomicU32 {
            move |number| &pool.links[number as usize]
        }
        fn take(pool: &Pool) -> Option<u32> {
            let number = p::pop(&pool.head, link(pool))?;
            // Another owner at the same time is a race.
            pool.owned[number as usize].with_mut(|cell| {
                // SAFETY: what is being tested.
                unsafe { *cell += 1 };
            });
            Some(number)
        }
        fn give(pool: &Pool, number: u32) {
            pool.owned[number as usize].with_mut(|cell| {
                // SAFETY: what is being tested.
                unsafe { *cell += 1 };
            });
            p::push(&pool.head, number, link(pool));
        }
        explore(|| {
            let pool = Arc::new(Pool {
                head: AtomicU64::new(0),
                links: std::array::from_fn(|_| AtomicU32::new(0)),
                owned: std::array::from_fn(|_| UnsafeCell::new(0)),
            });
            (1..=2).for_each(|number| p::push(&pool.head, number, link(&pool)));
            let other = pool.clone();
            let thread = thread::spawn(move || {
                // Takes two and gives the first back: the head is what it was, the second is gone.
                let (first, second) = (take(&other), take(&other));
                if let Some(first) = first {
                    give(&other, first);
                }
                second
            });
            let mine = take(&pool);
            let theirs = thread.join().unwrap();
            let last = take(&pool);
            let mut all: Vec<u32> = [mine, theirs, last].into_iter().flatten().collect();
            let taken = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), taken, "two have the same block");
        });
    }};
}

/// Fresh numbers are nobody else's.
macro_rules! fresh {
    ($protocol:path) => {{
        use $protocol as p;
        explore(|| {
            let next = Arc::new(AtomicU32::new(1));
            let other = next.clone();
            let thread = thread::spawn(move || (p::carve(&other, 2, 9), p::carve(&other, 1, 9)));
            let (a, b) = (p::carve(&next, 1, 9), p::carve(&next, 4, 9));
            let (c, d) = thread.join().unwrap();
            let mut taken: Vec<u32> = Vec::new();
            for (first, size) in [(a, 1), (b, 4), (c, 2), (d, 1)] {
                if let Some(first) = first {
                    assert_eq!(first % size, 0);
                    taken.extend(first..first + size);
                }
            }
            let count = taken.len();
            taken.sort_unstable();
            taken.dedup();
            assert!(taken.len() == count && taken.iter().all(|n| *n < 9), "two have the same number");
        });
    }};
}

/// Three places are added, which makes the table grow; a reader finds each that was there when it began, whole, and
/// none but that it looks for: two have the same tag, and their searches begin at the same cell.
macro_rules! table {
    ($protocol:path) => {{
        use $protocol as p;
        const FIRST: u64 = 0x1000;
        const ALIKE: u64 = 0x2_0000_1000;
        struct Place {
            at: u64,
            made: UnsafeCell<bool>,
        }
        impl p::Placed for Place {
            fn address(&self) -> u64 {
                self.made.with(|made| {
                    // SAFETY: published whole.
                    assert!(unsafe { *made });
                });
                self.at
            }
            fn replaced(&self) {}
        }
        explore(|| {
            let table: &'static p::AddressTable<Place> = Box::leak(Box::new(p::AddressTable {
                cells: AtomicPtr::new(std::ptr::null_mut()),
                count: AtomicUsize::new(0),
                least: 1,
            }));
            fn place(at: u64) -> &'static Place {
                let place: &'static Place = Box::leak(Box::new(Place { at, made: UnsafeCell::new(false) }));
                place.made.with_mut(|made| {
                    // SAFETY: nobody knows of it.
                    unsafe { *made = true };
                });
                place
            }
            let finds = |at: u64| {
                let found = table.lookup(at);
                assert!(found.is_none_or(|found| found.at == at), "the place of another");
                found.is_some()
            };
            table.insert(place(FIRST));
            let reader = thread::spawn(move || {
                assert!(finds(FIRST), "a place was not found");
                finds(ALIKE)
            });
            table.insert(place(ALIKE));
            table.insert(place(0x3000));
            let was_seen = reader.join().unwrap();
            assert!(finds(ALIKE) || !was_seen);
            assert!([FIRST, ALIKE, 0x3000].into_iter().all(finds));
            assert_eq!(table.all().count(), 3);
        });
    }};
}

/// A reader of the file at any moment.
macro_rules! records {
    ($protocol:path) => {{
        use $protocol as p;
        explore(|| {
            let words = Arc::new((
                AtomicU64::new(0),
                UnsafeCell::new(0_u64),
                AtomicU64::new(0),
                AtomicBool::new(false),
            ));
            let other = words.clone();
            let writer = thread::spawn(move || {
                let (first, content, behind, broken) = &*other;
                content.with_mut(|content| {
                    // SAFETY: not committed yet.
                    unsafe { *content = 42 };
                });
                assert!(p::commit(first, Some(behind), 9, broken));
            });
            let (first, content, _, _) = &*words;
            if first.load(Acquire) == 9 {
                content.with(|content| {
                    // SAFETY: committed.
                    assert_eq!(unsafe { *content }, 42);
                });
            }
            writer.join().unwrap();
        });
    }};
}

macro_rules! chunks {
    ($protocol:path) => {{
        use $protocol as p;
        explore(|| {
            let next = Arc::new(AtomicU64::new(64));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let next = next.clone();
                    thread::spawn(move || p::take_chunk(&next, 64, 256))
                })
                .collect();
            let mut all: Vec<u64> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
            all.extend(p::take_chunk(&next, 64, 256));
            all.extend(p::take_chunk(&next, 64, 256));
            all.sort_unstable();
            assert_eq!(all, [64, 128, 192], "two have the same chunk");
        });
    }};
}

#[test]
fn blocks_are_never_shared() {
    blocks!(crate::protocol::free_list);
}

#[test]
#[should_panic]
fn without_the_tag_two_have_a_block() {
    blocks!(crate::mutants::untagged::free_list);
}

#[test]
#[should_panic]
fn a_block_given_without_an_order_is_not_seen_as_it_was_given() {
    blocks!(crate::mutants::given_unordered::free_list);
}

#[test]
fn fresh_numbers_are_never_shared() {
    fresh!(crate::protocol::free_list);
}

#[test]
#[should_panic]
fn numbers_carved_by_two_stores_are() {
    fresh!(crate::mutants::torn_carve::free_list);
}

#[test]
fn places_are_found_while_the_table_grows() {
    table!(crate::protocol::address_table);
}

#[test]
#[should_panic]
fn a_place_published_without_an_order_is_not_whole() {
    table!(crate::mutants::entry_unordered::address_table);
}

#[test]
#[should_panic]
fn a_table_published_without_an_order_is_not_whole() {
    table!(crate::mutants::table_unordered::address_table);
}

#[test]
#[should_panic(expected = "a place was not found")]
fn a_table_published_before_it_is_filled_loses_places() {
    table!(crate::mutants::table_published_early::address_table);
}

#[test]
#[should_panic(expected = "a place was not found")]
fn a_place_without_its_tag_is_lost() {
    table!(crate::mutants::tag_forgotten::address_table);
}

#[test]
#[should_panic(expected = "the place of another")]
fn a_tag_alone_finds_the_place_of_another() {
    table!(crate::mutants::tag_believed::address_table);
}

#[test]
fn a_record_that_is_there_is_whole() {
    records!(crate::protocol::record);
}

#[test]
#[should_panic]
fn a_record_committed_without_an_order_is_not() {
    records!(crate::mutants::record_unordered::record);
}

#[test]
fn chunks_are_never_shared() {
    chunks!(crate::protocol::record);
}

#[test]
#[should_panic(expected = "two have the same chunk")]
fn a_chunk_taken_in_two_steps_is() {
    chunks!(crate::mutants::chunk_for_two::record);
}
