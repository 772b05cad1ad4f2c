//! The record of a hit: the values of its fetch arguments, encoded into a buffer of fixed size.
//!
//! Runs at a hit: nothing here allocates, locks or panics; whatever the bytes, every loop is
//! bounded by their number. A leaf: `fetch` writes records, `event_text` and `event_json` print them.
//!
//! ```text
//! record  := value*  [FULL]           in the order of the program's arguments
//! value   := FAULT
//!          | INT8 u8 | INT16 u16 | INT32 u32 | INT64 u64
//!          | TEXT len:u16 byte*len  |  TEXT_CUT len:u16 byte*len
//!          | ARRAY count:u8 value*count  |  ARRAY_CUT count:u8 value*count     (no array in an array)
//! ```
//!
//! Numbers are little-endian. An integer is stored at the width of its type, without its sign:
//! whoever reads it knows the type. `FULL` says that the arguments from here on did not fit.

/// Bytes of a record.
pub const RECORD_CAPACITY: usize = 2048;
/// Most bytes of one string, without quotes and escapes; the rest is cut.
pub const MAX_STRING: usize = 255;
/// Bytes of the longest value that is no array: a string's tag, length and bytes.
pub const MAX_SCALAR: usize = TEXT_HEAD + MAX_STRING;
/// Bytes of a string's value in front of the string: its tag and its length.
pub const TEXT_HEAD: usize = 3;

const FULL: u8 = 0;
const FAULT: u8 = 1;
const INT8: u8 = 2;
const INT16: u8 = 3;
const INT32: u8 = 4;
const INT64: u8 = 5;
const TEXT: u8 = 6;
const TEXT_CUT: u8 = 7;
const ARRAY: u8 = 8;
const ARRAY_CUT: u8 = 9;

/// The first byte of an integer of `width` bytes (1, 2, 4 or 8), which follow.
#[must_use]
pub const fn int_tag(width: u8) -> u8 {
    match width {
        1 => INT8,
        2 => INT16,
        4 => INT32,
        _ => INT64,
    }
}

/// What reading a string gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextRead {
    /// All of it: this many bytes, without the NUL.
    Whole(usize),
    /// It goes on after the buffer's end.
    Cut,
    /// Part of it can't be read.
    Fault,
}

/// Appends values to a slice; each fits wholly or isn't there.
pub struct ValueWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> ValueWriter<'a> {
    /// A writer that begins at the start of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    /// How many bytes are written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(end) = self.len.checked_add(bytes.len()) else { return false };
        match self.bytes.get_mut(self.len..end) {
            Some(to) => {
                to.copy_from_slice(bytes);
                self.len = end;
                true
            }
            None => false,
        }
    }

    /// Appends `(fault)`. False where it doesn't fit, here as below.
    pub fn push_fault(&mut self) -> bool {
        self.push(&[FAULT])
    }

    /// Appends the low `width` bytes (1, 2, 4 or 8) of `value`.
    pub fn push_int(&mut self, value: u64, width: u8) -> bool {
        let tag = int_tag(width);
        let width = if tag == INT64 { 8 } else { usize::from(width) };
        let mut encoded = [0; 9];
        let [head, word @ ..] = &mut encoded;
        *head = tag;
        *word = value.to_le_bytes();
        self.push(encoded.get(..1 + width).unwrap_or_default())
    }

    /// Appends the string that `read` puts into the slice it is given, which has at most
    /// [`MAX_STRING`] bytes, or `(fault)` where that fails.
    pub fn push_text(&mut self, read: impl FnOnce(&mut [u8]) -> TextRead) -> bool {
        let start = self.len.saturating_add(TEXT_HEAD);
        let Some(space) = self.bytes.get_mut(start..) else { return false };
        let most = space.len().min(MAX_STRING);
        let Some(space) = space.get_mut(..most) else { return false };
        let (tag, len) = match read(space) {
            TextRead::Whole(len) => (TEXT, len.min(most)),
            TextRead::Cut if most == MAX_STRING => (TEXT_CUT, most),
            TextRead::Cut => return false,
            TextRead::Fault => return self.push_fault(),
        };
        let [low, high] = (len as u16).to_le_bytes();
        let fits = self.push(&[tag, low, high]);
        self.len = self.len.saturating_add(len);
        fits
    }

    /// Appends `count` elements, each by `push`, which is given its index. Those that fit are kept.
    pub fn push_array(&mut self, count: u8, mut push: impl FnMut(&mut Self, u8) -> bool) -> bool {
        let head = self.len;
        if !self.push(&[ARRAY, count]) {
            return false;
        }
        for index in 0..count {
            let mark = self.len;
            if !push(self, index) {
                self.len = mark;
                if let Some(at) = self.bytes.get_mut(head..mark)
                    && let [tag, written, ..] = at
                {
                    *tag = ARRAY_CUT;
                    *written = index;
                }
                break;
            }
        }
        true
    }
}

