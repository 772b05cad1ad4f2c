//! Panics leave the frames of functions whose returns are followed: `panics SCENARIO`.
//! Each scenario prints what was caught, how many values were dropped on the way, and what became of
//! every call: `calls FUNCTION HITS RETURNS UNWOUND IN_FLIGHT`.

use std::any::Any;
use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

static MADE: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Kept;

impl Kept {
    fn new() -> Self {
        MADE.fetch_add(1, Relaxed);
        Self
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}

#[inline(never)]
fn thrower(n: u32) -> u32 {
    black_box(n);
    if n > 0 {
        panic::panic_any(n);
    }
    n
}

/// `depth` frames above `thrower`, with a value in each.
#[inline(never)]
fn nest(depth: u32, n: u32) -> u32 {
    let kept = Kept::new();
    let sum = if depth > 1 { nest(depth - 1, n) } else { thrower(n) };
    black_box(&kept);
    sum + 1
}

/// Catches, and returns what was thrown.
#[inline(never)]
fn recover(n: u32) -> u32 {
    match panic::catch_unwind(|| thrower(black_box(n))) {
        Ok(value) => value,
        Err(payload) => number(&*payload),
    }
}

/// Catches, and panics with the same again.
#[inline(never)]
fn again(depth: u32, n: u32) -> u32 {
    let caught = panic::catch_unwind(|| if depth > 1 { again(depth - 1, n) } else { thrower(n) });
    match caught {
        Ok(value) => black_box(value) + 1,
        Err(payload) => {
            DROPPED.fetch_add(1, Relaxed);
            panic::resume_unwind(payload)
        }
    }
}

/// The last one called, from main, below whose frame nothing is left.
#[inline(never)]
fn settle() {
    black_box(());
}

fn number(payload: &(dyn Any + Send)) -> u32 {
    *payload.downcast_ref().expect("panics are numbers here")
}

fn caught(depth: u32, n: u32) -> u32 {
    match panic::catch_unwind(AssertUnwindSafe(|| nest(depth, n))) {
        Ok(value) => value,
        Err(payload) => 1000 + number(&*payload),
    }
}

fn calls(function: &str, hits: u64, returns: u64) {
    println!("calls panics::{function} {hits} {returns} {} 0", hits - returns);
}

fn catch() {
    for depth in [1, 2, 100] {
        println!("{} {}", caught(depth, 7), caught(depth, 0));
    }
    calls("nest", 206, 103);
    calls("thrower", 6, 3);
}

fn direct() {
    let sum: u32 = (0..10).map(|i| recover(i % 2)).sum();
    println!("{sum}");
    calls("recover", 10, 10);
    calls("thrower", 10, 5);
}

fn resume() {
    let payload = panic::catch_unwind(|| again(20, 3)).expect_err("it panics");
    println!("{}", number(&*payload));
    let payload = panic::catch_unwind(AssertUnwindSafe(|| panic::resume_unwind(payload)));
    let payload = payload.map(|_: ()| ()).expect_err("it panics");
    println!("{}", number(&*payload));
    calls("again", 20, 0);
    calls("thrower", 1, 0);
}

fn join() {
    let thread = thread::spawn(|| nest(50, 8));
    println!("{}", number(&*thread.join().expect_err("it panics")));
    let thread = thread::spawn(|| nest(50, 0));
    println!("{}", thread.join().expect("it returns"));
    calls("nest", 100, 50);
    calls("thrower", 2, 1);
}

fn loops() {
    let sum: u32 = (0..3000).map(|i| caught(1 + i % 3, i % 5 + 1)).sum();
    println!("{sum}");
    calls("nest", 6000, 0);
    calls("thrower", 3000, 0);
}

fn threads() {
    let sum: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|t| scope.spawn(move || (0..500).map(|i| caught(5, i % 2) + recover(t)).sum::<u32>()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it returns")).sum()
    });
    println!("{sum}");
    calls("nest", 4 * 500 * 5, 4 * 250 * 5);
    calls("thrower", 4 * 1000, 500 + 1000);
    calls("recover", 2000, 2000);
}

/// With the message of the default hook, which walks the stack where RUST_BACKTRACE says so.
fn message() {
    let _ = panic::take_hook();
    let payload = panic::catch_unwind(|| again(3, 3)).expect_err("it panics");
    println!("{}", number(&*payload));
    calls("again", 3, 0);
    calls("thrower", 1, 0);
}

const SCENARIOS: [(&str, fn()); 7] = [
    ("catch", catch),
    ("direct", direct),
    ("resume", resume),
    ("join", join),
    ("loops", loops),
    ("threads", threads),
    ("message", message),
];

fn main() {
    panic::set_hook(Box::new(|_| ()));
    let wanted = std::env::args().nth(1);
    for (name, run) in SCENARIOS {
        match &wanted {
            None => println!("{name}"),
            Some(wanted) if wanted == name => run(),
            Some(_) => (),
        }
    }
    if wanted.is_some() {
        println!("made and dropped {} {}", MADE.load(Relaxed), DROPPED.load(Relaxed));
        settle();
        calls("settle", 1, 1);
    }
}
