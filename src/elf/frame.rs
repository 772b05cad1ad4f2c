//! Where functions begin and end by `.eh_frame`: known even in a stripped file, to the byte.

use std::sync::OnceLock;

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, EhFrame, EndianSlice, LittleEndian, Section,
    UnwindSection,
};

use super::layout::Layout;
use crate::addr::LinkAddr;

/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`, how every linker writes the table.
const TABLE_ENCODING: u8 = 0x3b;
const TABLE_ENTRY: usize = 8;

/// The frame descriptions of a file.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Of `.eh_frame`: address and size of what is loaded.
    section: Option<(LinkAddr, usize)>,
    /// Of the sorted table in `.eh_frame_hdr`: address of the header, entries.
    table: Option<(LinkAddr, usize)>,
    /// Without the table: all ranges, sorted.
    all: OnceLock<Vec<(u64, u64)>>,
}

fn word(bytes: &[u8], at: usize) -> Option<i64> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(i64::from(i32::from_le_bytes(word.try_into().ok()?)))
}

impl Frames {
    /// Finds `.eh_frame` and its sorted table (`PT_GNU_EH_FRAME`, which also leads to it without section headers).
    pub(super) fn find(layout: &Layout, bytes: &[u8]) -> Self {
        let mut frames = Self::default();
        let header = layout.frame_header;
        if let Some(section) = layout.section(bytes, ".eh_frame") {
            let there = layout.bytes_from(bytes, LinkAddr(section.link)).len();
            let size = usize::try_from(section.size).unwrap_or(usize::MAX).min(there);
            frames.section = Some((LinkAddr(section.link), size));
        }
        let Some(header) = header else { return frames };
        // version, encodings of the frame pointer (pcrel sdata4), the count (udata4), the table.
        let at = layout.bytes_from(bytes, header);
        if at.get(..4) != Some(&[1, 0x1b, 0x03, TABLE_ENCODING]) {
            return frames;
        }
        let (Some(pointer), Some(count)) = (word(at, 4), word(at, 8)) else { return frames };
        if frames.section.is_none() {
            let start = header.add(4).add(pointer.cast_unsigned());
            frames.section = Some((start, layout.bytes_from(bytes, start).len()));
        }
        let fits = at.len().saturating_sub(12) / TABLE_ENTRY;
        if let Ok(count) = usize::try_from(count)
            && count <= fits
            && count > 0
        {
            frames.table = Some((header, count));
        }
        frames
    }

    /// The range that begins at or before `at`, and where the next one begins.
    pub(super) fn around(
        &self,
        layout: &Layout,
        bytes: &[u8],
        at: LinkAddr,
    ) -> (Option<(u64, u64)>, Option<u64>) {
        if let Some((header, count)) = self.table {
            let table = layout.bytes_from(bytes, header).get(12..).unwrap_or(&[]);
            let start =
                |i: usize| word(table, i * TABLE_ENTRY).map_or(u64::MAX, |w| header.0.wrapping_add_signed(w));
            let after = partition(count, |i| start(i) <= at.0);
            let next = (after < count).then(|| start(after));
            let before = after.checked_sub(1).and_then(|i| {
                let description = word(table, i * TABLE_ENTRY + 4)?;
                self.range(layout, bytes, header.0.wrapping_add_signed(description))
            });
            return (before, next);
        }
        let all = self.all.get_or_init(|| self.read_all(layout, bytes));
        let after = all.partition_point(|&(start, _)| start <= at.0);
        (after.checked_sub(1).map(|i| all[i]), all.get(after).map(|&(start, _)| start))
    }

    fn section<'a>(&self, layout: &Layout, bytes: &'a [u8]) -> Option<(&'a [u8], BaseAddresses)> {
        let (start, size) = self.section?;
        let content = layout.bytes_from(bytes, start).get(..size)?;
        Some((content, BaseAddresses::default().set_eh_frame(start.0)))
    }

    /// The range of the description at address `at`.
    fn range(&self, layout: &Layout, bytes: &[u8], at: u64) -> Option<(u64, u64)> {
        let (content, bases) = self.section(layout, bytes)?;
        let offset = usize::try_from(at.checked_sub(self.section?.0.0)?).ok()?;
        if offset >= content.len() {
            return None;
        }
        let frame = EhFrame::new(content, LittleEndian);
        let description = frame.fde_from_offset(&bases, gimli::EhFrameOffset(offset), common_entry).ok()?;
        let start = description.initial_address();
        Some((start, start.checked_add(description.len())?))
    }

    fn read_all(&self, layout: &Layout, bytes: &[u8]) -> Vec<(u64, u64)> {
        let Some((content, bases)) = self.section(layout, bytes) else { return Vec::new() };
        let frame = EhFrame::new(content, LittleEndian);
        let mut entries = frame.entries(&bases);
        let mut all = Vec::new();
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(partial) = entry
                && let Ok(description) = partial.parse(common_entry)
                && let Some(end) = description.initial_address().checked_add(description.len())
            {
                all.push((description.initial_address(), end));
            }
        }
        all.sort_unstable();
        all
    }
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The common entry at `offset`, if its augmentation string is as short as they all are: a hostile one
/// would be read to the end of the file for each description.
fn common_entry<'a>(
    frame: &EhFrame<Slice<'a>>,
    bases: &BaseAddresses,
    offset: gimli::EhFrameOffset,
) -> gimli::Result<CommonInformationEntry<Slice<'a>>> {
    const AUGMENTATION_MAX: usize = 16;
    let at = frame.reader().slice().get(offset.0..).unwrap_or(&[]);
    // Length and id, of four bytes or (4 + 8) and 8, and the version.
    let head = if at.starts_with(&[0xff; 4]) { 21 } else { 9 };
    let augmentation = at.get(head..).unwrap_or(&[]);
    if !augmentation.iter().take(AUGMENTATION_MAX).any(|&byte| byte == 0) {
        return Err(gimli::Error::UnknownAugmentation);
    }
    frame.cie_from_offset(bases, offset)
}

/// The first of `count` for which `is_before` fails.
fn partition(count: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