/// A record. Lives in per-thread memory: `new` is const, and nothing is to be dropped.
#[derive(Clone)]
pub struct RecordBuf {
    len: usize,
    /// Whether it ends in `FULL`.
    is_full: bool,
    bytes: [u8; RECORD_CAPACITY],
}

impl Default for RecordBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBuf {
    /// An empty record.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: 0, is_full: false, bytes: [0; RECORD_CAPACITY] }
    }

    /// Forgets the values.
    pub fn clear(&mut self) {
        self.len = 0;
        self.is_full = false;
    }

    /// Holds these values, of another record's [`RecordBuf::as_bytes`], in place of its own. What
    /// doesn't fit or is no value is left out, from the first such value on, and the record is full.
    pub fn restore(&mut self, bytes: &[u8]) {
        self.clear();
        let mut rest = RecordView::new(bytes);
        let mut fitting = 0;
        while rest.next().is_some() {
            let end = bytes.len().saturating_sub(rest.bytes.len());
            if end >= RECORD_CAPACITY {
                break;
            }
            fitting = end;
        }
        let values = bytes.get(..fitting).unwrap_or_default();
        self.push(|writer| writer.push(values));
        if fitting < bytes.len() {
            self.push(|_| false);
        }
    }

    /// The encoded values.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The values, to be read.
    #[must_use]
    pub fn view(&self) -> RecordView<'_> {
        RecordView::new(self.as_bytes())
    }

    /// Appends one argument by `push`. Where it doesn't fit, marks the record full and returns
    /// false, here and from now on.
    pub fn push(&mut self, push: impl FnOnce(&mut ValueWriter<'_>) -> bool) -> bool {
        if self.is_full {
            return false;
        }
        let start = self.len;
        // The last byte is kept for FULL.
        let Some(space) = self.bytes.get_mut(start..RECORD_CAPACITY - 1) else { return false };
        let mut writer = ValueWriter::new(space);
        let fits = push(&mut writer);
        let written = writer.len();
        if fits {
            self.len = start.saturating_add(written);
        } else if let Some(end) = self.bytes.get_mut(start) {
            *end = FULL;
            self.is_full = true;
            self.len = start.saturating_add(1);
        }
        fits
    }
}

/// A value of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// The memory couldn't be read.
    Fault,
    /// An integer of `width` bytes, without its sign.
    Int {
        /// The value, zero-extended.
        raw: u64,
        /// 1, 2, 4 or 8.
        width: u8,
    },
    /// A string.
    Text {
        /// Its bytes, of any encoding.
        bytes: &'a [u8],
        /// Whether it was longer.
        cut: bool,
    },
    /// An array.
    Array {
        /// Its elements, none of them an array.
        elements: RecordView<'a>,
        /// Whether there were more.
        cut: bool,
    },
}

/// Encoded values: those of a record, or those of an array. An iterator over them, which ends
/// early where the bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    is_array: bool,
}

