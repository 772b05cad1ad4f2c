//! A line of output, built in a buffer of fixed size.
//!
//! Runs at a hit: no allocation, no `core::fmt`, no panic. Whatever is pushed fits wholly or not at all; after the
//! first piece that did not fit nothing is taken until the line is rolled back or cleared.

/// Bytes of a line, with its newline.
pub const LINE_CAPACITY: usize = 8192;
/// What ends a line that didn't fit.
const CUT: &[u8] = b"...\n";

/// A line of at most [`LINE_CAPACITY`] bytes.
#[derive(Clone)]
pub struct LineBuf {
    len: usize,
    cut: bool,
    bytes: [u8; LINE_CAPACITY],
}

/// A place in a line to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Default for LineBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl LineBuf {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: 0, cut: false, bytes: [0; LINE_CAPACITY] }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
        self.cut = false;
    }

    /// What was pushed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether something didn't fit.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// How many bytes still fit before the end of the line.
    #[must_use]
    pub fn room(&self) -> usize {
        (LINE_CAPACITY - CUT.len()).saturating_sub(self.len)
    }

    /// Here.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.len)
    }

    /// Takes back what was pushed since, and that it didn't fit.
    pub fn roll_back(&mut self, mark: Mark) {
        self.len = self.len.min(mark.0);
        self.cut = false;
    }

    /// Ends the line, by `...` where something didn't fit, and exactly one newline.
    pub fn finish(&mut self) {
        let end: &[u8] = if self.cut { CUT } else { b"\n" };
        let at = self.len.min(LINE_CAPACITY - CUT.len());
        if let Some(to) = self.bytes.get_mut(at..at.saturating_add(end.len())) {
            to.copy_from_slice(end);
            self.len = at.saturating_add(end.len());
        }
    }

    /// Appends bytes as they are.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.cut || bytes.len() > self.room() {
            self.cut = true;
            return;
        }
        // Sliced in two steps: so the compiler sees that the lengths agree, and leaves the panic out.
        let space = self.bytes.get_mut(self.len..).and_then(|space| space.get_mut(..bytes.len()));
        if let Some(to) = space {
            to.copy_from_slice(bytes);
            self.len = self.len.saturating_add(bytes.len());
        }
    }

    /// Appends text as it is.
    pub fn push_str(&mut self, text: &str) {
        self.push(text.as_bytes());
    }

    /// Appends `count` times the byte `fill`.
    pub fn push_fill(&mut self, count: usize, fill: u8) {
        for _ in 0..count.min(LINE_CAPACITY) {
            self.push(&[fill]);
        }
    }

    /// Appends a decimal number.
    pub fn push_decimal(&mut self, value: u64) {
        self.push_decimal_padded(value, 1, b'0');
    }

    /// Appends a decimal number of at least `width` (at most 20) places, filled up in front.
    pub fn push_decimal_padded(&mut self, mut value: u64, width: usize, fill: u8) {
        let mut digits = [fill; 20];
        let mut used = 0usize;
        for digit in digits.iter_mut().rev() {
            if value == 0 && used > 0 {
                break;
            }
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
            used += 1;
        }
        let places = used.max(width.min(20));
        self.push(digits.get(20usize.saturating_sub(places)..).unwrap_or_default());
    }

    /// Appends a decimal number with its sign.
    pub fn push_signed(&mut self, value: i64) {
        if value < 0 {
            self.push(b"-");
        }
        self.push_decimal(value.unsigned_abs());
    }

    /// Appends `0x` and a hexadecimal number.
    pub fn push_hex(&mut self, mut value: u64) {
        let mut digits = [b'0'; 18];
        let mut at = digits.len();
        loop {
            at = at.saturating_sub(1);
            if let Some(digit) = digits.get_mut(at) {
                *digit = hex_digit((value & 15) as u8);
            }
            value >>= 4;
            if value == 0 {
                break;
            }
        }
        at = at.saturating_sub(1);
        if let Some(x) = digits.get_mut(at) {
            *x = b'x';
        }
        at = at.saturating_sub(1);
        self.push(digits.get(at..).unwrap_or_default());
    }

    /// Appends text with C's escapes for what can't be printed and for `quote`, without quotes around it. Valid
    /// UTF-8 is kept; other bytes, and control characters, become `\ooo`, three octal
    /// digits, which nothing that follows can be mistaken for a part of.
    pub fn push_c_text(&mut self, bytes: &[u8], quote: u8) {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                self.push_c_char(c, quote);
            }
            for &byte in chunk.invalid() {
                self.push_octal(byte);
            }
        }
    }

    fn push_c_char(&mut self, c: char, quote: u8) {
        match c {
            '\n' => self.push(b"\\n"),
            '\t' => self.push(b"\\t"),
            '\r' => self.push(b"\\r"),
            '\\' => self.push(b"\\\\"),
            c if c as u32 == u32::from(quote) => self.push(&[b'\\', quote]),
            c if is_control(c) => {
                for &byte in c.encode_utf8(&mut [0; 4]).as_bytes() {
                    self.push_octal(byte);
                }
            }
            c => self.push_str(c.encode_utf8(&mut [0; 4])),
        }
    }

    fn push_octal(&mut self, byte: u8) {
        self.push(&[b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]);
    }

    /// Appends a JSON string with its quotes. Bytes that are no UTF-8 become `\u00XX`. Where the
    /// string would take over `most` bytes its end is left out; whether it was.
    pub fn push_json_text(&mut self, bytes: &[u8], most: usize) -> bool {
        let start = self.len;
        let mut whole = true;
        self.push(b"\"");
        'text: for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                // The longest escape and the quote.
                if self.len.saturating_sub(start).saturating_add(7) > most {
                    whole = false;
                    break 'text;
                }
                self.push_json_char(c);
            }
            for &byte in chunk.invalid() {
                if self.len.saturating_sub(start).saturating_add(7) > most {
                    whole = false;
                    break 'text;
                }
                self.push_json_byte(byte);
            }
        }
        self.push(b"\"");
        !whole
    }

    fn push_json_char(&mut self, c: char) {
        match c {
            '\n' => self.push(b"\\n"),
            '\t' => self.push(b"\\t"),
            '\r' => self.push(b"\\r"),
            '\\' => self.push(b"\\\\"),
            '"' => self.push(b"\\\""),
            c if is_control(c) && (c as u32) < 256 => self.push_json_byte(c as u8),
            c => self.push_str(c.encode_utf8(&mut [0; 4])),
        }
    }

    fn push_json_byte(&mut self, byte: u8) {
        self.push(&[b'\\', b'u', b'0', b'0', hex_digit(byte >> 4), hex_digit(byte & 15)]);
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble & 15) - 10,
    }
}

/// What a terminal may act upon, and what JSON parsers and editors take for the end of a line.
const fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}
