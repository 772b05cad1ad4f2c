//! Calls of the program's handlers in the kernel's place.

use std::sync::atomic::Ordering::*;

use super::call_handler;
use crate::hit::asm;
use crate::hit::frame::{SignalContext, SignalInfo};
use crate::hit::thread::{PROTECTED_MASK, ThreadState};
use crate::sys;

/// A call of a handler of the program's in the kernel's place.
pub struct HandlerCall {
    /// The handler.
    pub handler: usize,
    /// It asked for the alternate stack (and gets it, where there is one that is not in use).
    pub on_alternate: bool,
    /// The mask in force while it runs, as the program sees it.
    pub during: u64,
}

impl HandlerCall {
    /// Makes it; the mask that the handler left in the frame, as the program sees it. The frame keeps
    /// what of it the kernel may know. May be left by longjmp.
    ///
    /// # Safety
    /// `info` and `context` are the signal's, whose handler may run now.
    pub unsafe fn make(
        &self,
        signal: i32,
        info: *mut SignalInfo,
        context: *mut SignalContext,
        thread: Option<&'static ThreadState>,
    ) -> u64 {
        // SAFETY: the caller's promise.
        let mask = unsafe { &raw mut (*context).mask };
        // SAFETY: the frame's mask, which the thread goes on with; the program sees what it believes.
        unsafe { *mask = *mask & !PROTECTED_MASK | thread.map_or(0, |thread| thread.blocked.load(Relaxed)) };
        if let Some(thread) = thread {
            thread.end_wait();
            thread.set_mask(self.during);
        }
        sys::set_signal_mask(self.during & !PROTECTED_MASK);
        let alternate = if self.on_alternate { usable_alternate_stack() } else { None };
        // SAFETY: the program's own handler, with the kernel's arguments.
        unsafe {
            match alternate {
                Some(stack) => {
                    let disarmed = stack.ss_flags & SS_AUTODISARM != 0;
                    if disarmed {
                        sys::set_alternate_stack(&libc::stack_t { ss_flags: libc::SS_DISABLE, ..stack });
                    }
                    asm::uprobe_call_on_stack(
                        stack.ss_sp as usize + stack.ss_size,
                        self.handler,
                        signal as usize,
                        info as usize,
                        context as usize,
                    );
                    if disarmed {
                        sys::set_alternate_stack(&stack);
                    }
                }
                None => call_handler(self.handler, signal, info, context),
            }
        }
        // SAFETY: as above: what the handler left in the frame is what the thread goes on with.
        let after = unsafe {
            let after = *mask;
            *mask = after & !PROTECTED_MASK;
            after
        };
        // Nothing of the program's runs between here and the return to it.
        sys::set_signal_mask(!PROTECTED_MASK);
        if let Some(thread) = thread {
            thread.set_mask(after);
        }
        after
    }
}

/// The kernel takes the alternate stack away while a handler runs on it (sigaltstack(2)).
const SS_AUTODISARM: i32 = 1 << 31;

/// The alternate stack, where there is one that is not in use.
fn usable_alternate_stack() -> Option<libc::stack_t> {
    let stack = sys::alternate_stack().ok()?;
    let usable = stack.ss_flags & (libc::SS_ONSTACK | libc::SS_DISABLE) == 0 && stack.ss_size > 0;
    usable.then_some(stack)
}