impl<'a> RecordView<'a> {
    /// The values encoded in `bytes`, which may come from a file.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, is_array: false }
    }

    /// The bytes that are not read yet.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether arguments are missing because the record was full.
    #[must_use]
    pub fn is_full(self) -> bool {
        let mut rest = self;
        while rest.next().is_some() {}
        rest.bytes.first() == Some(&FULL)
    }

    fn take_int(&mut self, width: u8) -> Option<Value<'a>> {
        let (bytes, rest) = self.bytes.split_at_checked(usize::from(width))?;
        self.bytes = rest;
        let raw = bytes.iter().rev().fold(0u64, |raw, &byte| raw.wrapping_shl(8) | u64::from(byte));
        Some(Value::Int { raw, width })
    }

    fn take_text(&mut self, cut: bool) -> Option<Value<'a>> {
        let (&[low, high], rest) = self.bytes.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        self.bytes = rest;
        Some(Value::Text { bytes, cut })
    }

    fn take_array(&mut self, cut: bool) -> Option<Value<'a>> {
        let (&count, rest) = self.bytes.split_first()?;
        let mut after = RecordView { bytes: rest, is_array: true };
        for _ in 0..count {
            after.next()?;
        }
        let len = rest.len().saturating_sub(after.bytes.len());
        self.bytes = after.bytes;
        let elements = RecordView { bytes: rest.get(..len)?, is_array: true };
        Some(Value::Array { elements, cut })
    }
}

impl<'a> Iterator for RecordView<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let whole = self.bytes;
        let (&tag, rest) = whole.split_first()?;
        self.bytes = rest;
        let value = match tag {
            FAULT => Some(Value::Fault),
            INT8 => self.take_int(1),
            INT16 => self.take_int(2),
            INT32 => self.take_int(4),
            INT64 => self.take_int(8),
            TEXT | TEXT_CUT => self.take_text(tag == TEXT_CUT),
            ARRAY | ARRAY_CUT if !self.is_array => self.take_array(tag == ARRAY_CUT),
            _ => None,
        };
        if value.is_none() {
            self.bytes = whole;
        }
        value
    }
}

/// `raw`, an integer of `width` bytes, with its sign.
#[must_use]
pub(crate) const fn sign_extend(raw: u64, width: u8) -> i64 {
    match width {
        1 => raw as i8 as i64,
        2 => raw as i16 as i64,
        4 => raw as i32 as i64,
        _ => raw as i64,
    }
}

