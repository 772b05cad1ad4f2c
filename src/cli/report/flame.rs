//! A flame graph as SVG: the width of a box is the time of a stack, calls stand on their callers.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Pixels.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const TITLE: f64 = 36.0;
const ROW: f64 = 17.0;
/// Boxes narrower than this are left out.
const LEAST: f64 = 0.1;
/// Of a character, about.
const LETTER: f64 = 7.0;

/// A frame with all that stands on it.
#[derive(Default)]
struct Node<'a> {
    own: u64,
    above: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    fn total(&self) -> u64 {
        self.above.values().fold(self.own, |sum, node| sum.saturating_add(node.total()))
    }

    fn depth(&self) -> usize {
        self.above.values().map(Node::depth).max().map_or(0, |depth| depth + 1)
    }

    fn add(&mut self, stack: &'a [String], ns: u64) {
        let mut node = self;
        for frame in stack {
            node = node.above.entry(frame).or_default();
        }
        node.own = node.own.saturating_add(ns);
    }
}

/// The picture of these stacks.
pub(super) fn svg(stacks: &BTreeMap<Vec<String>, u64>) -> String {
    let mut all = Node::default();
    stacks.iter().for_each(|(stack, ns)| all.add(stack, *ns));
    let total = all.total();
    let height = TITLE + ROW * (all.depth() + 1) as f64 + MARGIN;
    let mut out = String::new();
    let _ = write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg version=\"1.1\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f8f8f8\"/>\n\
         <text x=\"{}\" y=\"22\" text-anchor=\"middle\" font-size=\"16\">Flame graph</text>\n",
        WIDTH / 2.0
    );
    let scale = if total == 0 { 0.0 } else { (WIDTH - 2.0 * MARGIN) / total as f64 };
    let bottom = height - MARGIN - ROW;
    draw(&mut out, "all", &all, MARGIN, bottom, scale, total);
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, name: &str, node: &Node<'_>, x: f64, y: f64, scale: f64, all: u64) {
    let total = node.total();
    let width = total as f64 * scale;
    if width < LEAST {
        return;
    }
    let percent = total as f64 * 100.0 / all.max(1) as f64;
    let (label, red, green) = (escaped(name), 205 + hash(name) % 50, 80 + hash(name) / 50 % 120);
    let _ = writeln!(
        out,
        "<g><title>{label} ({total} ns, {percent:.2}%)</title><rect x=\"{x:.1}\" y=\"{y:.1}\" \
         width=\"{width:.1}\" height=\"{:.1}\" fill=\"rgb({red},{green},55)\" rx=\"2\"/>{}</g>",
        ROW - 1.0,
        text(name, x, y, width)
    );
    let mut x = x;
    for (name, node) in &node.above {
        draw(out, name, node, x, y - ROW, scale, all);
        x += node.total() as f64 * scale;
    }
}

/// As much of the name as fits.
fn text(name: &str, x: f64, y: f64, width: f64) -> String {
    let fitting = ((width - 6.0) / LETTER).max(0.0) as usize;
    if fitting < 3 {
        return String::new();
    }
    let shown = if name.chars().count() <= fitting {
        name.to_owned()
    } else {
        name.chars().take(fitting - 2).chain("..".chars()).collect()
    };
    format!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 3.0, y + 12.0, escaped(&shown))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The same name has the same colour in every picture.
fn hash(name: &str) -> u32 {
    name.bytes().fold(2_166_136_261, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619)) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stacks: &[(&[&str], u64)]) -> String {
        let own = |stack: &[&str]| stack.iter().map(|frame| (*frame).to_owned()).collect();
        svg(&stacks.iter().map(|(stack, ns)| (own(stack), *ns)).collect())
    }

    #[test]
    fn boxes_are_as_wide_as_their_times() {
        let svg = of(&[(&["main", "a<b>&\"c\""], 25), (&["main"], 75)]);
        assert!(svg.contains("<title>a&lt;b&gt;&amp;&quot;c&quot; (25 ns, 25.00%)</title>"), "{svg}");
        assert!(svg.contains("<title>main (100 ns, 100.00%)</title>"), "{svg}");
        assert!(svg.contains("width=\"295.0\"") && svg.contains("width=\"1180.0\""), "{svg}");
    }

    #[test]
    fn what_is_too_narrow_is_left_out() {
        let svg = of(&[(&["wide"], 1_000_000), (&["narrow"], 1)]);
        assert!(svg.contains("wide") && !svg.contains("narrow"), "{svg}");
        assert!(of(&[]).ends_with("</svg>\n"));
    }
}
