//! What a consumer has besides, by one word: nothing, a label, or all that those need who count.

use crate::hit::consumer::{Consumer, Mark, More};
use crate::place::Label;

/// One of them, owned; its consumer knows which. Where it is a [`More`], or nothing, the word is its address, or
/// null: compiled code reads it.
#[repr(C)]
pub(super) union Behind {
    word: *mut (),
    more: *mut More,
    label: std::mem::ManuallyDrop<Label>,
}
const _: () = assert!(size_of::<Behind>() == size_of::<usize>());

impl Behind {
    pub(super) const NOTHING: Self = Self { word: std::ptr::null_mut() };
}

impl Consumer {
    /// What it counts, and what else others need. Signal-safe.
    #[inline]
    #[must_use]
    pub fn more(&self) -> Option<&More> {
        if self.has(Mark::HasLabel) {
            return None;
        }
        // SAFETY: null, or from a box of ours.
        unsafe { self.behind.more.as_ref() }
    }

    /// Where it is, for messages: of one of the C API. Signal-safe.
    #[must_use]
    pub fn label(&self) -> Option<&Label> {
        if !self.has(Mark::HasLabel) {
            return self.more()?.label.as_ref();
        }
        // SAFETY: the flag says so.
        Some(unsafe { &self.behind.label })
    }

    /// Gives it all that; it had nothing, or a label. Before it is published.
    pub fn set_more(&mut self, mut more: Box<More>) {
        if self.has(Mark::HasLabel) {
            self.mark(Mark::HasLabel, false);
            // SAFETY: the flag said so, and does so no more.
            let label = unsafe { std::mem::ManuallyDrop::take(&mut self.behind.label) };
            more.special.get_or_insert_default().label = Some(label);
        }
        self.behind = Behind { more: Box::into_raw(more) };
    }

    /// Gives it a label; it had nothing. Before it is published.
    pub fn set_label(&mut self, label: Label) {
        self.behind = Behind { label: std::mem::ManuallyDrop::new(label) };
        self.mark(Mark::HasLabel, true);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: ours, and as the flag says.
        unsafe {
            if self.has(Mark::HasLabel) {
                std::mem::ManuallyDrop::drop(&mut self.behind.label);
            } else if !self.behind.word.is_null() {
                drop(Box::from_raw(self.behind.more));
            }
        }
    }
}
