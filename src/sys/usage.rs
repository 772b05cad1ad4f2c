//! How much memory the process has.

use super::read_whole;

/// Bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemoryUsage {
    /// Of address space.
    pub mapped: usize,
    /// Of these in memory.
    pub resident: usize,
}

/// What the kernel says of this process; nothing without /proc.
#[must_use]
pub fn memory_usage() -> MemoryUsage {
    const PAGE: usize = 4096;
    let text = read_whole(c"/proc/self/statm").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut pages = text.split_ascii_whitespace().map_while(|word| word.parse::<usize>().ok());
    let mut next = || pages.next().unwrap_or_default() * PAGE;
    MemoryUsage { mapped: next(), resident: next() }
}

#[cfg(test)]
mod tests {
    use super::memory_usage;
    use crate::sys::alone::is_alone;

    #[test]
    fn memory_that_is_used_is_seen() {
        if !is_alone("sys::usage::tests::memory_that_is_used_is_seen") {
            return;
        }
        let before = memory_usage();
        let memory = vec![1_u8; 64 << 20];
        let now = memory_usage();
        assert!(memory.iter().all(|byte| *byte == 1));
        assert!(now.resident >= before.resident + (48 << 20), "{before:?} {now:?}");
        assert!(now.mapped >= before.mapped + (48 << 20), "{before:?} {now:?}");
    }
}
