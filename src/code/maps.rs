//! /proc/self/maps: what is mapped where, and where there is room.

use std::ffi::CStr;

use crate::sys;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapEntry {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
    /// `w` is set.
    pub writable: bool,
    /// `x` is set.
    pub executable: bool,
    /// `s` is set: not a private mapping.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// The name, empty for anonymous memory.
    pub name: String,
}

/// The mappings of this process, in address order; `None` without /proc.
#[must_use]
pub fn read_maps() -> Option<Vec<MapEntry>> {
    const PATH: &CStr = c"/proc/thread-self/maps";
    let text = sys::read_whole(PATH).ok()?;
    Some(parse(&String::from_utf8_lossy(&text)))
}

fn parse(text: &str) -> Vec<MapEntry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<MapEntry> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut fields = rest.splitn(5, ' ');
    let access = fields.next()?;
    let offset = fields.next()?;
    let name = fields.nth(2).unwrap_or("").trim_start();
    Some(MapEntry {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        writable: access.contains('w'),
        executable: access.contains('x'),
        shared: access.contains('s'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        name: name.to_owned(),
    })
}

/// The mapping that contains `address`.
#[must_use]
pub fn mapping_at(maps: &[MapEntry], address: u64) -> Option<&MapEntry> {
    maps.iter().find(|map| (map.start..map.end).contains(&address))
}

/// Lowest address worth trying: below it the kernel refuses (vm.mmap_min_addr), and the program's
/// null pointers with an offset should go on faulting.
const LOWEST: u64 = 0x11_0000;
/// Highest user address with four-level page tables, less a guard.
const HIGHEST: u64 = 0x7fff_ffff_0000;

/// The unmapped stretches inside `low..high`, in address order.
#[must_use]
pub fn free_gaps(maps: &[MapEntry], low: u64, high: u64) -> Vec<(u64, u64)> {
    let (low, high) = (low.max(LOWEST), high.min(HIGHEST));
    let mut gaps = Vec::new();
    let mut from = low;
    for map in maps {
        if map.start > from && from < high {
            gaps.push((from, map.start.min(high)));
        }
        from = from.max(map.end);
    }
    if from < high {
        gaps.push((from, high));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
55a000000000-55a000002000 r--p 00000000 08:01 123 /usr/bin/a b
55a000002000-55a000004000 r-xp 00002000 08:01 123 /usr/bin/a b
55a000010000-55a000031000 rw-p 00000000 00:00 0                          [heap]
";

    #[test]
    fn lines_are_parsed() {
        let maps = parse(SAMPLE);
        assert_eq!(maps.len(), 3);
        assert_eq!(maps[1].name, "/usr/bin/a b");
        assert!(maps[1].executable && !maps[0].executable);
        assert!(maps[2].writable && !maps[1].writable);
        assert_eq!(maps[1].offset, 0x2000);
        assert_eq!(mapping_at(&maps, 0x55a0_0000_2fff), Some(&maps[1]));
        assert_eq!(mapping_at(&maps, 0x55a0_0000_4000), None);
    }

    #[test]
    fn gaps_lie_between() {
        let gaps = free_gaps(&parse(SAMPLE), 0x5590_0000_0000, 0x55a0_0004_0000);
        assert_eq!(
            gaps,
            [
                (0x5590_0000_0000, 0x55a0_0000_0000),
                (0x55a0_0000_4000, 0x55a0_0001_0000),
                (0x55a0_0003_1000, 0x55a0_0004_0000)
            ]
        );
    }
}
