//! Numbers as the kernel's `kstrtoul(…, 0, …)` takes them: decimal, `0x` hex, leading-`0` octal.

/// An unsigned number, or `None` where the text is none or exceeds 64 bits.
pub(super) fn parse_unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => match text.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => (octal, 8),
            _ => (text, 10),
        },
    };
    // from_str_radix would take a sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// A number that may carry a minus sign, as the value and whether it was negative.
pub(super) fn parse_signed(text: &str) -> Option<(u64, bool)> {
    match text.strip_prefix('-') {
        None => Some((parse_unsigned(text)?, false)),
        Some(magnitude) => {
            let magnitude = parse_unsigned(magnitude)?;
            (magnitude <= 1 << 63).then(|| (magnitude.wrapping_neg(), magnitude != 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_kernel_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("010", Some(8)),
            ("0x10", Some(16)),
            ("0XfF", Some(255)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0xffffffffffffffff", Some(u64::MAX)),
            ("0x10000000000000000", None),
            ("08", None),
            ("", None),
            ("0x", None),
            ("+1", None),
            ("0x+1", None),
            ("-1", None),
            ("1a", None),
            ("a", None),
            ("1_000", None),
        ] {
            assert_eq!(parse_unsigned(text), expected, "{text}");
        }
        for (text, expected) in [
            ("7", Some((7, false))),
            ("-1", Some((u64::MAX, true))),
            ("-0", Some((0, false))),
            ("-0x10", Some((16u64.wrapping_neg(), true))),
            ("-9223372036854775808", Some((1 << 63, true))),
            ("-9223372036854775809", None),
            ("--1", None),
            ("-", None),
        ] {
            assert_eq!(parse_signed(text), expected, "{text}");
        }
    }
}
