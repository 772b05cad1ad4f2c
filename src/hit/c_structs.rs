//! The structs of `include/uprobe.h`, as C lays them out, and the types of its handlers.

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::regs::Regs;

/// `struct uprobe` of `include/uprobe.h`.
#[repr(C)]
#[allow(missing_docs)]
pub struct CUprobe {
    pub pathname: *const libc::c_char,
    pub symbol_name: *const libc::c_char,
    pub offset: u64,
    pub addr: *mut libc::c_void,
    pub pre_handler: Option<PreHandler>,
    pub post_handler: Option<PostHandler>,
    pub fault_handler: Option<FaultHandler>,
    pub data: *mut libc::c_void,
    pub nhit: AtomicU64,
    pub nmissed: AtomicU64,
    pub flags: AtomicU32,
    pub reserved0: u32,
    pub opaque: [*mut libc::c_void; 4],
}

/// UPROBE_FLAG_DISABLED.
pub const FLAG_DISABLED: u32 = 1;
/// UPROBE_FLAG_PENDING.
pub const FLAG_PENDING: u32 = 2;
/// UPROBE_FLAG_GONE.
pub const FLAG_GONE: u32 = 4;
/// UPROBE_FLAG_OPTIMIZED.
pub const FLAG_OPTIMIZED: u32 = 8;
/// UPROBE_FLAG_INT3.
pub const FLAG_INT3: u32 = 16;
/// UPROBE_FLAG_NOVEC.
pub const FLAG_NOVEC: u32 = 32;

/// UPROBE_FLAG_PERTHREAD.
pub const FLAG_PERTHREAD: u32 = 64;

/// `uprobe_pre_handler_t`.
pub type PreHandler = unsafe extern "C" fn(*mut CUprobe, *mut Regs) -> i32;
/// `uprobe_post_handler_t`.
pub type PostHandler = unsafe extern "C" fn(*mut CUprobe, *mut Regs, libc::c_ulong);
/// `uprobe_fault_handler_t`.
pub type FaultHandler = unsafe extern "C" fn(*mut CUprobe, *mut Regs, i32) -> i32;

/// `struct uretprobe_instance`: one followed call. `data_size` bytes of the user's follow it.
#[repr(C, align(16))]
#[allow(missing_docs)]
pub struct CUretprobeInstance {
    pub rp: *mut CUretprobe,
    /// The real return address.
    pub ret_addr: u64,
    /// Where on the stack it was: rsp at the function's entry.
    pub slot: u64,
    pub reserved: u64,
}

/// `uretprobe_handler_t`: of the call's entry and of its return.
pub type ReturnHandler = unsafe extern "C" fn(*mut CUretprobeInstance, *mut Regs) -> i32;

/// `struct uretprobe`. Begins with a `struct uprobe`, so that a pointer to it is a pointer to that.
#[repr(C)]
#[allow(missing_docs)]
pub struct CUretprobe {
    pub up: CUprobe,
    /// At the return; its result means nothing.
    pub handler: Option<ReturnHandler>,
    /// At the entry; not 0: don't follow this call.
    pub entry_handler: Option<ReturnHandler>,
    /// Most calls followed at once; 0 is no limit of its own.
    pub maxactive: i32,
    pub reserved0: u32,
    /// Bytes of the user's in each instance, at most [`MAX_INSTANCE_DATA`].
    pub data_size: usize,
    /// Calls not followed because no instance was left, or inside a handler.
    pub nmissed: AtomicU64,
    pub opaque: [*mut libc::c_void; 2],
}

/// Most bytes of [`CUretprobe::data_size`]: the kernel's KRETPROBE_MAX_DATA_SIZE.
pub const MAX_INSTANCE_DATA: usize = 4096;

/// `struct ujprobe`. Begins with a `struct uprobe`.
#[repr(C)]
#[allow(missing_docs)]
pub struct CUjprobe {
    pub up: CUprobe,
    /// A function with the probed function's own signature.
    pub entry: *mut libc::c_void,
    pub opaque: [*mut libc::c_void; 2],
}
