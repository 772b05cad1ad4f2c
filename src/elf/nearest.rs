//! The name that was probably meant: for "did you mean".

/// Longer names are compared with nothing.
const NAME_MAX: usize = 64;

/// The candidate with the fewest edits from `wanted` (insert, drop, replace, swap two neighbours),
/// if they are few. What only differs by a compiler's suffix (`.constprop.0`) or leading
/// underscores comes first. Equal ones: the first in the alphabet.
pub(super) fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    if wanted.len() > NAME_MAX || wanted.is_empty() {
        return None;
    }
    let mut limit = (wanted.len() / 3).clamp(1, 3);
    let mut best: Option<&str> = None;
    let letters = letters_of(wanted);
    for candidate in candidates {
        let distance = if is_variant(candidate, wanted) {
            0
        } else if candidate.len().abs_diff(wanted.len()) > limit
            || (letters_of(candidate) ^ letters).count_ones() as usize > 2 * limit
        {
            continue;
        } else {
            edits(wanted.as_bytes(), candidate.as_bytes(), limit)
        };
        if distance < limit || (distance == limit && best.is_none_or(|best| candidate < best)) {
            (best, limit) = (Some(candidate), distance);
        }
    }
    best.map(str::to_owned)
}

/// `foo.constprop.0`, `_foo` or `__foo` for `foo`.
fn is_variant(candidate: &str, wanted: &str) -> bool {
    let suffixed = candidate.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
    suffixed || candidate.trim_start_matches('_') == wanted.trim_start_matches('_')
}

/// One bit for each byte value modulo 64 that occurs. One edit changes two at most.
fn letters_of(name: &str) -> u64 {
    name.bytes().fold(0, |set, byte| set | 1 << (byte & 63))
}

/// The optimal string alignment distance; anything above `limit` is `limit + 1`.
fn edits(a: &[u8], b: &[u8], limit: usize) -> usize {
    const WIDTH: usize = NAME_MAX + 4;
    if b.len() >= WIDTH {
        return limit + 1;
    }
    let mut rows = [[0usize; WIDTH]; 3];
    for (i, cell) in rows[0].iter_mut().enumerate() {
        *cell = i;
    }
    for (i, &from) in a.iter().enumerate() {
        let (current, above, beyond) = ((i + 1) % 3, i % 3, (i + 2) % 3);
        rows[current][0] = i + 1;
        let mut least = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = rows[above][j] + usize::from(from != to);
            let mut cell = replaced.min(rows[above][j + 1] + 1).min(rows[current][j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                cell = cell.min(rows[beyond][j - 1] + 1);
            }
            rows[current][j + 1] = cell;
            least = least.min(cell);
        }
        if least > limit {
            return limit + 1;
        }
    }
    rows[a.len() % 3][b.len()].min(limit + 1)
}

#[cfg(test)]
mod tests {
    use super::{edits, nearest};

    #[test]
    fn edits_table() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("openat", "openat", 0),
            ("opneat", "openat", 1),
            ("openta", "openat", 1),
            ("opena", "openat", 1),
            ("openaat", "openat", 1),
            ("kitten", "sitting", 3),
            ("abcdefg", "hijklmn", 4),
        ] {
            assert_eq!(edits(a.as_bytes(), b.as_bytes(), 3), expected, "{a} {b}");
        }
    }

    #[test]
    fn nearest_table() {
        let names = ["openat", "openat64", "open", "opendir", "parse.constprop.0", "__libc_start_main", "ab"];
        for (wanted, expected) in [
            ("opneat", Some("openat")),
            ("openat6", Some("openat")),
            ("parse", Some("parse.constprop.0")),
            ("libc_start_main", Some("__libc_start_main")),
            ("zzzzzzzz", None),
            ("xy", None),
        ] {
            assert_eq!(nearest(wanted, names.into_iter()).as_deref(), expected, "{wanted}");
        }
        assert_eq!(nearest(&"a".repeat(100), names.into_iter()), None);
    }
}
