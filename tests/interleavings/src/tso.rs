//! Processors with store buffers. [`explore`] runs threads again and again, each time in another order: at
//! each access the scheduler may go on with another thread, or write the oldest store of any buffer to
//! memory. Every order with at most so many of such turns is tried.
//!
//! A load sees the newest store of its own buffer, or else memory. A locked instruction and a full fence drain
//! the buffer of their thread first. [`membarrier`] drains all. (Intel SDM 3A 8.2; membarrier(2):
//! each running thread passes a full fence.) What the compiler may swap is not modelled.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

type Address = usize;

#[derive(Default)]
struct State {
    memory: HashMap<Address, u64>,
    buffers: Vec<VecDeque<(Address, u64)>>,
    /// The thread that may run now.
    turn: usize,
    done: Vec<bool>,
    /// Waits for memory to change; holds the number of changes it has seen.
    waiting: Vec<Option<u64>>,
    changes: u64,
    /// The choices to make, and how many there were at each.
    path: Vec<(usize, usize)>,
    step: usize,
    /// Turns that may still be taken.
    left: usize,
    failed: Option<String>,
}

struct World {
    state: Mutex<State>,
    turned: Condvar,
}

thread_local! {
    static ME: Cell<Option<(usize, &'static World)>> = const { Cell::new(None) };
}

fn me() -> (usize, &'static World) {
    ME.get().expect("a thread of the model")
}

impl State {
    /// Writes the oldest store of a thread's buffer to memory.
    fn write_back(&mut self, thread: usize) {
        if let Some((address, value)) = self.buffers[thread].pop_front() {
            self.memory.insert(address, value);
            self.changes += 1;
        }
    }

    fn drain(&mut self, thread: usize) {
        while !self.buffers[thread].is_empty() {
            self.write_back(thread);
        }
    }

    fn can_run(&self, thread: usize) -> bool {
        !self.done[thread] && self.waiting[thread].is_none_or(|seen| seen != self.changes)
    }

    /// One of `count` choices; the first costs nothing.
    fn choose(&mut self, count: usize) -> usize {
        let count = if self.left == 0 { 1 } else { count };
        if self.step == self.path.len() {
            self.path.push((0, count));
        }
        let (chosen, _) = self.path[self.step];
        self.step += 1;
        self.left -= usize::from(chosen != 0);
        chosen
    }

    /// Decides who runs next, with stores written back in between.
    fn schedule(&mut self, current: usize) {
        loop {
            let threads = self.done.len();
            let mut options: Vec<(bool, usize)> = Vec::new();
            // To go on comes first, then the others, then write-backs.
            options.extend(
                (0..threads).map(|i| (current + i) % threads).filter(|t| self.can_run(*t)).map(|t| (true, t)),
            );
            let nobody = options.is_empty();
            options.extend((0..threads).filter(|t| !self.buffers[*t].is_empty()).map(|t| (false, t)));
            if options.is_empty() {
                if self.done.iter().all(|done| *done) {
                    return;
                }
                self.failed = Some("every thread waits".into());
                self.waiting.iter_mut().for_each(|waiting| *waiting = None);
                return;
            }
            // Where all wait, a store that comes to memory is no turn of anybody's.
            let chosen = if nobody { 0 } else { self.choose(options.len()) };
            match options[chosen] {
                (true, thread) => {
                    self.turn = thread;
                    self.waiting[thread] = None;
                    return;
                }
                (false, thread) => self.write_back(thread),
            }
        }
    }
}

/// Makes an access, at a moment the scheduler chooses.
fn access<R>(work: impl FnOnce(&mut State, usize) -> R) -> R {
    let (me, world) = me();
    let mut state = world.state.lock().expect("no thread panics inside");
    state.schedule(me);
    state = wait_for_turn(world, state, me);
    work(&mut state, me)
}

fn wait_for_turn(
    world: &'static World,
    state: MutexGuard<'static, State>,
    me: usize,
) -> MutexGuard<'static, State> {
    world.turned.notify_all();
    world
        .turned
        .wait_while(state, |state| state.turn != me && state.failed.is_none())
        .expect("no thread panics inside")
}

