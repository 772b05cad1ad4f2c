//! Which memory is executable, read from /proc/thread-self/maps with nothing but three system calls and a
//! small buffer: at a hit, when a return address is seen for the first time in memory not known yet.

use crate::sys::Fd;

/// Calls `found(start, end)` for each executable mapping. Signal-safe; uses 1 KiB of stack.
pub fn read(mut found: impl FnMut(u64, u64)) {
    // Not "self": that is the main thread, which has no memory any more once it has left by pthread_exit.
    let Ok(fd) = Fd::open(c"/proc/thread-self/maps", libc::O_RDONLY | libc::O_CLOEXEC, 0) else { return };
    let mut line = Line::default();
    let mut buffer = [0_u8; 512];
    loop {
        match fd.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                for byte in buffer.iter().take(n) {
                    if let Some((start, end)) = line.push(*byte) {
                        found(start, end);
                    }
                }
            }
            Err(errno) if errno == libc::EINTR => {}
            Err(_) => break,
        }
    }
}

/// One line of the file, read byte by byte: `start-end rwxp ...`.
#[derive(Default)]
struct Line {
    start: u64,
    end: u64,
    field: Field,
    column: u8,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Field {
    #[default]
    Start,
    End,
    Protection,
    Rest,
}

impl Line {
    /// Takes the next byte; the range, where the byte says that it is executable.
    fn push(&mut self, byte: u8) -> Option<(u64, u64)> {
        if byte == b'\n' {
            *self = Self::default();
            return None;
        }
        match (self.field, byte) {
            (Field::Start, b'-') => self.field = Field::End,
            (Field::Start, digit) => self.start = self.start << 4 | hex(digit),
            (Field::End, b' ') => self.field = Field::Protection,
            (Field::End, digit) => self.end = self.end << 4 | hex(digit),
            (Field::Protection, letter) => {
                self.column += 1;
                if self.column == 3 {
                    self.field = Field::Rest;
                    return (letter == b'x').then_some((self.start, self.end));
                }
            }
            (Field::Rest, _) => {}
        }
        None
    }
}

const fn hex(digit: u8) -> u64 {
    match digit {
        b'0'..=b'9' => (digit - b'0') as u64,
        b'a'..=b'f' => (digit - b'a') as u64 + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_mappings_are_those_of_the_file() {
        let mine = executable_mappings_are_those_of_the_file as *const () as u64;
        let looked_at_once = || {
            let mut seen = Vec::new();
            read(|start, end| seen.push((start, end)));
            let maps = crate::code::read_maps().expect("/proc");
            assert!(seen.iter().any(|(start, end)| (*start..*end).contains(&mine)));
            let is_there = |(start, end): &(u64, u64)| {
                maps.iter().any(|map| map.executable && map.start == *start && map.end == *end)
            };
            seen.iter().all(is_there)
        };
        // Other tests map and unmap code, also between the two looks.
        assert!((0..1000).any(|_| looked_at_once()));
    }
}
