//! Any text as the fetch arguments and the filter of a probe, run in worlds of random registers and
//! memory with holes, and compared with what [`model`] says.
//!
//! ```text
//! byte 0     where the probe is          lines: an argument of the entry
//! bytes 1–8  the world                          >  one of the return
//!                                               ?  the filter
//! ```

use std::cmp::Ordering;

use uprobe::fetch::arg::Base;
use uprobe::fetch::filter::{self, FilterExpr};
use uprobe::fetch::{At, Condition, EventProgram, FetchArg, Next, Relation, compile, parse_arg};
use uprobe::syntax::SyntaxError;
use uprobe::trace::record::{RecordBuf, Value};

use super::bytes::Bytes;
use super::model::{self, Seen};
use super::world::World;

/// The arguments and the filter of one probe.
struct Probe {
    at: At,
    args: Vec<FetchArg>,
    ret: Vec<FetchArg>,
    filter: Option<FilterExpr>,
}

/// Runs what the bytes say.
pub fn check(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let at = [At::Entry, At::Inside, At::Return, At::Call][bytes.below(4)];
    let world = World::new(bytes.word());
    let later = world.later(&bytes);
    let text = String::from_utf8_lossy(bytes.0);
    let mut probe = Probe { at, args: Vec::new(), ret: Vec::new(), filter: None };
    for line in text.split('\n') {
        match line.as_bytes().first() {
            Some(b'?') => {
                if let Some(expr) = parsed(&line[1..], filter::parse(&line[1..])) {
                    probe.filter = Some(expr);
                }
            }
            Some(b'>') => probe.ret.extend(parsed(&line[1..], parse_arg(&line[1..]))),
            _ => probe.args.extend(parsed(line, parse_arg(line))),
        }
    }
    // One text that is wrong must not hide the others: they are left out one by one.
    let program = loop {
        match compile(&probe.args, &probe.ret, probe.filter.as_ref(), at) {
            Ok(program) => break program,
            Err(error) => {
                assert!(!error.to_string().is_empty() && error.error.len >= 1, "{error:?}");
                match error.part {
                    uprobe::fetch::Part::Arg(index) if index < probe.args.len() => {
                        drop(probe.args.remove(index));
                    }
                    uprobe::fetch::Part::Arg(index) => drop(probe.ret.remove(index - probe.args.len())),
                    uprobe::fetch::Part::Filter => {
                        assert!(probe.filter.take().is_some());
                    }
                }
            }
        }
    };
    name(&mut probe);
    run(&probe, &program, &world, &later);
}

/// A mistake is said of a place in the text.
fn parsed<T>(text: &str, result: Result<T, SyntaxError>) -> Option<T> {
    result
        .map_err(|error| {
            assert!(error.at <= text.len() && error.len >= 1, "{text:?}: {error:?}");
            assert!(error.at + error.len <= text.len().max(error.at + 1), "{text:?}: {error:?}");
            assert!(text.is_char_boundary(error.at), "{text:?}: {error:?}");
        })
        .ok()
}

fn name(probe: &mut Probe) {
    for (index, arg) in probe.args.iter_mut().chain(&mut probe.ret).enumerate() {
        *arg = arg.clone().with_default_name(index);
    }
}

/// The values the model gives, as many as fit; whether that is all of them.
fn expected(args: &[FetchArg], world: &World, room: &mut usize, values: &mut Vec<Seen>) -> bool {
    for arg in args {
        let Some(value) = model::value(arg, world, *room) else { return false };
        *room -= model::size(&value);
        values.push(value);
    }
    true
}

fn seen(value: Value<'_>) -> Seen {
    match value {
        Value::Fault => Seen::Fault,
        Value::Int { raw, width } => Seen::Int(raw, width.into()),
        Value::Text { bytes, cut } => Seen::Text(bytes.to_vec(), cut),
        Value::Array { elements, cut } => Seen::Array(elements.map(seen).collect(), cut),
    }
}

fn run(probe: &Probe, program: &EventProgram, world: &World, later: &World) {
    let mut record = RecordBuf::new();
    program.fetch(&world.input(), &mut record);
    assert!(record.as_bytes().len() <= program.most_entry_bytes());
    let entry = record.clone();
    let (mut room, mut values) = (model::ROOM, Vec::new());
    let mut fits = expected(&probe.args, world, &mut room, &mut values);
    assert_eq!(record.view().map(seen).collect::<Vec<_>>(), values);
    assert_eq!(record.view().is_full(), !fits);
    let recorded_of_entry = values.len();

    program.fetch_return(&later.input(), &mut record);
    fits = fits && expected(&probe.ret, later, &mut room, &mut values);
    assert_eq!(record.view().map(seen).collect::<Vec<_>>(), values);
    assert_eq!(record.view().is_full(), !fits);

    let decides_at_entry = program.filters_at_entry();
    let follows = matches!(probe.at, At::Return | At::Call);
    let (moment, with_record) = if decides_at_entry { (world, &entry) } else { (later, &record) };
    let accepted = program.accepts(with_record, &moment.input());
    if let Some(filter) = &probe.filter {
        let of = |name: &str| field(probe, name, world, later, decides_at_entry, recorded_of_entry);
        assert_eq!(accepted, model::holds(filter, moment, &of), "{filter:?}");
    } else {
        assert!(accepted);
    }
    compiled_test(program, world, accepted);
    what_is_needed(probe, program, (world, later), (&entry, &record), accepted, follows);
}

