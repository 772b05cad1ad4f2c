//! Typed reading of one TOML table: unknown keys, wrong types, ranges, choices.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::Report;
use crate::config::located::Located;

/// A TOML table with the keys it may have.
pub(super) struct Table<'a, 'i> {
    entries: &'a DeTable<'i>,
    /// As messages call it: `[output]`.
    what: &'static str,
    /// The header, for what is missing.
    header: Range<usize>,
}

impl<'a, 'i> Table<'a, 'i> {
    /// `what` is how messages call the table, `header` where it begins.
    pub(super) const fn new(entries: &'a DeTable<'i>, what: &'static str, header: Range<usize>) -> Self {
        Self { entries, what, header }
    }

    /// Where it begins.
    pub(super) fn header(&self) -> Range<usize> {
        self.header.clone()
    }

    /// Reports every key that is not in `known`, with the nearest that is.
    pub(super) fn check_keys(&self, known: &[&str], report: &mut Report<'_>) {
        for (key, _) in self.entries.iter() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let advice = key_advice(name, known, self.what);
                report.error(key.span(), format!("unknown key '{name}' in {}; {advice}", self.what));
            }
        }
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.entries.get(key)
    }

    /// Where `key` itself stands, if it is there.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.entries.get_key_value(key).map(|(k, _)| k.span())
    }

    /// A string.
    pub(super) fn string(&self, key: &str, report: &mut Report<'_>) -> Option<Located> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Located::from_token(report.text(), value.span(), text)),
            other => {
                wrong_type(report, value.span(), key, "a string", other);
                None
            }
        }
    }

    /// An array of strings; empty if the key is not there.
    pub(super) fn strings(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<Located>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            if matches!(value.get_ref(), DeValue::String(_)) {
                let advice = format!("write {key} = [{}]", &report.text()[value.span()]);
                let advice = if advice.len() < 60 { advice } else { "put it into [ ]".to_owned() };
                report.error(
                    value.span(),
                    format!("'{key}' must be an array of strings, found a string; {advice}"),
                );
            } else {
                wrong_type(report, value.span(), key, "an array of strings", value.get_ref());
            }
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Located::from_token(report.text(), item.span(), text)),
                other => {
                    let found = type_name(other);
                    report.error(
                        item.span(),
                        format!("'{key}' must be an array of strings, found {found} in it"),
                    );
                }
            }
        }
        Some(texts)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, key: &str, report: &mut Report<'_>) -> Option<bool> {
        let value = self.get(key)?;
        if let DeValue::Boolean(found) = value.get_ref() {
            return Some(*found);
        }
        wrong_type(report, value.span(), key, "true or false", value.get_ref());
        None
    }

    /// An integer within `min..=max`.
    pub(super) fn integer(&self, key: &str, min: u64, max: u64, report: &mut Report<'_>) -> Option<u64> {
        let value = self.get(key)?;
        let DeValue::Integer(found) = value.get_ref() else {
            wrong_type(report, value.span(), key, "an integer", value.get_ref());
            return None;
        };
        match i128::from_str_radix(found.as_str(), found.radix()) {
            Ok(number) if number >= i128::from(min) && number <= i128::from(max) => Some(number as u64),
            _ => {
                let shown = &report.text()[value.span()];
                let message = match max {
                    _ if found.as_str().is_empty() => format!("'{key}' must be an integer, found {shown}"),
                    _ if min > 0 && found.as_str().trim_start_matches('-') == "0" => {
                        format!("'{key}' must be at least {min}, found {shown}")
                    }
                    _ if found.as_str().starts_with('-') => {
                        format!("'{key}' can't be negative, found {shown}")
                    }
                    _ => format!("'{key}' can be at most {max}, found {shown}"),
                };
                report.error(value.span(), message);
                None
            }
        }
    }

    /// One of a few words, and where it stands.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
        report: &mut Report<'_>,
    ) -> Option<(T, Range<usize>)> {
        let text = self.string(key, report)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some((*choice, text.whole()));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let list = list_words(&words);
        let advice = match nearest(&text.value, &words) {
            Some(word) => format!("did you mean '{word}'? It is one of {list}"),
            None => format!("it is one of {list}"),
        };
        report.error(text.whole(), format!("'{key}' can't be '{}'; {advice}", text.value));
        None
    }
}

/// `'a', 'b' or 'c'`.
fn list_words(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn wrong_type(report: &mut Report<'_>, range: Range<usize>, key: &str, expected: &str, found: &DeValue<'_>) {
    let advice = match (expected, found) {
        ("an integer", DeValue::String(text)) if text.parse::<u64>().is_ok() => "; write it without quotes",
        ("true or false", DeValue::String(text)) if *text == "true" || *text == "false" => {
            "; write it without quotes"
        }
        _ => "",
    };
    report.error(range, format!("'{key}' must be {expected}, found {}{advice}", type_name(found)));
}

/// What messages call a value's type.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The word the user probably meant; None if none is near.
pub(super) fn nearest<'w>(found: &str, words: &[&'w str]) -> Option<&'w str> {
    let found = found.to_lowercase();
    let (distance, word) = words.iter().map(|word| (strsim::osa_distance(&found, word), *word)).min()?;
    let longest = found.chars().count().max(word.len());
    // A third of the letters may be wrong; one of a two-letter word.
    let is_near = distance <= longest.div_ceil(3) && distance < longest;
    (is_near || (found.len() >= 3 && word.starts_with(&found))).then_some(word)
}

/// Words people bring from other tools, and ours for them.
const SYNONYMS: [(&str, &str); 24] = [
    ("where", "at"),
    ("place", "at"),
    ("symbol", "at"),
    ("function", "at"),
    ("func", "at"),
    ("probe", "at"),
    ("type", "kind"),
    ("fetch", "args"),
    ("arguments", "args"),
    ("fetchargs", "args"),
    ("return", "ret"),
    ("retval", "ret"),
    ("if", "filter"),
    ("when", "filter"),
    ("condition", "filter"),
    ("predicate", "filter"),
    ("do", "action"),
    ("event", "name"),
    ("disabled", "enabled"),
    ("max", "limit"),
    ("file", "path"),
    ("log", "output"),
    ("uprobe", "probe"),
    ("definition", "def"),
];

/// Where keys of other tables belong.
const HOMES: [(&str, &str); 6] = [
    ("follow", "at the top of the file, before the first [table]"),
    ("format", "in [output] or [summary]"),
    ("path", "in [output] or [summary]"),
    ("at", "in a [[probe]]"),
    ("filter", "in a [[probe]]"),
    ("def", "in a [[probe]]"),
];

/// What to do about an unknown key: always names at least the nearest known one.
fn key_advice(found: &str, known: &[&str], table: &str) -> String {
    if let Some((_, home)) = HOMES.iter().find(|(key, _)| *key == found)
        && !(table == "[[probe]]" && home.contains("[[probe]]"))
    {
        return format!("it belongs {home}");
    }
    // Another tool's word is known better than one that merely looks like it.
    let lower = found.to_lowercase();
    if let Some((_, word)) = SYNONYMS.iter().find(|(key, word)| *key == lower && known.contains(word)) {
        return format!("did you mean '{word}'?");
    }
    if let Some(word) = nearest(found, known) {
        return format!("did you mean '{word}'?");
    }
    format!("known are {}", known.join(", "))
}
