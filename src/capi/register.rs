//! register, unregister, enable, disable.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Refusal;
use crate::hit::c_structs::CUprobe;
use crate::place::{ObjectPattern, Place, SymbolPattern, Target};
use crate::probe::{Maker, Registry, lock, wait_until_idle};
use crate::runtime::start;

/// An error as the caller gets it.
type Errno = i32;

fn guard(work: impl FnOnce() -> Result<(), Errno>) -> libc::c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(errno)) => errno,
        Err(_) => -libc::EFAULT,
    }
}

fn locked<R>(work: impl FnOnce(&mut Registry) -> R) -> Result<R, Errno> {
    lock::with(work).map_err(|busy| match busy {
        lock::Busy::HeldByCaller | lock::Busy::Timeout => -libc::EBUSY,
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
    guard(|| unsafe { register_all(&[up]) })
}

/// Registers all, or none.
///
/// # Safety
/// As [`register_uprobe`], for each of the `n` pointers at `ups`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_uprobes(ups: *mut *mut CUprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { register_all(slice(ups, n)?) })
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

unsafe fn slice<'a>(ups: *mut *mut CUprobe, n: libc::c_int) -> Result<&'a [*mut CUprobe], Errno> {
    if ups.is_null() || n <= 0 {
        return Err(-libc::EINVAL);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(ups, n as usize) })
}

unsafe fn register_all(ups: &[*mut CUprobe]) -> Result<(), Errno> {
    let mut wanted = Vec::with_capacity(ups.len());
    for (index, up) in ups.iter().enumerate() {
        if up.is_null() || ups[..index].contains(up) {
            return Err(-libc::EINVAL);
        }
        // SAFETY: the caller's promise.
        wanted.push(unsafe { describe(&**up) }?);
    }
    start::engine()?;
    let (result, stale) = locked(|registry| {
        if ups.iter().any(|up| registry.find_struct(*up).is_some()) {
            return (Err(-libc::EINVAL), Vec::new());
        }
        let mut requests = Vec::new();
        for (up, wanted) in ups.iter().zip(wanted) {
            match wanted.place(registry) {
                Ok(place) => {
                    let name = wanted.name();
                    requests.push((place, name.clone(), name, Maker::Api(*up)));
                }
                Err(refusal) => return (Err(refusal.errno()), Vec::new()),
            }
        }
        for up in ups {
            // SAFETY: the caller's promise; out-fields.
            unsafe {
                (**up).nhit.store(0, std::sync::atomic::Ordering::Relaxed);
                (**up).nmissed.store(0, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let numbers = registry.register(requests);
        let failed = numbers.iter().find_map(|number| refusal_of(registry, *number));
        match failed {
            None => (Ok(()), Vec::new()),
            Some(errno) => {
                let stale = numbers.iter().flat_map(|number| registry.unregister(*number)).collect();
                (Err(errno), stale)
            }
        }
    })?;
    retire(&stale)?;
    result
}

/// Why a request has no place, unless its object exists and only isn't loaded yet.
fn refusal_of(registry: &Registry, number: usize) -> Option<Errno> {
    let request = registry.requests[number].as_ref()?;
    let instances: Vec<_> =
        request.instances.iter().filter_map(|i| registry.instances[*i].as_ref()).collect();
    if let Some(refusal) = instances.iter().find_map(|instance| instance.refusal.as_ref()) {
        return Some(refusal.errno());
    }
    match instances.len() {
        1 => None,
        0 => {
            let waits = can_be_loaded(registry, &request.place.object);
            match &request.refusal {
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
    for consumer in consumers {
        wait_until_idle(*consumer);
    }
    locked(|registry| registry.free(consumers))
}

unsafe fn unregister_all(ups: &[*mut CUprobe]) -> Result<(), Errno> {
    if ups.iter().any(|up| up.is_null()) {
        return Err(-libc::EINVAL);
    }
    let consumers = locked(|registry| {
        let mut numbers = Vec::new();
        for up in ups {
            numbers.push(registry.find_struct(*up).ok_or(-libc::EINVAL)?);
        }
        numbers.dedup();
        Ok::<_, Errno>(numbers.iter().flat_map(|number| registry.unregister(*number)).collect::<Vec<_>>())
    })??;
    retire(&consumers)
}

fn switch(up: *mut CUprobe, on: bool) -> Result<(), Errno> {
    if up.is_null() {
        return Err(-libc::EINVAL);
    }
    let consumers = locked(|registry| {
        let number = registry.find_struct(up).ok_or(-libc::EINVAL)?;
        registry.enable(number, on);
        Ok::<_, Errno>(registry.consumers_of(number))
    })??;
    if !on {
        for consumer in consumers {
            wait_until_idle(consumer);
        }
    }
    Ok(())
}

/// Where a struct wants to be.
enum Wanted {
    Address(u64),
    Place(Place, String),
}

impl Wanted {
    fn name(&self) -> String {
        match self {
            Self::Address(at) => format!("{at:#x}"),
            Self::Place(_, name) => name.clone(),
        }
    }

    /// An address is a file offset in the object that contains it.
    fn place(&self, registry: &mut Registry) -> Result<Place, Refusal> {
        match self {
            Self::Place(place, _) => Ok(place.clone()),
            Self::Address(at) => registry.place_of(*at),
        }
    }
}

/// Reads the struct's first fields.
unsafe fn describe(up: &CUprobe) -> Result<Wanted, Errno> {
    // SAFETY: null or terminated strings, as the header says.
    let text = |pointer: *const libc::c_char| unsafe {
        (!pointer.is_null()).then(|| CStr::from_ptr(pointer).to_str().map(str::to_owned))
    };
    let pathname = text(up.pathname).transpose().map_err(|_| -libc::EINVAL)?;
    let symbol = text(up.symbol_name).transpose().map_err(|_| -libc::EINVAL)?;
    if symbol.is_none() && pathname.is_none() && !up.addr.is_null() {
        return Ok(Wanted::Address(up.addr as u64));
    }
    if symbol.as_deref() == Some("") || pathname.as_deref() == Some("") {
        return Err(-libc::EINVAL);
    }
    let object_text = pathname.clone().unwrap_or_else(|| "exe".to_owned());
    let object = match pathname {
        None => ObjectPattern::Exe,
        Some(path) if path.contains('/') => ObjectPattern::Path(path),
        Some(name) if name == "exe" => ObjectPattern::Exe,
        Some(name) => ObjectPattern::Name(name),
    };
    let (target, tail) = match symbol {
        Some(name) => {
            let tail = if up.offset == 0 { name.clone() } else { format!("{name}+{:#x}", up.offset) };
            (Target::Symbol { pattern: SymbolPattern::Exact(name), offset: up.offset }, tail)
        }
        None => (Target::FileOffset(up.offset), format!("{:#x}", up.offset)),
    };
    Ok(Wanted::Place(Place { object, target }, format!("{object_text}:{tail}")))
}
