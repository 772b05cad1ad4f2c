//! Evaluates a filter over the values of a record.
//!
//! Runs at a hit, in the probed thread, under the rules of a signal handler: nothing here
//! allocates, locks, formats or panics. Bounded: the steps jump forward only, and a glob takes
//! at most (255 · 255) comparisons of a byte.
//!
//! A comparison with a value that couldn't be read is false, `!=` too; `!( )` of it is true.

use crate::fetch::eval::HitInput;
use crate::fetch::program::{ACCEPT, ArgProgram, EventProgram, Operand, Relation, Step, Test};
use crate::trace::record::{MAX_SCALAR, RecordBuf, RecordView, Value, ValueWriter, comm_bytes, sign_extend};

impl EventProgram {
    /// Whether the hit passes the filter. Without a filter every hit passes.
    ///
    /// Where [`EventProgram::filters_at_entry`], to be asked at the entry, with the `record` that
    /// [`EventProgram::fetch`] wrote; else at the return, after [`EventProgram::fetch_return`]. What is not
    /// in the record is read here: where [`Needs`](crate::fetch::Needs) says so, it may be empty.
    #[must_use]
    pub fn accepts(&self, record: &RecordBuf, input: &HitInput<'_>) -> bool {
        let mut index = 0;
        // Forward jumps only, so that no step is taken twice.
        for _ in 0..self.filter.len() {
            let Some(step) = self.filter.get(usize::from(index)) else { break };
            index = if self.holds(step, record, input) { step.if_true } else { step.if_false };
        }
        self.filter.is_empty() || index == ACCEPT
    }

    fn holds(&self, step: &Step, record: &RecordBuf, input: &HitInput<'_>) -> bool {
        match step.operand {
            Operand::Tid => step.test.holds(Value::Int { raw: u64::from(input.tid), width: 4 }),
            Operand::Timestamp => step.test.holds(Value::Int { raw: input.ts_ns, width: 8 }),
            Operand::Latency => step.test.holds(Value::Int { raw: input.latency_ns, width: 8 }),
            Operand::Comm => step.test.holds(Value::Text { bytes: comm_bytes(input.comm), cut: false }),
            Operand::Arg(index) => match record.view().nth(usize::from(index)) {
                Some(value) => step.test.holds(value),
                None => self.holds_unrecorded(step, index, input),
            },
        }
    }

    /// The same for an argument that is not in the record, since that is full or was not wanted: reads
    /// it. At the return, an argument of the entry can't be read any more: then the comparison is false.
    #[inline]
    fn holds_unrecorded(&self, step: &Step, index: u16, input: &HitInput<'_>) -> bool {
        if usize::from(index) < self.entry_args && !self.filters_at_entry() {
            return false;
        }
        match self.args.get(usize::from(index)) {
            Some(arg) if arg.is_integer() => {
                arg.integer(input).is_some_and(|(raw, width)| step.test.holds(Value::Int { raw, width }))
            }
            Some(arg) => Self::holds_beyond(step, arg, input),
            None => false,
        }
    }

    /// The same for a string.
    #[cold]
    fn holds_beyond(step: &Step, arg: &ArgProgram, input: &HitInput<'_>) -> bool {
        let mut scratch = [0; MAX_SCALAR];
        let mut writer = ValueWriter::new(&mut scratch);
        if !arg.encode(input, &mut writer) {
            return false;
        }
        let len = writer.len();
        let value = scratch.get(..len).and_then(|bytes| RecordView::new(bytes).next());
        value.is_some_and(|value| step.test.holds(value))
    }
}

impl Test {
    fn holds(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::Unsigned(relation, other), Value::Int { raw, .. }) => relation.holds(&raw, other),
            (Self::Signed(relation, other), Value::Int { raw, width }) => {
                relation.holds(&sign_extend(raw, width), other)
            }
            (Self::Bits(mask), Value::Int { raw, .. }) => raw & mask != 0,
            // A cut string is longer than any constant.
            (Self::Text(equal, other), Value::Text { bytes, cut }) => {
                (!cut && bytes == other.as_ref()) == *equal
            }
            (Self::Glob(pattern), Value::Text { bytes, .. }) => glob_matches(pattern, bytes),
            _ => false,
        }
    }
}

impl Relation {
    fn holds<T: Ord>(self, value: &T, other: &T) -> bool {
        match self {
            Self::Equal => value == other,
            Self::NotEqual => value != other,
            Self::Less => value < other,
            Self::LessOrEqual => value <= other,
            Self::Greater => value > other,
            Self::GreaterOrEqual => value >= other,
        }
    }
}

/// Whether the whole of `text` matches `pattern`: the kernel's `lib/glob.c`. `*` any bytes, `?` any
/// one, `[a-z]` and `[!a-z]` one of a class, `\` takes the next byte literally. A class that
/// isn't closed is a literal `[`.
fn glob_matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // Where to go on when the bytes after the last `*` don't match: with that `*` one byte longer.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, text));
            pattern = rest;
            continue;
        }
        let matched = match (pattern, text) {
            ([], []) => return true,
            ([], _) | (_, []) => None,
            (_, [byte, after @ ..]) => match_one(pattern, *byte).map(|rest| (rest, after)),
        };
        match (matched, retry) {
            (Some(next), _) => (pattern, text) = next,
            (None, Some((after_star, [_, shorter @ ..]))) => {
                retry = Some((after_star, shorter));
                (pattern, text) = (after_star, shorter);
            }
            (None, _) => return false,
        }
    }
}

/// The pattern after its first element, if that matches `byte`. It is not `*`.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => match match_class(class, byte) {
            Some((true, rest)) => Some(rest),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(class),
        },
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Whether `byte` is in the class that begins after `[`, and the pattern after its `]`; `None` where it isn't
/// closed. A `]` that comes first is a member.
fn match_class(class: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    let mut first = true;
    loop {
        rest = match rest {
            [b']', rest @ ..] if !first => return Some((found != negated, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [member, rest @ ..] => {
                found |= *member == byte;
                rest
            }
            [] => return None,
        };
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "abc"][..], &[][..]),
            ("", &[""], &["a"]),
            ("abc", &["abc"], &["ab", "abcd", "Abc"]),
            ("/etc/*", &["/etc/", "/etc/passwd", "/etc/a/b"], &["/etc", "/var/etc/x"]),
            ("*.so", &["a.so", ".so", "x.so.so"], &["a.so.6", "so"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a", "b"]),
            ("a?c", &["abc", "a?c"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]),
            ("[!a-c]x", &["dx"], &["ax", "x"]),
            ("[^a-c]x", &["dx"], &["ax"]),
            ("[]]", &["]"], &["["]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[a", &["[a"], &["a"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("\\", &["\\"], &[""]),
            ("**", &["", "a"], &[]),
            ("*?", &["a", "ab"], &[""]),
        ] {
            for text in yes {
                assert!(glob_matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
            for text in no {
                assert!(!glob_matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn the_worst_glob_ends() {
        let pattern = [b"*a".repeat(127), b"b".to_vec()].concat();
        assert!(!glob_matches(&pattern, &b"a".repeat(255)));
    }
}