/// Every store of every thread comes to memory.
pub fn membarrier() {
    access(|state, _| (0..state.buffers.len()).for_each(|thread| state.drain(thread)));
}

/// Lets the others go on until something changes.
pub fn yield_now() {
    let (me, world) = me();
    let mut state = world.state.lock().expect("no thread panics inside");
    // A thread that waits has time: its own stores come to memory.
    state.drain(me);
    state.waiting[me] = Some(state.changes);
    state.schedule(me);
    drop(wait_for_turn(world, state, me));
}

/// Runs the threads that `threads` makes in every order with at most `turns` turns; how many orders.
/// `after` looks at what is left.
///
/// # Panics
/// Where a thread does, or `after`, with the order it happened in.
pub fn explore<T: Send + Sync + 'static>(
    turns: usize,
    shared: impl Fn() -> T,
    threads: &[fn(&T)],
    after: impl Fn(&T),
) -> u64 {
    let mut path: Vec<(usize, usize)> = Vec::new();
    let mut orders = 0;
    loop {
        let count = threads.len();
        let world: &'static World = Box::leak(Box::new(World {
            state: Mutex::new(State {
                buffers: vec![VecDeque::new(); count],
                done: vec![false; count],
                waiting: vec![None; count],
                path: std::mem::take(&mut path),
                left: turns,
                ..State::default()
            }),
            turned: Condvar::new(),
        }));
        let shared = Arc::new(shared());
        let running: Vec<_> = (0..count)
            .map(|number| {
                let (shared, body) = (shared.clone(), threads[number]);
                std::thread::spawn(move || {
                    ME.set(Some((number, world)));
                    let state = world.state.lock().expect("no thread panics inside");
                    drop(
                        world
                            .turned
                            .wait_while(state, |s| s.turn != number && s.failed.is_none())
                            .expect("as above"),
                    );
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&shared)));
                    let mut state = world.state.lock().expect("no thread panics inside");
                    if let Err(panic) = result {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text =
                            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        state.failed.get_or_insert(text.unwrap_or_default());
                    }
                    state.done[number] = true;
                    state.schedule(number);
                    world.turned.notify_all();
                })
            })
            .collect();
        running.into_iter().for_each(|thread| thread.join().expect("caught"));
        orders += 1;
        let mut state = world.state.lock().expect("no thread panics inside");
        (0..count).for_each(|thread| state.drain(thread));
        path = std::mem::take(&mut state.path);
        path.truncate(state.step);
        let failed = state.failed.take();
        drop(state);
        assert!(failed.is_none(), "{} (order {orders}: {path:?})", failed.unwrap_or_default());
        // What is left in memory is read as by a thread of the model.
        ME.set(Some((0, world)));
        let mut state = world.state.lock().expect("no thread panics inside");
        (state.done, state.left, state.turn, state.step) = (vec![false; count], 0, 0, 0);
        drop(state);
        after(&shared);
        ME.set(None);
        // The next order: the last choice that has another.
        while let Some((chosen, count)) = path.pop() {
            if chosen + 1 < count {
                path.push((chosen + 1, count));
                break;
            }
        }
        if path.is_empty() {
            return orders;
        }
    }
}

/// In the place of `std::sync::atomic`.
pub mod atomic {
    use super::{Address, State, access};
    use std::marker::PhantomData;
    pub use std::sync::atomic::Ordering;

    /// A word of memory.
    struct Word {
        /// Makes its address one of its own.
        first: u64,
    }

    impl Word {
        fn address(&self) -> Address {
            std::ptr::from_ref(self) as Address
        }

        fn seen(&self, state: &State, me: usize) -> u64 {
            let own = state.buffers[me].iter().rev().find(|(address, _)| *address == self.address());
            own.map(|(_, value)| *value)
                .or_else(|| state.memory.get(&self.address()).copied())
                .unwrap_or(self.first)
        }

