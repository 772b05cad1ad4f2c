//! What fetch arguments and filters mean, said a second time, from the parsed text and byte by byte: no
//! program is compiled, nothing is bounded by a buffer but what the format itself bounds.

use uprobe::fetch::FetchArg;
use uprobe::fetch::arg::{Base, Origin};
use uprobe::fetch::filter::{Comparison, FilterExpr, Op, Quote};
use uprobe::regs::{ARGUMENT_REGS, Regs};

use super::glob;
use super::world::World;

/// Bytes of a record but the last, and of a string.
pub const ROOM: usize = 2047;
const LONGEST: usize = 255;

/// A value as a record has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Fault,
    Int(u64, usize),
    Text(Vec<u8>, bool),
    Array(Vec<Seen>, bool),
}

/// The base's bytes, and how its integer is cut out of them.
fn shape(base: Base) -> (usize, u32, u64) {
    let all = |bytes: usize| (bytes, 0, if bytes == 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 });
    match base {
        Base::Unsigned(width) | Base::Signed(width) | Base::Hex(width) => all(usize::from(width.bytes())),
        Base::Char => all(1),
        Base::Bits { bits, shift, container } => {
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            (usize::from(container.bytes()), u32::from(shift), mask)
        }
        _ => all(8),
    }
}

enum Found {
    Number(u64),
    At(u64),
    Bytes(Vec<u8>),
}

fn word(world: &World, at: u64, len: usize) -> Option<u64> {
    let mut value = 0;
    for index in 0..len {
        let byte = world.memory.byte(at.checked_add(index as u64)?)?;
        value |= u64::from(byte) << (8 * index);
    }
    Some(value)
}

/// The origin: a number, or an address to be read from.
fn origin(arg: &FetchArg, world: &World) -> Option<Found> {
    let Regs { rsp, rax, .. } = world.regs;
    Some(Found::Number(match &arg.source.origin {
        Origin::Register(part) => {
            let value = world.regs.get(part.reg) >> part.shift;
            if part.bits == 64 { value } else { value & ((1 << part.bits) - 1) }
        }
        Origin::Argument(n) if *n <= 6 => world.regs.get(ARGUMENT_REGS[*n as usize - 1]),
        // The return address lies at rsp, the seventh argument above it.
        Origin::Argument(n) => word(world, rsp.wrapping_add(8 * (u64::from(*n) - 6)), 8)?,
        Origin::ReturnValue => rax,
        Origin::StackWord(n) => word(world, rsp.wrapping_add(8 * u64::from(*n)), 8)?,
        Origin::Stack => rsp,
        Origin::Comm => return Some(Found::Bytes(world.name().to_vec())),
        Origin::Tid => world.tid.into(),
        Origin::Timestamp => world.ts_ns,
        Origin::Latency => world.latency_ns,
        Origin::Address(address) => return Some(Found::At(*address)),
        // Nobody has bound it.
        Origin::File(_) => return None,
        Origin::Immediate(value) => *value,
        Origin::ImmediateText(text) => return Some(Found::Bytes(text.clone())),
        Origin::Xmm(_) | Origin::Parameter(_) => return None,
    }))
}

/// The value, in a record that has `room` bytes left; `None`: it does not fit.
pub fn value(arg: &FetchArg, world: &World, room: usize) -> Option<Seen> {
    let fault = || (room >= 1).then_some(Seen::Fault);
    let Some(mut found) = origin(arg, world) else { return fault() };
    for offset in &arg.source.derefs {
        let from = match found {
            Found::Number(value) => value,
            Found::At(address) => match word(world, address, 8) {
                Some(value) => value,
                None => return fault(),
            },
            Found::Bytes(_) => return fault(),
        };
        found = Found::At(from.wrapping_add_signed(*offset));
    }
    if let (Base::Text, Found::Number(value)) = (arg.ty.base, &found) {
        // A string's value is its address.
        found = Found::At(*value);
    }
    match (arg.ty.count, &found) {
        (None, _) => one(arg.ty.base, found, world, room),
        (Some(count), Found::At(base)) => array(arg.ty.base, *base, count, world, room),
        (Some(_), _) => fault(),
    }
}

fn one(base: Base, found: Found, world: &World, room: usize) -> Option<Seen> {
    if base == Base::Text {
        return text(found, world, room);
    }
    let (width, shift, mask) = shape(base);
    let raw = match found {
        Found::Number(value) => Some(value),
        Found::At(at) => word(world, at, width),
        Found::Bytes(_) => None,
    };
    let seen = raw.map_or(Seen::Fault, |raw| Seen::Int(raw >> shift & mask, width));
    (size(&seen) <= room).then_some(seen)
}

