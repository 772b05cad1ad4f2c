//! What [`super::relocate()`] made: where each instruction is now, and what a rip there means.
//!
//! Fixed data: [`Relocated::map`] and the look-ups are for signal handlers too.

use super::relocate::MAX_RELOCATED;

/// Length in bytes of `push next(%rip)`.
pub(super) const PUSH_NEXT_LEN: usize = 6;
/// Length in bytes of `lea 8(%rsp),%rsp`.
const LEA_LEN: usize = 5;

/// An instruction and its copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InsnCopy {
    /// Where the original begins, in bytes from the first displaced one.
    pub original: u8,
    /// Length of the original in bytes.
    pub len: u8,
    /// Where the copy begins, in bytes from the first copy.
    pub new: u16,
    pub(super) form: Form,
}

/// The instructions of a copy, where it is more than one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Form {
    Single,
    /// jcc, inverted | jmp
    Branch,
    /// loop | jmp | jmp
    Loop,
    /// push | jmp
    Call,
    /// push | lea | push | jmp
    CallMemory {
        push_len: u8,
    },
    /// syscall | mov
    Syscall,
    /// int 0x80
    Blocking,
}

/// What a rip among the copies means for the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelocatedPc {
    /// The state is that of the program, with rip here.
    At(u64),
    /// The same, and rsp 8 higher: half of a call has been done. What it overwrote was dead.
    Pushed(u64),
    /// A syscall is done: rip is this, and so is rcx.
    Returned(u64),
    /// A branch is decided and under way: let it run on, at most two instructions.
    Branching,
}

/// Where each displaced instruction is now; at most `N` of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Relocated<const N: usize = MAX_RELOCATED> {
    at: u64,
    new_at: u64,
    next: u64,
    copies: [InsnCopy; N],
    count: u8,
    len: u16,
}

/// In place of one that is not there.
const NO_COPY: InsnCopy = InsnCopy { original: 0, len: 0, new: 0, form: Form::Single };

impl<const N: usize> Relocated<N> {
    /// The same with less room; `None` where there are more.
    #[must_use]
    pub fn narrow<const M: usize>(&self) -> Option<Relocated<M>> {
        let mut copies = [NO_COPY; M];
        copies.get_mut(..usize::from(self.count))?.copy_from_slice(self.copies());
        let Self { at, new_at, next, count, len, .. } = *self;
        Some(Relocated { at, new_at, next, copies, count, len })
    }

    /// The same instructions from another place to another; far branches and such are in the code, not here.
    #[must_use]
    pub const fn at_other(&self, at: u64, new_at: u64) -> Self {
        Self { at, new_at, next: at.wrapping_add(self.displaced_len() as u64), ..*self }
    }

    pub(super) const fn new(at: u64, new_at: u64, next: u64) -> Self {
        Self { at, new_at, next, copies: [NO_COPY; N], count: 0, len: 0 }
    }

    /// No more than [`MAX_RELOCATED`] are pushed.
    pub(super) fn push(&mut self, copy: InsnCopy) {
        if let Some(place) = self.copies.get_mut(usize::from(self.count)) {
            *place = copy;
            self.count += 1;
        }
    }

    pub(super) const fn finish(&mut self, len: u16) {
        self.len = len;
    }

    /// The runtime address of the first original.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The runtime address of the first copy.
    #[must_use]
    pub const fn new_at(&self) -> u64 {
        self.new_at
    }

    /// The runtime address after the last original, where the program goes on.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Length in bytes of the originals.
    #[must_use]
    pub const fn displaced_len(&self) -> usize {
        self.next.wrapping_sub(self.at) as usize
    }

    /// Length in bytes of the copies, data between them included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no instruction was relocated.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The instructions, in order.
    #[must_use]
    pub fn copies(&self) -> &[InsnCopy] {
        self.copies.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// The runtime address of the copy of the instruction that begins `original` bytes after the
    /// first; `None` where none begins.
    #[must_use]
    pub fn new_address(&self, original: usize) -> Option<u64> {
        let copy = self.copies().iter().find(|copy| usize::from(copy.original) == original)?;
        Some(self.new_at.wrapping_add(u64::from(copy.new)))
    }

    /// What `rip`, among the copies or right after them, means; `None` where no thread can be.
    #[must_use]
    pub fn map(&self, rip: u64) -> Option<RelocatedPc> {
        let offset = rip.wrapping_sub(self.new_at);
        if offset == u64::from(self.len) {
            return Some(RelocatedPc::At(self.next));
        }
        if offset > u64::from(self.len) {
            return None;
        }
        let copy = self.copies().iter().rev().find(|copy| u64::from(copy.new) <= offset)?;
        let original = self.at.wrapping_add(u64::from(copy.original));
        match offset.wrapping_sub(u64::from(copy.new)) {
            0 => Some(RelocatedPc::At(original)),
            within => copy.map_within(original, within),
        }
    }
}

impl InsnCopy {
    /// `within`: bytes from the start of the copy, not 0.
    fn map_within(&self, original: u64, within: u64) -> Option<RelocatedPc> {
        /// The kernel restarts an interrupted system call at rip - 2, whatever prefixes it has.
        const RESTART: u64 = 2;
        let len = u64::from(self.len);
        match self.form {
            Form::Single => None,
            Form::Branch => (within == 2).then_some(RelocatedPc::Branching),
            Form::Loop => (within == len || within == len + 2).then_some(RelocatedPc::Branching),
            Form::Call => (within == PUSH_NEXT_LEN as u64).then_some(RelocatedPc::Pushed(original)),
            Form::CallMemory { push_len } => {
                let pushed = u64::from(push_len);
                let popped = pushed + LEA_LEN as u64;
                if within == pushed || within == popped + PUSH_NEXT_LEN as u64 {
                    Some(RelocatedPc::Pushed(original))
                } else {
                    (within == popped).then_some(RelocatedPc::At(original))
                }
            }
            Form::Syscall if within == len => Some(RelocatedPc::Returned(original.wrapping_add(len))),
            Form::Syscall | Form::Blocking => (within + RESTART == len).then_some(RelocatedPc::At(original)),
        }
    }
}