/// The value of an argument as the filter sees it.
fn field(
    probe: &Probe,
    name: &str,
    world: &World,
    later: &World,
    decides_at_entry: bool,
    recorded_of_entry: usize,
) -> Option<(Option<Seen>, Base)> {
    if let Some(index) = probe.args.iter().position(|arg| arg.name == name) {
        let arg = &probe.args[index];
        // At the return, what the record had no room for can't be read any more.
        let is_known = decides_at_entry || index < recorded_of_entry;
        let value = is_known.then(|| model::value(arg, world, model::ROOM)).flatten();
        return Some((value, arg.ty.base));
    }
    let arg = probe.ret.iter().find(|arg| arg.name == name)?;
    Some((model::value(arg, later, model::ROOM), arg.ty.base))
}

/// The comparisons that are compiled to code decide the same.
fn compiled_test(program: &EventProgram, world: &World, accepted: bool) {
    let Some(comparisons) = program.comparisons() else { return };
    let mut at = 0;
    let decided = loop {
        let comparison = &comparisons[at];
        let bits = (world.regs.get(comparison.value.reg) >> comparison.value.shift) & comparison.value.mask;
        let unused = 64 - comparison.value.signed_bits.map_or(64, u32::from);
        let signed = (bits << unused) as i64 >> unused;
        let holds = match comparison.condition {
            Condition::Unsigned(relation, constant) => related(relation, bits.cmp(&constant)),
            Condition::Signed(relation, constant) => related(relation, signed.cmp(&constant)),
            Condition::AnyBit(mask) => signed as u64 & mask != 0,
        };
        match if holds { comparison.if_true } else { comparison.if_false } {
            // Only ever on: no filter runs for ever.
            Next::Step(next) if usize::from(next) > at => at = usize::from(next),
            Next::Step(next) => panic!("{next} after {at}: {comparisons:?}"),
            Next::Accept => break true,
            Next::Reject => break false,
        }
    };
    assert_eq!(decided, accepted, "{comparisons:?}");
}

fn related(relation: Relation, order: Ordering) -> bool {
    match relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Less => order.is_lt(),
        Relation::LessOrEqual => order.is_le(),
        Relation::Greater => order.is_gt(),
        Relation::GreaterOrEqual => order.is_ge(),
    }
}

/// A hit that makes only what is needed, as the hit path does, decides the same.
fn what_is_needed(
    probe: &Probe,
    program: &EventProgram,
    (world, later): (&World, &World),
    (entry, whole): (&RecordBuf, &RecordBuf),
    accepted: bool,
    follows: bool,
) {
    let integers = program.args().iter().enumerate().filter(|(_, arg)| arg.is_integer());
    let first = integers.map(|(index, _)| index as u16).next_back();
    for value in [None, first] {
        for log in [false, true] {
            let needs = program.needs(log, follows, value.iter().map(|index| Some(*index)));
            // What nobody needs to be timed is not.
            let at_entry = World { ts_ns: if needs.entry_time { world.ts_ns } else { 0 }, ..copy(world) };
            let at_return = World { ts_ns: if needs.return_time { later.ts_ns } else { 0 }, ..copy(later) };
            let mut record = RecordBuf::new();
            if needs.entry_record {
                program.fetch(&at_entry.input(), &mut record);
                assert_eq!(record.as_bytes(), entry.as_bytes());
            }
            let decided = program.filters_at_entry().then(|| program.accepts(&record, &at_entry.input()));
            if !follows {
                assert_eq!(decided.unwrap_or(accepted), accepted, "{:?}", probe.filter);
                read_value(program, value, &record, entry, &at_entry, false);
                continue;
            }
            let kept = record.as_bytes().to_vec();
            record.clear();
            if needs.return_record {
                record.restore(if needs.kept { &kept } else { &[] });
                program.fetch_return(&at_return.input(), &mut record);
            }
            let decided = decided.unwrap_or_else(|| program.accepts(&record, &at_return.input()));
            assert_eq!(decided, accepted, "log {log}, {needs:?}, {:?}", probe.filter);
            if log {
                assert_eq!(record.as_bytes(), whole.as_bytes());
            }
            read_value(program, value, &record, whole, &at_return, true);
        }
    }
}

/// A histogram's value is the same whatever the record holds.
fn read_value(
    program: &EventProgram,
    value: Option<u16>,
    record: &RecordBuf,
    whole: &RecordBuf,
    world: &World,
    is_return: bool,
) {
    let Some(index) = value else { return };
    let from_record = program.integer(index, record, &world.input(), is_return);
    let from_whole = program.integer(index, whole, &world.input(), is_return);
    assert_eq!(from_record, from_whole, "argument {index}");
}

fn copy(world: &World) -> World {
    World { memory: world.memory.clone(), ..*world }
}
