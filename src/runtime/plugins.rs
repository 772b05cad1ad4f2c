//! Shared objects named by `call(PLUGIN.so:FUNCTION)`: loaded at start, before the first probe.

use std::ffi::CString;

use crate::error::Refusal;
use crate::hit::c_structs::PreHandler;

/// Loads the object and finds the function. Not with the registry's lock held: dlopen takes the
/// linker's, which a thread in the linker's hook holds while it waits for ours.
///
/// # Errors
/// [`Refusal::BadPlugin`] with what the linker says.
pub fn load(plugin: &str, function: &str) -> Result<PreHandler, Refusal> {
    let bad = |why: String| Refusal::BadPlugin { why };
    let object = CString::new(plugin).map_err(|_| bad(format!("'{plugin}' is no file name")))?;
    let name = CString::new(function).map_err(|_| bad(format!("'{function}' is no function name")))?;
    // SAFETY: loading runs the plugin's constructors, which the user asked for.
    let handle = unsafe { libc::dlopen(object.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(bad(format!("plugin '{plugin}' can't be loaded: {}", last_error())));
    }
    // SAFETY: a lookup by name in an open object.
    let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
    if found.is_null() {
        return Err(bad(format!("plugin '{plugin}' has no function '{function}'")));
    }
    // SAFETY: the plugin promises `int NAME(struct uprobe *, struct uprobe_regs *)` (uprobe.h).
    Ok(unsafe { std::mem::transmute::<*mut libc::c_void, PreHandler>(found) })
}

fn last_error() -> String {
    // SAFETY: dlerror returns a string of this thread's, or null.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: as above: terminated, valid until the next call.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
