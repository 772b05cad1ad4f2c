//! What of a program a probe needs at a hit: nothing is read, kept or timed for nobody.

use crate::fetch::program::{EventProgram, Operand, Start, Step};

/// What must be done at the two sides of a call; an entry probe has only the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// [`EventProgram::fetch`].
    pub entry_record: bool,
    /// The time, at the entry, because a value or the filter is about it: a logged event may want it besides.
    pub entry_time: bool,
    /// To put away what was fetched at the entry until the return.
    pub kept: bool,
    /// [`EventProgram::fetch_return`].
    pub return_record: bool,
    /// The same, at the return.
    pub return_time: bool,
    /// A value is read beside the filter's and the event's.
    pub values: bool,
}

impl EventProgram {
    /// For a probe that writes an event at each hit (`log`), or none; that follows calls to their
    /// return, or not; and that reads `values` besides, each the index of an argument, or `None` for
    /// what needs none.
    ///
    /// Integers that can be read where they are wanted need no record: a filter over nothing else goes
    /// without.
    #[must_use]
    pub fn needs(&self, log: bool, follows: bool, values: impl Iterator<Item = Option<u16>>) -> Needs {
        let mut needs = Needs::default();
        let (mut value_of_entry, mut value_with_time) = (false, false);
        for value in values {
            needs.values = true;
            if let Some(index) = value {
                value_of_entry |= usize::from(index) < self.entry_args;
                value_with_time |= self.is_time(index);
            }
        }
        let filter_records = self.filter.iter().any(|step| self.needs_record(step));
        let filter_has_time = self.filter.iter().any(|step| match step.operand {
            Operand::Timestamp => true,
            Operand::Arg(index) => self.is_time(index),
            _ => false,
        });
        if !follows {
            needs.entry_record = log || filter_records;
            needs.entry_time = filter_has_time || value_with_time || (log && self.has_time());
            return needs;
        }
        let decides_at_entry = self.filters_at_entry();
        let filter_of_entry = self
            .filter
            .iter()
            .any(|step| matches!(step.operand, Operand::Arg(index) if usize::from(index) < self.entry_args));
        // A record at the return begins with the values of the entry, or the others have no place in it.
        let recorded_at_return = log || (!decides_at_entry && filter_records);
        let wanted_later = recorded_at_return || value_of_entry || (filter_of_entry && !decides_at_entry);
        needs.kept = wanted_later && self.entry_args > 0;
        needs.entry_record = needs.kept || (decides_at_entry && filter_records);
        let has_time = filter_has_time || self.has_time();
        needs.entry_time = has_time && (needs.entry_record || decides_at_entry);
        needs.return_record = recorded_at_return || needs.kept;
        needs.return_time = has_time;
        needs
    }

    /// Whether an argument is about the time.
    fn has_time(&self) -> bool {
        self.args.iter().any(|arg| matches!(arg.start, Start::Timestamp))
    }

    fn is_time(&self, index: u16) -> bool {
        self.args.get(usize::from(index)).is_some_and(|arg| matches!(arg.start, Start::Timestamp))
    }

    /// Whether a comparison wants what is not read anew each time.
    fn needs_record(&self, step: &Step) -> bool {
        let Operand::Arg(index) = step.operand else { return false };
        self.args.get(usize::from(index)).is_some_and(|arg| !arg.is_integer())
    }
}
