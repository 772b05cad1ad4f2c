//! register, unregister, enable, disable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::*;

use super::wanted::{Wanted, describe};
use crate::error::Refusal;
use crate::hit::c_structs::{CUjprobe, CUprobe, CUretprobe, MAX_INSTANCE_DATA};
use crate::place::ObjectPattern;
use crate::probe::{ApiProbe, Asked, Registry, lock, wait_until_idle};
use crate::runtime::start;
use crate::sys::FixedHashMap;

/// An error as the caller gets it.
pub(super) type Errno = i32;

/// Runs `work`; a panic of ours is an error too.
pub(super) fn guard(work: impl FnOnce() -> Result<(), Errno>) -> libc::c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(errno)) => errno,
        Err(_) => -libc::EFAULT,
    }
}

/// Runs `work` on the registry.
pub(super) fn locked<R>(work: impl FnOnce(&mut Registry) -> R) -> Result<R, Errno> {
    lock::with(work).map_err(|busy| match busy {
        lock::Busy::HeldByCaller | lock::Busy::Timeout => -libc::EBUSY,
        lock::Busy::NotStarted => -libc::EINVAL,
        lock::Busy::Unusable => -libc::ENOSYS,
        lock::Busy::Panicked => -libc::EFAULT,
    })
}

/// Registers one probe.
///
/// # Safety
/// `up` is null or points to a struct uprobe that stays unchanged while registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_uprobe(up: *mut CUprobe) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { register_all(&[ApiProbe::Handlers(up)]) })
}

/// Registers all, or none.
///
/// # Safety
/// As [`register_uprobe`], for each of the `n` pointers at `ups`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_uprobes(ups: *mut *mut CUprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let probes: Vec<_> = slice(ups, n)?.iter().map(|up| ApiProbe::Handlers(*up)).collect();
        register_all(&probes)
    })
}

/// Takes a probe out; when it returns, no handler of it runs or will run.
///
/// # Safety
/// `up` is null or points to a struct uprobe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unregister_uprobe(up: *mut CUprobe) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { unregister_all(&[up]) })
}

/// Takes several out.
///
/// # Safety
/// As [`unregister_uprobe`], for each of the `n` pointers at `ups`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unregister_uprobes(ups: *mut *mut CUprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { unregister_all(slice(ups, n)?) })
}

/// Switches a registered probe on.
///
/// # Safety
/// `up` is null or points to a struct uprobe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn enable_uprobe(up: *mut CUprobe) -> libc::c_int {
    guard(|| switch(up, true))
}

/// Switches it off; it stays registered.
///
/// # Safety
/// `up` is null or points to a struct uprobe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn disable_uprobe(up: *mut CUprobe) -> libc::c_int {
    guard(|| switch(up, false))
}

/// Writes `nhit` of a registered probe whose hits each thread counts for itself.
///
/// # Safety
/// `up` is null or points to a struct uprobe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uprobe_sync(up: *mut CUprobe) -> libc::c_int {
    guard(|| sync(up))
}

/// The pointers of an array argument.
///
/// # Safety
/// Null, or `n` pointers.
pub(super) unsafe fn slice<'a, T>(ups: *mut *mut T, n: libc::c_int) -> Result<&'a [*mut T], Errno> {
    if ups.is_null() || n <= 0 {
        return Err(-libc::EINVAL);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(ups, n as usize) })
}

/// Registers all or none.
///
/// # Safety
/// Each is null or points to a struct of its kind that stays unchanged while registered.
pub(super) unsafe fn register_all(probes: &[ApiProbe]) -> Result<(), Errno> {
    let mut wanted = Vec::with_capacity(probes.len());
    let mut ups = Vec::with_capacity(probes.len());
    let mut known = FixedHashMap::default();
    for probe in probes {
        let up =
            probe.up().filter(|up| !up.is_null() && known.insert(*up, ()).is_none()).ok_or(-libc::EINVAL)?;
        // SAFETY: the caller's promise.
        unsafe {
            check(*probe)?;
            wanted.push(describe(&*up)?);
        }
        ups.push(up);
    }
    start::engine()?;
    let (result, stale) = locked(|registry| {
        if registry.has_any_struct(&ups) {
            return (Err(-libc::EINVAL), Vec::new());
        }
        if wanted.iter().any(|wanted| matches!(wanted, Wanted::Address(_))) {
            registry.list_anew();
        }
        let mut requests = Vec::with_capacity(probes.len());
        for (probe, wanted) in probes.iter().zip(wanted) {
            match wanted.label(registry) {
                Ok(label) => requests.push(Asked::api(*probe, label)),
                Err(refusal) => return (Err(refusal.errno()), Vec::new()),
            }
        }
        for probe in probes {
            // SAFETY: the caller's promise.
            unsafe { zero_counts(*probe) };
        }
        let numbers = registry.register(requests);
        let failed = numbers.clone().find_map(|number| refusal_of(registry, number));
        match failed {
            None => (Ok(()), Vec::new()),
            Some(errno) => {
                let stale = registry.unregister_all(&numbers.collect::<Vec<_>>());
                (Err(errno), stale)
            }
        }
    })?;
    retire(&stale)?;
    result
}

