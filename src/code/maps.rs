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

/// The same for those who look for room: without /proc, what stands in the way (see [`in_the_way`]).
#[must_use]
pub fn read_obstacles() -> Vec<MapEntry> {
    read_maps().unwrap_or_else(|| in_the_way(&places()))
}

/// Code that probes will be near to: the program's, libc's, our own.
fn places() -> [u64; 3] {
    // SAFETY: reads the auxiliary vector.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) };
    [program, libc::getauxval as *const () as u64, places as *const () as u64]
}

/// How far a 32-bit displacement reaches.
const REACH: u64 = 2 << 30;
/// What is asked for at once.
const BLOCK: u64 = 16 << 20;

/// Where nothing can be mapped, block by block in reach of `places`; farther off, nowhere. For kernels that don't
/// show what is mapped: it is found out by mapping.
fn in_the_way(places: &[u64]) -> Vec<MapEntry> {
    let mut wanted: Vec<(u64, u64)> = places
        .iter()
        .map(|place| {
            let low = place.saturating_sub(REACH).max(LOWEST.next_multiple_of(BLOCK)) & !(BLOCK - 1);
            (low, place.saturating_add(REACH).min(HIGHEST) & !(BLOCK - 1))
        })
        .collect();
    wanted.sort_unstable();
    let mut found = Vec::new();
    let mut from = 0;
    let mut taken = |start: u64, end: u64| {
        let name = String::new();
        let (writable, executable, shared, offset) = (false, false, false, 0);
        if start < end {
            found.push(MapEntry { start, end, writable, executable, shared, offset, name });
        }
    };
    for (low, high) in wanted {
        taken(from, low);
        from = from.max(low);
        while from < high {
            if !can_be_mapped(from) {
                taken(from, from + BLOCK);
            }
            from += BLOCK;
        }
    }
    taken(from, u64::MAX);
    found
}

/// Whether there is a free block at `at`.
fn can_be_mapped(at: u64) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    let (at, len) = (at as usize, BLOCK as usize);
    // SAFETY: NOREPLACE: an existing mapping makes the call fail.
    let Ok(got) = (unsafe { sys::mmap(at, len, libc::PROT_NONE, flags, -1, 0) }) else { return false };
    // SAFETY: our own fresh mapping.
    unsafe { sys::munmap(got, len) }.is_ok() && got == at
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

    /// What is found by trying is what the kernel shows.
    #[test]
    fn blocks_in_the_way_hold_what_is_mapped() {
        let shown = parse(&String::from_utf8_lossy(&sys::read_whole(c"/proc/self/maps").expect("/proc")));
        let here = places();
        let found = in_the_way(&here);
        assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start), "{found:?}");
        for place in here {
            assert!(mapping_at(&found, place).is_some());
            let gaps = free_gaps(&found, place.saturating_sub(REACH / 2), place + REACH / 2);
            assert!(!gaps.is_empty(), "no room near {place:#x}");
            // Other tests map, too: most of it is still free.
            let free =
                |(low, high): &&(u64, u64)| shown.iter().all(|map| map.end <= *low || map.start >= *high);
            assert!(gaps.iter().filter(free).count() * 2 >= gaps.len(), "{gaps:x?}");
        }
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
