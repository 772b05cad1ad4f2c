//! Preloaded into the target program: hooks BENCH_FUNCTION by the crate that BENCH_PEER names, and counts.

use std::ffi::{CString, c_int, c_void};
use std::sync::OnceLock;

/// Read by the target program. One thread calls: plain additions, the cheapest there are.
#[unsafe(no_mangle)]
static mut bench_peer_count: u64 = 0;

fn count() {
    // SAFETY: one thread only.
    unsafe { bench_peer_count += 1 };
}

unsafe extern "win64" fn on_ilhook(_registers: *mut ilhook::x64::Registers, _data: usize) {
    count();
}

extern "C" fn on_sighook(_address: u64, _context: *mut sighook::HookContext) {
    count();
}

type Work = extern "C" fn(c_int, c_int, *mut c_void) -> c_int;
static ORIGINAL: OnceLock<Work> = OnceLock::new();

extern "C" fn replacement(a: c_int, b: c_int, c: *mut c_void) -> c_int {
    count();
    ORIGINAL.get().map_or(0, |original| original(a, b, c))
}

fn hook(peer: &str, address: usize) {
    // SAFETY: before main, in the only thread; hooks stay for ever.
    unsafe {
        match peer {
            "ilhook" => {
                use ilhook::x64::{CallbackOption, HookFlags, HookType, Hooker};
                let how = HookType::JmpBack(on_ilhook);
                let hooker = Hooker::new(address, how, CallbackOption::None, 0, HookFlags::empty());
                std::mem::forget(hooker.hook().expect("ilhook"));
            }
            "retour" => {
                let detour =
                    retour::RawDetour::new(address as *const (), replacement as *const ()).expect("retour");
                let original =
                    std::mem::transmute::<*const (), Work>(std::ptr::from_ref(detour.trampoline()));
                let _ = ORIGINAL.set(original);
                detour.enable().expect("retour");
                std::mem::forget(detour);
            }
            "sighook" => {
                sighook::instrument(address as u64, on_sighook).expect("sighook");
            }
            other => panic!("no such peer: {other}"),
        }
    }
}

extern "C" fn start() {
    let (Ok(peer), Ok(function)) = (std::env::var("BENCH_PEER"), std::env::var("BENCH_FUNCTION")) else {
        return;
    };
    let function = CString::new(function).expect("a name");
    // SAFETY: a name.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, function.as_ptr()) };
    if !address.is_null() {
        hook(&peer, address as usize);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;