fn text(found: Found, world: &World, room: usize) -> Option<Seen> {
    // So much of it would be looked at.
    let most = LONGEST.min(room.checked_sub(3)?);
    let byte = |index: usize| match &found {
        Found::Bytes(bytes) => Some(bytes.get(index).copied()),
        Found::At(at) => match world.memory.byte(at.wrapping_add(index as u64)) {
            Some(0) => Some(None),
            Some(byte) => Some(Some(byte)),
            None => None,
        },
        Found::Number(_) => None,
    };
    let mut bytes = Vec::new();
    loop {
        match byte(bytes.len()) {
            None => return Some(Seen::Fault),
            Some(None) => return Some(Seen::Text(bytes, false)),
            Some(Some(_)) if bytes.len() == most => {
                return (most == LONGEST).then_some(Seen::Text(bytes, true));
            }
            Some(Some(byte)) => bytes.push(byte),
        }
    }
}

fn array(base: Base, at: u64, count: u8, world: &World, room: usize) -> Option<Seen> {
    let mut left = room.checked_sub(2)?;
    let mut elements = Vec::new();
    for index in 0..u64::from(count) {
        let element = if base == Base::Text {
            match word(world, at.wrapping_add(8 * index), 8) {
                Some(pointer) => one(base, Found::At(pointer), world, left),
                None => (left >= 1).then_some(Seen::Fault),
            }
        } else {
            let width = shape(base).0 as u64;
            one(base, Found::At(at.wrapping_add(width * index)), world, left)
        };
        let Some(element) = element else { return Some(Seen::Array(elements, true)) };
        left -= size(&element);
        elements.push(element);
    }
    Some(Seen::Array(elements, false))
}

/// Bytes of it in a record.
pub fn size(seen: &Seen) -> usize {
    match seen {
        Seen::Fault => 1,
        Seen::Int(_, width) => 1 + width,
        Seen::Text(bytes, _) => 3 + bytes.len(),
        Seen::Array(elements, _) => 2 + elements.iter().map(size).sum::<usize>(),
    }
}

/// What a name stands for: its value, if it could be read, and what it is.
pub type Named<'a> = dyn Fn(&str) -> Option<(Option<Seen>, Base)> + 'a;

/// Whether the filter holds; `of` gives the value of the argument of this name, where there is one, and
/// its type.
pub fn holds(expr: &FilterExpr, world: &World, of: &Named) -> bool {
    match expr {
        FilterExpr::All(terms) => terms.iter().all(|term| holds(term, world, of)),
        FilterExpr::Any(terms) => terms.iter().any(|term| holds(term, world, of)),
        FilterExpr::Not(term) => !holds(term, world, of),
        FilterExpr::Compare(comparison) => {
            let unsigned = |value, width| (Some(Seen::Int(value, width)), Base::Char);
            let field = of(&comparison.field).unwrap_or_else(|| match comparison.field.as_str() {
                "$tid" | "common_pid" => unsigned(world.tid.into(), 4),
                "$ts" => unsigned(world.ts_ns, 8),
                "$latency" => unsigned(world.latency_ns, 8),
                _ => (Some(Seen::Text(world.name().to_vec(), false)), Base::Text),
            });
            match field {
                (Some(Seen::Int(raw, width)), base) => number_holds(comparison, raw, width, base),
                (Some(Seen::Text(bytes, cut)), _) => text_holds(comparison, &bytes, cut),
                _ => false,
            }
        }
    }
}

fn number_holds(comparison: &Comparison, raw: u64, width: usize, base: Base) -> bool {
    let constant = constant(comparison);
    let value = match base {
        Base::Signed(_) => {
            let unused = 64 - 8 * width as u32;
            i128::from((raw << unused) as i64 >> unused)
        }
        _ => i128::from(raw),
    };
    match comparison.op {
        Op::Equal => value == constant,
        Op::NotEqual => value != constant,
        Op::Less => value < constant,
        Op::LessOrEqual => value <= constant,
        Op::Greater => value > constant,
        Op::GreaterOrEqual => value >= constant,
        Op::Bits => raw & constant as u64 != 0,
        Op::Glob => panic!("~ on a number"),
    }
}

/// The number of a filter that was accepted.
fn constant(comparison: &Comparison) -> i128 {
    if comparison.quote == Quote::Single {
        let bytes = unescaped(&comparison.value);
        assert_eq!(bytes.len(), 1);
        return bytes[0].into();
    }
    let (sign, digits) = match comparison.value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, comparison.value.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.starts_with('0') => (lower.as_str(), 8),
        None => (lower.as_str(), 10),
    };
    sign * i128::from_str_radix(digits, radix).expect("a number")
}

fn text_holds(comparison: &Comparison, bytes: &[u8], cut: bool) -> bool {
    let wanted = match comparison.quote {
        Quote::None => comparison.value.as_bytes().to_vec(),
        _ => unescaped(&comparison.value),
    };
    match comparison.op {
        Op::Equal => !cut && bytes == wanted,
        Op::NotEqual => cut || bytes != wanted,
        Op::Glob => glob::matches(comparison.value.as_bytes(), bytes),
        _ => panic!("an order of strings"),
    }
}

fn unescaped(value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let next = bytes.clone().next();
        out.push(match (byte, next) {
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(quote @ (b'\\' | b'"' | b'\''))) => quote,
            _ => {
                out.push(byte);
                continue;
            }
        });
        bytes.next();
    }
    out
}
