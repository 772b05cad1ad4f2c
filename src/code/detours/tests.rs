use std::collections::BTreeSet;
use std::path::Path;

use super::gaps::{Gaps, Limits};
use super::stretches::{FreeSpace, Stretches, Wanted};
use super::{DetourSpace, PAGE, Placed, REACH, map_pages};
use crate::addr::LinkAddr;
use crate::code::{MapEntry, Poker, mapping_at, read_maps};
use crate::elf::{ElfFile, NoFiles, StdFiles};
use crate::insn::{MAX_INSN_LEN, WINDOW_TEXT, Window, WindowText, decode_len};

const HEAD: usize = 16;

/// Windows of all functions in a file, as they are where it was loaded: at the first instruction, and at
/// the second.
fn windows_of(path: &str, maps: &[MapEntry]) -> Vec<Window> {
    let base = maps.iter().find(|map| map.name == path && map.offset == 0).expect("loaded").start;
    let file = ElfFile::open(Path::new(path), &StdFiles).expect("an ELF file");
    let functions = file.functions(&NoFiles);
    let mut windows = Vec::new();
    for (index, function) in functions.iter().enumerate() {
        let next = functions.get(index + 1).map_or(function.link.0 + function.size, |next| next.link.0);
        let first = decode_len(file.bytes_at(function.link, MAX_INSN_LEN)).unwrap_or(0) as u64;
        for skipped in BTreeSet::from([0, first.min(function.size)]) {
            let link = LinkAddr(function.link.0 + skipped);
            let text = WindowText {
                bytes: file.bytes_at(link, WINDOW_TEXT),
                at: base + link.0,
                code_len: (function.size - skipped) as usize,
                room: (next - link.0) as usize,
                targets: &[],
            };
            windows.extend(Window::plan(&text));
        }
    }
    windows
}

/// Of libc and of this program.
fn real_windows() -> Vec<Window> {
    let maps = read_maps().expect("/proc");
    let libc = maps.iter().find(|map| map.name.contains("/libc.so")).expect("libc").name.clone();
    let this = std::env::current_exe().expect("a path").to_string_lossy().into_owned();
    let mut windows = windows_of(&libc, &maps);
    windows.extend(windows_of(&this, &maps));
    windows
}

