//! Where the canonical frame address (CFA) is at each instruction, by `.eh_frame`.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, ReaderOffset, Register,
    RegisterRule, UnwindContext, UnwindContextStorage, UnwindSection, UnwindTableRow, X86_64,
};
use uprobe::elf::ElfFile;

/// Rows of the unwind table on the stack: no feature of gimli's is needed for them.
struct OnStack;

impl<T: ReaderOffset> UnwindContextStorage<T> for OnStack {
    type Rules = [(Register, RegisterRule<T>); 192];
    type Stack = [UnwindTableRow<T, Self>; 8];
}

/// What the CFA is computed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    Rsp,
    Rbp,
    R10,
    /// A DWARF expression, or a register no compiler uses for it.
    Other,
}

/// From `start` up to the next row: CFA = base + offset.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: u64,
    end: u64,
    base: Base,
    offset: i64,
    outermost: bool,
}

/// All rows of a file, sorted.
#[derive(Debug, Default)]
pub struct Frames {
    rows: Vec<Row>,
}

impl Frames {
    pub fn of(file: &ElfFile) -> Self {
        let Some((start, size)) = file.section_in_memory(".eh_frame") else { return Self::default() };
        let section = EhFrame::new(file.bytes_at(start, size as usize), LittleEndian);
        let text = file.section_in_memory(".text").map_or(0, |(link, _)| link.0);
        let bases = BaseAddresses::default().set_eh_frame(start.0).set_text(text);
        let mut rows = Vec::new();
        let mut entries = section.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(fde) = partial.parse(EhFrame::<EndianSlice<'_, LittleEndian>>::cie_from_offset) else {
                continue;
            };
            let mut context = UnwindContext::<_, OnStack>::new_in();
            let Ok(mut table) = fde.rows(&section, &bases, &mut context) else { continue };
            while let Ok(Some(row)) = table.next_row() {
                let (base, offset) = match row.cfa() {
                    CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => (Base::Rsp, *offset),
                    CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => (Base::Rbp, *offset),
                    CfaRule::RegisterAndOffset { register: X86_64::R10, offset } => (Base::R10, *offset),
                    _ => (Base::Other, 0),
                };
                let outermost = matches!(row.register(X86_64::RA), Some(RegisterRule::Undefined));
                rows.push(Row {
                    start: row.start_address(),
                    end: row.end_address(),
                    base,
                    offset,
                    outermost,
                });
            }
        }
        rows.sort_unstable_by_key(|row| row.start);
        Self { rows }
    }

    fn row_at(&self, at: u64) -> Option<&Row> {
        let row = self.rows[..self.rows.partition_point(|row| row.start <= at)].last()?;
        (at < row.end).then_some(row)
    }

    /// The register the CFA is computed from at `at`, and what is added to it; `None` without a
    /// frame description.
    pub fn cfa_at(&self, at: u64) -> Option<(Base, i64)> {
        self.row_at(at).map(|row| (row.base, row.offset))
    }

    /// Whether unwinding ends there: nobody called what is there.
    pub fn is_outermost(&self, at: u64) -> bool {
        self.row_at(at).is_some_and(|row| row.outermost)
    }
}
