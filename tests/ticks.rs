//! Stamps for latencies against the clock they stand for.

use std::time::{Duration, Instant};

use uprobe::hit::ticks;
use uprobe::runtime::timebase;

/// The clock and the stamp of one moment: again, where the thread lost the processor between the two.
fn moment() -> (Instant, u64) {
    loop {
        let (clock, stamp) = (Instant::now(), ticks::ticks());
        if clock.elapsed() < Duration::from_millis(1) {
            return (clock, stamp);
        }
    }
}

/// A sleep lasts as long in ticks as by CLOCK_MONOTONIC (which is what `Instant` reads), and in threads on
/// whatever processor.
#[test]
fn ticks_agree_with_the_clock() {
    timebase::start();
    ticks::calibrate();
    let measure = || {
        let from = moment();
        std::thread::sleep(Duration::from_millis(200));
        let to = moment();
        ((to.0 - from.0).as_nanos() as u64, ticks::ticks_to_ns(to.1.wrapping_sub(from.1)))
    };
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(measure)).collect();
    let mut measured: Vec<(u64, u64)> =
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    measured.push(measure());
    for (clock, counted) in measured {
        let most = clock / 20;
        assert!(counted.abs_diff(clock) <= most, "{counted} ns by ticks, {clock} ns by the clock");
    }
    if let Some(drift) = ticks::drift() {
        assert!(drift.clock_ns > 200_000_000, "{drift:?}");
        assert!(drift.ppm() < 50_000, "{drift:?}");
    }
    println!("ticks are the time stamp counter: {}", ticks::drift().is_some());
}