/// A thread's name without the NULs after it.
#[must_use]
pub(crate) fn comm_bytes(comm: &[u8; 16]) -> &[u8] {
    comm.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut record = RecordBuf::new();
        assert!(record.push(|w| w.push_int(0x1_02, 1)));
        assert!(record.push(|w| w.push_fault()));
        assert!(record.push(|w| w.push_int(u64::MAX, 8)));
        assert!(record.push(|w| w.push_text(|to| {
            to[..2].copy_from_slice(b"ab");
            TextRead::Whole(2)
        })));
        assert!(record.push(|w| w.push_array(2, |w, i| w.push_int(u64::from(i) + 7, 2))));
        assert!(record.push(|w| w.push_text(|_| TextRead::Fault)));
        assert_eq!(record.as_bytes()[..2], [INT8, 2]);
        let values: Vec<_> = record.view().collect();
        let Value::Array { elements, cut: false } = values[4] else { panic!("{values:?}") };
        assert_eq!(
            values,
            [
                Value::Int { raw: 2, width: 1 },
                Value::Fault,
                Value::Int { raw: u64::MAX, width: 8 },
                Value::Text { bytes: b"ab", cut: false },
                Value::Array { elements, cut: false },
                Value::Fault,
            ]
        );
        let elements: Vec<_> = elements.collect();
        assert_eq!(elements, [Value::Int { raw: 7, width: 2 }, Value::Int { raw: 8, width: 2 }]);
        assert!(!record.view().is_full());
        record.clear();
        assert_eq!(record.view().count(), 0);
    }

    #[test]
    fn a_long_string_is_cut_and_a_full_record_says_so() {
        let mut record = RecordBuf::new();
        let mut fitted = 0;
        while record.push(|w| w.push_text(|_| TextRead::Cut)) {
            fitted += 1;
        }
        // 2047 / 258: the eighth is not shortened, as nobody could tell it from a cut string.
        assert_eq!(fitted, 7);
        assert_eq!(record.view().count(), 7);
        assert!(record.view().is_full());
        assert!(
            record.view().all(|v| matches!(v, Value::Text { bytes, cut: true } if bytes.len() == MAX_STRING))
        );
    }

    #[test]
    fn a_record_fills_to_the_last_byte() {
        let mut record = RecordBuf::new();
        let mut fitted = 0;
        while record.push(|w| w.push_fault()) {
            fitted += 1;
        }
        assert_eq!(fitted, RECORD_CAPACITY - 1);
        assert_eq!(record.as_bytes().len(), RECORD_CAPACITY);
        assert!(record.view().is_full());
        // Full stays full.
        assert!(!record.push(|w| w.push_fault()));
        assert_eq!(record.as_bytes().len(), RECORD_CAPACITY);
    }

    #[test]
    fn a_record_is_put_away_and_restored() {
        let mut record = RecordBuf::new();
        record.restore(&[]);
        assert_eq!(record.as_bytes(), []);
        assert!(record.push(|w| w.push_int(7, 8)));
        let kept = record.as_bytes().to_vec();
        assert!(record.push(|w| w.push_fault()));
        record.restore(&kept);
        assert_eq!(record.as_bytes(), kept);
        assert!(record.push(|w| w.push_int(8, 1)));
        // One that ends in a byte like FULL's is not full.
        assert_eq!(record.view().count(), 2);
        // A full one stays full, also where there is room.
        record.restore(&[FAULT, FULL]);
        assert!(!record.push(|w| w.push_fault()));
        assert_eq!(record.as_bytes(), [FAULT, FULL]);
        record.clear();
        assert!(record.push(|w| w.push_fault()));
    }

    #[test]
    fn what_is_too_long_to_restore_is_cut_between_values() {
        let mut record = RecordBuf::new();
        let bytes = [INT64, 1, 2, 3, 4, 5, 6, 7, 8].repeat(300);
        record.restore(&bytes);
        assert_eq!(record.view().count(), (RECORD_CAPACITY - 1) / 9);
        assert!(record.view().is_full());
        assert!(record.view().all(|v| v == Value::Int { raw: 0x0807_0605_0403_0201, width: 8 }));
        // As long as a record can be, without its end.
        record.restore(&[FAULT; RECORD_CAPACITY]);
        assert_eq!(record.view().count(), RECORD_CAPACITY - 1);
        assert!(record.view().is_full());
        // And what is no value ends it.
        record.restore(&[FAULT, 200, FAULT]);
        assert_eq!(record.as_bytes(), [FAULT, FULL]);
    }

    #[test]
    fn an_array_keeps_the_elements_that_fit() {
        let mut record = RecordBuf::new();
        assert!(record.push(|w| w.push_array(64, |w, _| w.push_text(|_| TextRead::Cut))));
        let Some(Value::Array { elements, cut: true }) = record.view().next() else { panic!() };
        assert_eq!(elements.count(), 7);
    }

    #[test]
    fn bytes_that_are_no_record_end_it() {
        for bytes in [
            &[INT64, 1, 2][..],
            &[TEXT, 9, 0, b'x'],
            &[TEXT, 9],
            &[ARRAY],
            &[ARRAY, 3, FAULT],
            &[ARRAY, 1, ARRAY, 1, FAULT],
            &[200],
            &[FULL, FAULT],
        ] {
            assert_eq!(RecordView::new(bytes).next(), None, "{bytes:?}");
        }
    }
}
