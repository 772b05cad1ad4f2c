//! Stacks of calls, collapsed: a line per stack with the time spent in its last call itself, in
//! nanoseconds. That is what flamegraph.pl, inferno and speedscope read.
//!
//! A call is inside another of the same thread where its time is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::Traces;
use crate::trace::record::comm_bytes;

/// Calls deeper than this count for the one above them.
const DEEPEST: usize = 500;

/// One call: when it began and returned, ns, and its number in the order of the returns.
struct Call<'a> {
    start: u64,
    end: u64,
    number: usize,
    name: &'a str,
}

/// A call with those around it: a stack. Its children are found by name.
struct Node {
    parent: Option<usize>,
    name: String,
    depth: usize,
    ns: i128,
}

#[derive(Default)]
struct Tree<'a> {
    nodes: Vec<Node>,
    children: HashMap<(Option<usize>, &'a str), usize>,
}

impl<'a> Tree<'a> {
    fn child(&mut self, parent: Option<usize>, name: &'a str) -> usize {
        let depth = parent.and_then(|at| self.nodes.get(at)).map_or(0, |node| node.depth + 1);
        if let Some(parent) = parent.filter(|_| depth > DEEPEST) {
            return parent;
        }
        *self.children.entry((parent, name)).or_insert_with(|| {
            self.nodes.push(Node { parent, name: frame(name), depth, ns: 0 });
            self.nodes.len() - 1
        })
    }

    fn add(&mut self, at: usize, ns: i128) {
        if let Some(node) = self.nodes.get_mut(at) {
            node.ns += ns;
        }
    }
}

/// The nanoseconds of each stack, outermost call first; before it, the thread's name.
pub(super) fn stacks(traces: &Traces) -> BTreeMap<Vec<String>, u64> {
    let mut threads: HashMap<(u32, u32), (String, Vec<Call<'_>>)> = HashMap::new();
    for (number, (trace, event)) in traces.events().into_iter().enumerate() {
        let (Some(head), Some(taken)) = (trace.head(event), event.latency_ns) else { continue };
        let (_, calls) = threads
            .entry((head.pid, head.tid))
            .or_insert_with(|| (String::from_utf8_lossy(comm_bytes(head.comm)).into_owned(), Vec::new()));
        calls.push(Call { start: event.ns.saturating_sub(taken), end: event.ns, number, name: head.name });
    }
    let mut tree = Tree::default();
    for (comm, calls) in threads.values_mut() {
        calls.sort_by_key(|call| (call.start, Reverse(call.end), Reverse(call.number)));
        let root = tree.child(None, comm);
        // Under way at the start of the call at hand: when they return, and what they are.
        let mut around: Vec<(u64, usize)> = Vec::new();
        for call in calls.iter() {
            while around.last().is_some_and(|(end, _)| *end < call.end) {
                around.pop();
            }
            let outside = around.last().map_or(root, |(_, node)| *node);
            let node = tree.child(Some(outside), call.name);
            let taken = i128::from(call.end - call.start);
            tree.add(node, taken);
            if outside != root {
                tree.add(outside, -taken);
            }
            around.push((call.end, node));
        }
    }
    let mut stacks = BTreeMap::new();
    for node in tree.nodes.iter().filter(|node| node.ns > 0) {
        let mut stack = vec![node.name.clone()];
        let mut above = node.parent;
        while let Some(node) = above.and_then(|at| tree.nodes.get(at)) {
            stack.push(node.name.clone());
            above = node.parent;
        }
        stack.reverse();
        *stacks.entry(stack).or_default() += u64::try_from(node.ns).unwrap_or(u64::MAX);
    }
    stacks
}

/// A frame must not hold what separates frames, nor what ends the line.
fn frame(name: &str) -> String {
    name.chars().map(|c| if c == ';' || c.is_control() { '_' } else { c }).collect()
}

/// A line per stack.
pub(super) fn write(out: &mut impl Write, traces: &Traces) -> std::io::Result<()> {
    for (stack, ns) in stacks(traces) {
        writeln!(out, "{} {ns}", stack.join(";"))?;
    }
    Ok(())
}