/// The same order each time, and none of the addresses'.
fn shuffled(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_by_key(|window| window.at().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    windows
}

fn len_for(window: &Window) -> usize {
    76 + (window.at() >> 4) as usize % 51
}

fn take_all(space: &mut DetourSpace, windows: &[Window]) -> Vec<(Window, Placed)> {
    let take = |window: &Window| Some((*window, space.take(window, HEAD, len_for(window))?));
    windows.iter().filter_map(take).collect()
}

fn check(all: &[(Window, Placed)]) {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for (window, placed) in all {
        let (target, end) = (placed.at + HEAD as u64, placed.at + len_for(window) as u64);
        let range = window.candidates().find(|range| range.jump_to(target) == Some(placed.jump));
        let range = range.unwrap_or_else(|| panic!("{window:x?} {placed:x?}"));
        assert!(range.contains(target) && range.traps() == placed.traps, "{window:x?} {placed:x?}");
        let [0xe9, displacement @ ..] = placed.jump else { panic!("{placed:x?}") };
        let led = window.at().wrapping_add_signed(5 + i64::from(i32::from_le_bytes(displacement)));
        assert_eq!(led, target);
        let (low, high) = window.reach();
        assert!(low <= placed.at && end <= high + 1, "{window:x?} {placed:x?}");
        assert!(placed.at.abs_diff(window.at()) <= REACH && end.abs_diff(window.at()) <= REACH);
        taken.push((placed.at, end));
    }
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two have the same memory");
}

/// The words of the name, for the record.
fn print(what: &str, space: &DetourSpace, windows: usize) {
    let usage = space.usage();
    println!(
        "{what}: {} of {windows} placed, {} KiB mapped, {} KiB used, {} bytes mapped each, {} mappings, {} steps each",
        usage.detours,
        usage.mapped >> 10,
        usage.used >> 10,
        usage.mapped / usage.detours.max(1) as u64,
        usage.mappings,
        space.steps / windows.max(1) as u64
    );
}

#[test]
fn all_functions_of_libc_and_this_program_are_placed() {
    let windows = shuffled(real_windows());
    assert!(windows.len() > 10_000, "{}", windows.len());
    let mut space = DetourSpace::default();
    let all = take_all(&mut space, &windows);
    print("all", &space, windows.len());
    let kinds: Vec<u8> = all.iter().map(|(_, placed)| placed.traps).collect();
    let trapped = kinds.iter().filter(|traps| **traps != 0).count();
    println!(
        "{trapped} have traps; {} windows are one instruction",
        windows.iter().filter(|w| w.is_single_insn()).count()
    );
    check(&all);
    assert!(all.len() * 1000 >= windows.len() * 999, "{} of {}", all.len(), windows.len());
    let usage = space.usage();
    assert_eq!(usage.detours, all.len());
    let granules =
        |(window, placed): &(Window, Placed)| FreeSpace::granules(placed.at, len_for(window) as u64);
    assert_eq!(usage.used, all.iter().map(granules).map(|(start, end)| end - start).sum::<u64>());
    assert!(usage.mapped <= 400 * usage.detours as u64 && usage.mappings < 2000, "{usage:?}");

    let maps = read_maps().expect("/proc");
    let mut pages = BTreeSet::new();
    for (window, placed) in &all {
        pages.extend([placed.at / PAGE, (placed.at + len_for(window) as u64 - 1) / PAGE]);
    }
    for page in &pages {
        let map = mapping_at(&maps, page * PAGE).expect("mapped");
        assert!(map.executable && !map.writable && !map.shared && map.name.is_empty(), "{map:x?}");
    }
    let lines: BTreeSet<u64> =
        pages.iter().filter_map(|page| Some(mapping_at(&maps, page * PAGE)?.start)).collect();
    println!("{} pages have detours, in {} lines of the maps", pages.len(), lines.len());
}

#[test]
fn a_thousand_here_and_there_take_little() {
    let windows = shuffled(real_windows());
    for count in [1, 10, 100, 1000, 3000] {
        let mut space = DetourSpace::default();
        let all = take_all(&mut space, &windows[..count]);
        print("some", &space, count);
        check(&all);
        let usage = space.usage();
        assert_eq!(all.len(), count);
        let limit = if count >= 1000 { 400 * count as u64 } else { (256 << 10) + 400 * count as u64 };
        assert!(usage.mapped <= limit, "{usage:?}");
    }
}

/// The cost of one does not depend on how many there are.
#[test]
fn fifty_thousand_take_as_many_steps_each_as_a_thousand() {
    let real = shuffled(real_windows());
    let windows: Vec<Window> = real.iter().cycle().take(50_000).copied().collect();
    let mut space = DetourSpace::default();
    let mut steps = Vec::new();
    for some in windows.chunks(5000) {
        let before = space.steps;
        take_all(&mut space, some);
        steps.push((space.steps - before) / 5000);
    }
    print("50,000", &space, windows.len());
    println!("{steps:?} steps each");
    assert!(space.usage().detours > 49_000);
    assert!(steps.iter().all(|each| *each < 500), "{steps:?}");
}

#[test]
fn what_is_queued_is_written() {
    let windows = &shuffled(real_windows())[..500];
    let mut space = DetourSpace::default();
    let all = take_all(&mut space, windows);
    let bytes = |index: usize, window: &Window| vec![index as u8; len_for(window)];
    let mut poker = Poker::new();
    for half in [0, 1] {
        for (index, (window, placed)) in all.iter().enumerate().filter(|(index, _)| index % 2 == half) {
            space.queue(placed.at, &bytes(index, window));
        }
        space.flush(&mut poker).expect("written");
    }
    for (index, (window, placed)) in all.iter().enumerate() {
        // SAFETY: ours, readable, and just written by nobody else.
        let found = unsafe { std::slice::from_raw_parts(placed.at as *const u8, len_for(window)) };
        assert_eq!(found, bytes(index, window), "{placed:x?}");
    }
}

#[test]
fn what_somebody_mapped_meanwhile_is_avoided() {
    let window = *real_windows().iter().find(|window| window.is_single_insn()).expect("one");
    let range = window.candidates().next().expect("one");
    let limits = Limits { lowest: 0, heap_end: 0, stack: 0 };
    let mut space = DetourSpace::default();
    // Nothing seems to be mapped.
    let gaps = Gaps::around(&[], &Stretches::default(), &limits);
    let wanted = Wanted { range: &range, head: HEAD as u64, len: 100 };
    let reach = (window.at() - REACH, window.at() + REACH);
    let at = gaps.find(&wanted, reach, window.at(), false, &mut 100).expect("room");
    let page = at & !(PAGE - 1);
    assert!(matches!(map_pages(page, page + PAGE), Ok(()) | Err(libc::EEXIST)));
    space.gaps = Some(gaps);
    let placed = space.take(&window, HEAD, 100).expect("room elsewhere");
    assert_ne!(placed.at & !(PAGE - 1), page);

    space.is_exhausted = true;
    let full = space.usage().mapped / 100;
    let taken = (0..full + 1).map_while(|_| space.take(&window, HEAD, 100)).count() as u64;
    assert!(taken < full && taken > full / 2, "{taken} of {full}");
    space.forget_maps();
    assert!(space.take(&window, HEAD, 100).is_some());
}

fn entry(start: u64, end: u64, name: &str) -> MapEntry {
    let name = name.to_owned();
    MapEntry { start, end, writable: false, executable: false, shared: false, offset: 0, name }
}

/// A program at a fixed address, its heap, a library, the main stack.
fn fixed_address_maps() -> Vec<MapEntry> {
    vec![
        entry(0x40_0000, 0x80_0000, "/bin/fixed"),
        entry(0x123_4000, 0x133_4000, "[heap]"),
        entry(0x7fff_0000, 0x8000_0000, "/lib/near"),
        entry(0x7ffd_0000_0000, 0x7ffd_0002_1000, "[stack]"),
    ]
}

const FIXED: Limits = Limits { lowest: 0x1_0000, heap_end: 0x133_5000, stack: 8 << 20 };

/// Stretches of memory, from and to.
type Rooms = Vec<(u64, u64)>;

fn rooms(gaps: &Gaps) -> (Rooms, Rooms) {
    (gaps.good.iter().collect(), gaps.last_resort.iter().collect())
}

#[test]
fn rooms_keep_their_distance() {
    let (good, last_resort) = rooms(&Gaps::around(&fixed_address_maps(), &Stretches::default(), &FIXED));
    let heap_end = 0x133_5000;
    let stack_room = (128 << 20) + (1 << 20);
    assert_eq!(
        good,
        [
            (0x11_0000, 0x3f_0000),
            (0x81_0000, 0x122_4000),
            (heap_end + (512 << 20), 0x7ffe_0000),
            (0x8001_0000, 0x7ffd_0000_0000 - stack_room),
            (0x7ffd_0003_1000, 0x7fff_ffff_0000),
        ]
    );
    assert_eq!(last_resort, [(heap_end + (64 << 20), heap_end + (512 << 20))]);
    let high = Limits { lowest: 0x20_0001, ..FIXED };
    assert_eq!(rooms(&Gaps::around(&[], &Stretches::default(), &high)).0[0].0, 0x20_1000);
}

#[test]
fn detours_need_no_distance_from_each_other() {
    let mut own = Stretches::default();
    own.add(0x20_0000, 0x20_1000);
    own.add(0x30_0000, 0x30_2000);
    // Somebody mapped a page right behind the second, of the same kind.
    let maps =
        [entry(0x20_0000, 0x20_1000, ""), entry(0x30_0000, 0x30_3000, ""), entry(0x40_0000, 0x41_0000, "")];
    let limits = Limits { lowest: 0, heap_end: 0, stack: 0 };
    let (good, last_resort) = rooms(&Gaps::around(&maps, &own, &limits));
    assert_eq!(good[..3], [(0x11_0000, 0x20_0000), (0x20_1000, 0x2f_2000), (0x31_3000, 0x3f_0000)]);
    assert!(last_resort.is_empty());
}

/// Half of the displacements lead below zero there, and many of the others into the heap.
#[test]
fn a_program_at_a_fixed_address() {
    let maps = read_maps().expect("/proc");
    let libc = maps.iter().find(|map| map.name.contains("/libc.so")).expect("libc").name.clone();
    let file = ElfFile::open(Path::new(&libc), &StdFiles).expect("an ELF file");
    let gaps = Gaps::around(&fixed_address_maps(), &Stretches::default(), &FIXED);
    let (mut planned, mut with_room, mut only_at_last) = (0, 0, 0);
    for (index, function) in file.functions(&NoFiles).iter().enumerate() {
        let bytes = file.bytes_at(function.link, WINDOW_TEXT);
        let at = 0x40_1000 + 0x400 * index as u64;
        let text = WindowText { bytes, at, code_len: function.size as usize, room: 64, targets: &[] };
        let Ok(window) = Window::plan(&text) else { continue };
        planned += 1;
        let mut found = [false; 2];
        for range in window.candidates() {
            let wanted = Wanted { range: &range, head: HEAD as u64, len: 100 };
            let (low, high) = (window.reach().0, window.reach().1.min(at + REACH));
            for last_resort in [false, true] {
                let Some(at) = gaps.find(&wanted, (low, high), at, last_resort, &mut 1000) else { continue };
                assert!(at >= 0x11_0000 && range.contains(at + HEAD as u64), "{range:x?} {at:x}");
                let pages = gaps.pages(at, at + 100, 0x1_0000).expect("in a room");
                assert!(
                    pages.0 <= at
                        && at + 100 <= pages.1
                        && [pages.0, pages.1].iter().all(|end| end.is_multiple_of(PAGE))
                );
                for map in fixed_address_maps() {
                    let room = if map.name == "[heap]" { 64 << 20 } else { 64 << 10 };
                    assert!(
                        pages.1 + (64 << 10) <= map.start || pages.0 >= map.end + room,
                        "{pages:x?} {map:x?}"
                    );
                }
                found[usize::from(last_resort)] = true;
            }
        }
        with_room += u32::from(found != [false; 2]);
        only_at_last += u32::from(found == [false, true]);
    }
    println!("{with_room} of {planned} have room, {only_at_last} of them only behind the heap");
    assert!(planned > 1000 && with_room * 100 > planned * 95);
}

/// Against a list of bytes.
#[test]
fn stretches_are_sets() {
    let mut random = 1_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) % limit
    };
    let mut stretches = Stretches::default();
    let mut bytes = [false; 256];
    for _ in 0..5000 {
        let start = below(250);
        let end = start + 1 + below(255 - start);
        let all = &mut bytes[start as usize..end as usize];
        if below(2) == 0 {
            stretches.remove(start, end);
            all.fill(false);
        } else if all.iter().all(|byte| !byte) {
            stretches.add(start, end);
            all.fill(true);
        }
        let mut found = [false; 256];
        let mut last = None;
        for (start, end) in stretches.iter() {
            assert!(last.is_none_or(|last| start > last) && start < end);
            found[start as usize..end as usize].fill(true);
            last = Some(end);
        }
        assert_eq!(found, bytes);
    }
}