/// What the header demands of the fields besides the place.
///
/// # Safety
/// It points to a struct of its kind.
unsafe fn check(probe: ApiProbe) -> Result<(), Errno> {
    let (up, is_complete) = match probe {
        ApiProbe::Handlers(_) | ApiProbe::Replace(_) => return Ok(()),
        ApiProbe::Return(up) => {
            // SAFETY: the caller's promise.
            let rp = unsafe { &*up.cast::<CUretprobe>() };
            if rp.data_size > MAX_INSTANCE_DATA {
                return Err(-libc::E2BIG);
            }
            (&rp.up, rp.handler.is_some() && rp.maxactive >= 0)
        }
        ApiProbe::Jump(up) => {
            // SAFETY: the caller's promise.
            let jp = unsafe { &*up.cast::<CUjprobe>() };
            (&jp.up, !jp.entry.is_null())
        }
    };
    let has_own_handlers = up.pre_handler.is_some() || up.post_handler.is_some();
    if is_complete && !has_own_handlers { Ok(()) } else { Err(-libc::EINVAL) }
}

/// The out-fields that count.
///
/// # Safety
/// It points to a struct of its kind.
unsafe fn zero_counts(probe: ApiProbe) {
    let Some(up) = probe.up() else { return };
    // SAFETY: the caller's promise.
    unsafe {
        (*up).nhit.store(0, Relaxed);
        (*up).nmissed.store(0, Relaxed);
    }
    if let ApiProbe::Return(up) = probe {
        // SAFETY: the caller's promise.
        unsafe { (*up.cast::<CUretprobe>()).nmissed.store(0, Relaxed) };
    }
}

/// Why a request has no place, unless its object exists and only isn't loaded yet.
fn refusal_of(registry: &Registry, number: usize) -> Option<Errno> {
    let request = registry.requests[number].as_ref()?;
    let instances: Vec<_> =
        request.instances().iter().filter_map(|i| registry.instances[*i as usize].as_ref()).collect();
    if let Some(refusal) = instances.iter().find_map(|instance| instance.refusal.as_ref()) {
        return Some(refusal.errno());
    }
    match instances.len() {
        1 => None,
        0 => {
            let waits = registry.place_of(number).is_some_and(|place| can_be_loaded(registry, &place.object));
            match request.refusal() {
                Some(Refusal::ObjectNotLoaded { .. }) if waits => None,
                Some(refusal) => Some(refusal.errno()),
                None => Some(-libc::ENOENT),
            }
        }
        _ => Some(-libc::EADDRNOTAVAIL),
    }
}

/// Whether an object that isn't loaded is a file that may be: its path, or its name in a folder where
/// the loader or the program has found others.
fn can_be_loaded(registry: &Registry, object: &ObjectPattern) -> bool {
    const FOLDERS: [&str; 6] =
        ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
    let exists =
        |path: String| std::ffi::CString::new(path).is_ok_and(|path| crate::sys::file_id(&path).is_ok());
    match object {
        ObjectPattern::Path(path) => exists(path.clone()),
        ObjectPattern::Name(name) => {
            let loaded = registry.modules.iter().filter_map(|module| module.path.parent()?.to_str());
            FOLDERS.into_iter().chain(loaded).any(|folder| exists(format!("{folder}/{name}")))
        }
        _ => false,
    }
}

fn retire(consumers: &[*const crate::hit::consumer::Consumer]) -> Result<(), Errno> {
    if consumers.is_empty() {
        return Ok(());
    }
    wait_until_idle(consumers);
    locked(|registry| {
        Registry::sync(consumers);
        registry.free(consumers);
    })
}

/// Takes them out and waits for their handlers. They may be structs of any kind.
///
/// # Safety
/// Each is null or points to a struct.
pub(super) unsafe fn unregister_all(ups: &[*mut CUprobe]) -> Result<(), Errno> {
    if ups.iter().any(|up| up.is_null()) {
        return Err(-libc::EINVAL);
    }
    let consumers = locked(|registry| {
        let mut numbers = Vec::new();
        for up in ups {
            numbers.push(registry.search_struct(*up).ok_or(-libc::EINVAL)?);
        }
        numbers.dedup();
        let consumers = registry.unregister_all(&numbers);
        registry.compact();
        Ok::<_, Errno>(consumers)
    })??;
    retire(&consumers)
}

fn switch(up: *mut CUprobe, on: bool) -> Result<(), Errno> {
    if up.is_null() {
        return Err(-libc::EINVAL);
    }
    let consumers = locked(|registry| {
        let number = registry.search_struct(up).ok_or(-libc::EINVAL)?;
        registry.enable(number, on);
        Ok::<_, Errno>(registry.consumers_of(number))
    })??;
    if !on {
        wait_until_idle(&consumers);
        // Unregistered meanwhile, it has been synced.
        let _ = sync(up);
    }
    Ok(())
}

fn sync(up: *mut CUprobe) -> Result<(), Errno> {
    if up.is_null() {
        return Err(-libc::EINVAL);
    }
    locked(|registry| {
        let number = registry.search_struct(up).ok_or(-libc::EINVAL)?;
        Registry::sync(&registry.consumers_of(number));
        Ok(())
    })?
}
