//! Whether a jump can be put at a place, given its function: the one answer that the runtime acts on and
//! that `uprobe list` and `uprobe check` foretell.
//!
//! It says nothing of memory. A jump that is possible may still find none where it could lead, which
//! only the process shows.

use super::branches::branch_targets_into;
use super::window::{WINDOW_TEXT, Window, WindowRefusal, WindowText};

/// Longer functions are not searched for branches: a place in one costs half a millisecond as it is. A
/// branch that was not seen comes to a byte that traps, or to the instruction as it was.
const LONGEST_SEARCHED: usize = 64 << 10;

/// The function around a place.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Its address, of the same kind as the place's.
    pub function: u64,
    /// Its bytes, as the file has them: no breakpoint hides a branch.
    pub text: &'a [u8],
    /// As [`WindowText::code_len`].
    pub code_len: usize,
    /// As [`WindowText::room`].
    pub room: usize,
}

/// Plans jumps at places, best in the order of their addresses: where the branches of a function lead is
/// looked up once for all places in it. Forgotten with the planner; what is mapped must not change meanwhile.
#[derive(Default, Debug)]
pub struct Planner {
    function: Option<(u64, usize)>,
    /// Where its branches lead inside it, in order.
    targets: Vec<u64>,
}

impl Planner {
    /// The window at `at`; `bytes` are the program's own from there, [`WINDOW_TEXT`] of them or all there
    /// are. Of code without a file (the vDSO) the surroundings aren't known. Runs at registration.
    ///
    /// # Errors
    /// Why there can be no jump.
    pub fn plan(
        &mut self,
        bytes: &[u8],
        at: u64,
        surroundings: Option<&Surroundings<'_>>,
    ) -> Result<Window, WindowRefusal> {
        let (code_len, room) = surroundings.map_or((WINDOW_TEXT, WINDOW_TEXT), |s| (s.code_len, s.room));
        let targets = surroundings.map_or(&[][..], |surroundings| self.targets(surroundings, at));
        Window::plan(&WindowText { bytes, at, code_len, room, targets })
    }

    /// Where branches of the function lead from `at` on.
    fn targets(&mut self, around: &Surroundings<'_>, at: u64) -> &[u64] {
        let function = (around.function, around.text.len());
        if self.function != Some(function) {
            self.function = Some(function);
            let text = if around.text.len() <= LONGEST_SEARCHED { around.text } else { &[] };
            let end = around.function.saturating_add(text.len() as u64);
            self.targets = branch_targets_into(text, around.function, around.function..end);
        }
        let first = self.targets.partition_point(|target| *target < at);
        let last = self.targets.partition_point(|target| *target < at.saturating_add(WINDOW_TEXT as u64));
        self.targets.get(first..last).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Planner, Surroundings};
    use crate::insn::{Inner, WindowRefusal};

    const AT: u64 = 0x5555_5555_4320;

    /// push rbp; mov rbp,rsp; push r15; …
    const PROLOGUE: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x90, 0x90];

    fn with(tail: &[u8]) -> Vec<u8> {
        [&PROLOGUE[..], tail].concat()
    }

    fn around(text: &[u8]) -> Surroundings<'_> {
        Surroundings { function: AT, text, code_len: text.len(), room: text.len() }
    }

    #[test]
    fn a_boundary_that_a_branch_leads_to_is_kept() {
        // jmp to the mov (at 1), and one to the nop behind the window.
        for (tail, kept) in [([0xeb, 0xf7], vec![true, false]), ([0xeb, 0xfc], vec![false, false])] {
            let text = with(&tail);
            let window = Planner::default().plan(&text, AT, Some(&around(&text))).expect("a window");
            let found: Vec<bool> = window.inner().map(|boundary| boundary.must_keep).collect();
            assert_eq!(found, kept, "{tail:x?}");
            assert_eq!(window.inner().next().and_then(|b| b.choice(1)).is_none(), kept[0]);
            assert_eq!(window.inner().next().and_then(|b| b.choice(0)), Some(Inner::Kept));
        }
    }

    #[test]
    fn a_branch_into_the_middle_of_an_instruction_refuses() {
        let text = with(&[0xeb, 0xf8]);
        let refused = Planner::default().plan(&text, AT, Some(&around(&text)));
        assert_eq!(refused, Err(WindowRefusal::BranchTarget { target: AT + 2 }));
    }

    #[test]
    fn functions_take_turns_and_long_ones_are_not_searched() {
        let (branching, plain) = (with(&[0xeb, 0xf8]), with(&[0xeb, 0xfe]));
        let mut planner = Planner::default();
        let mut long = branching.clone();
        long.resize(super::LONGEST_SEARCHED + 1, 0x90);
        let elsewhere = Surroundings { function: AT + 0x100, ..around(&plain) };
        for _ in 0..2 {
            assert!(planner.plan(&branching, AT, Some(&around(&branching))).is_err());
            assert!(planner.plan(&plain, AT + 0x100, Some(&elsewhere)).is_ok());
            assert!(planner.plan(&long, AT, Some(&around(&long))).is_ok());
            assert!(planner.plan(&branching, AT, None).is_ok());
        }
    }
}
