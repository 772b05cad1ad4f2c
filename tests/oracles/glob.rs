//! A second opinion on globs: the set of pattern positions that are alive after each byte of the text.

enum Element<'a> {
    Any,
    One,
    Literal(u8),
    Class(bool, &'a [u8]),
}

/// The pattern's elements.
fn elements(pattern: &[u8]) -> Vec<Element<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < pattern.len() {
        let (element, len) = match pattern[at] {
            b'*' => (Element::Any, 1),
            b'?' => (Element::One, 1),
            b'[' => match class(&pattern[at..]) {
                Some(len) => {
                    let body = &pattern[at + 1..at + len - 1];
                    let negated = matches!(body.first(), Some(b'!' | b'^'));
                    (Element::Class(negated, &body[usize::from(negated)..]), len)
                }
                None => (Element::Literal(b'['), 1),
            },
            b'\\' if at + 1 < pattern.len() => (Element::Literal(pattern[at + 1]), 2),
            other => (Element::Literal(other), 1),
        };
        found.push(element);
        at += len;
    }
    found
}

/// How long the class is that begins here, brackets and all; `None`: it isn't closed.
fn class(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    if matches!(text.get(at), Some(b'!' | b'^')) {
        at += 1;
    }
    let first = at;
    while at < text.len() {
        if text[at] == b']' && at > first {
            return Some(at + 1);
        }
        let is_range = text.get(at + 1) == Some(&b'-') && text.get(at + 2).is_some_and(|high| *high != b']');
        at += if is_range { 3 } else { 1 };
    }
    None
}

fn is_member(class: &[u8], byte: u8) -> bool {
    let mut at = 0;
    let mut found = false;
    while at < class.len() {
        if class.get(at + 1) == Some(&b'-') && at + 2 < class.len() {
            found |= class[at] <= byte && byte <= class[at + 2];
            at += 3;
        } else {
            found |= class[at] == byte;
            at += 1;
        }
    }
    found
}

/// Whether the whole text matches.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let elements = elements(pattern);
    let spread = |alive: &mut Vec<bool>| {
        for (index, element) in elements.iter().enumerate() {
            if alive[index] && matches!(element, Element::Any) {
                alive[index + 1] = true;
            }
        }
    };
    let mut alive = vec![false; elements.len() + 1];
    alive[0] = true;
    spread(&mut alive);
    for byte in text {
        let mut next = vec![false; elements.len() + 1];
        for (index, element) in elements.iter().enumerate().filter(|(index, _)| alive[*index]) {
            match element {
                Element::Any => next[index] = true,
                Element::One => next[index + 1] = true,
                Element::Literal(wanted) => next[index + 1] |= wanted == byte,
                Element::Class(negated, members) => {
                    next[index + 1] |= is_member(members, *byte) != *negated;
                }
            }
        }
        alive = next;
        spread(&mut alive);
    }
    alive[elements.len()]
}