        fn load(&self) -> u64 {
            access(|state, me| self.seen(state, me))
        }

        fn store(&self, value: u64, order: Ordering) {
            access(|state, me| {
                state.buffers[me].push_back((self.address(), value));
                // xchg.
                if order == Ordering::SeqCst {
                    state.drain(me);
                }
            });
        }

        /// A locked instruction; the value before.
        fn change(&self, change: impl FnOnce(u64) -> Option<u64>) -> u64 {
            access(|state, me| {
                state.drain(me);
                let old = self.seen(state, me);
                if let Some(new) = change(old) {
                    state.memory.insert(self.address(), new);
                    state.changes += 1;
                }
                old
            })
        }
    }

    /// A full fence.
    pub fn fence(order: Ordering) {
        if order == Ordering::SeqCst {
            access(|state, me| state.drain(me));
        }
    }

    macro_rules! integer {
        ($name:ident, $value:ty) => {
            /// As in `std`.
            pub struct $name(Word);

            impl Default for $name {
                fn default() -> Self {
                    Self::new(0)
                }
            }

            #[allow(missing_docs)]
            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(Word { first: value as u64 })
                }

                pub fn load(&self, _: Ordering) -> $value {
                    self.0.load() as $value
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    self.0.store(value as u64, order);
                }

                pub fn fetch_add(&self, n: $value, _: Ordering) -> $value {
                    self.0.change(|old| Some((old as $value).wrapping_add(n) as u64)) as $value
                }

                pub fn fetch_sub(&self, n: $value, _: Ordering) -> $value {
                    self.0.change(|old| Some((old as $value).wrapping_sub(n) as u64)) as $value
                }

                pub fn fetch_min(&self, n: $value, _: Ordering) -> $value {
                    self.0.change(|old| Some((old as $value).min(n) as u64)) as $value
                }

                pub fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    _: Ordering,
                    _: Ordering,
                ) -> Result<$value, $value> {
                    let old = self.0.change(|old| (old as $value == from).then_some(to as u64)) as $value;
                    if old == from { Ok(old) } else { Err(old) }
                }

                pub fn compare_exchange_weak(
                    &self,
                    from: $value,
                    to: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(from, to, success, failure)
                }
            }
        };
    }

    integer!(AtomicU32, u32);
    integer!(AtomicU64, u64);
    integer!(AtomicUsize, usize);

    /// As in `std`.
    pub struct AtomicBool(Word);

    #[allow(missing_docs)]
    impl AtomicBool {
        pub fn new(value: bool) -> Self {
            Self(Word { first: value.into() })
        }

        pub fn load(&self, _: Ordering) -> bool {
            self.0.load() != 0
        }

        pub fn store(&self, value: bool, order: Ordering) {
            self.0.store(value.into(), order);
        }
    }

    /// As in `std`.
    pub struct AtomicPtr<T>(Word, PhantomData<*mut T>);

    // SAFETY: a word like the others; what it points at is the user's affair.
    unsafe impl<T> Sync for AtomicPtr<T> {}
    // SAFETY: as above.
    unsafe impl<T> Send for AtomicPtr<T> {}

    impl<T> Default for AtomicPtr<T> {
        fn default() -> Self {
            Self::new(std::ptr::null_mut())
        }
    }

    #[allow(missing_docs)]
    impl<T> AtomicPtr<T> {
        pub fn new(value: *mut T) -> Self {
            Self(Word { first: value as u64 }, PhantomData)
        }

        pub fn load(&self, _: Ordering) -> *mut T {
            self.0.load() as *mut T
        }

        pub fn store(&self, value: *mut T, order: Ordering) {
            self.0.store(value as u64, order);
        }

        pub fn swap(&self, value: *mut T, _: Ordering) -> *mut T {
            self.0.change(|_| Some(value as u64)) as *mut T
        }
    }
}
