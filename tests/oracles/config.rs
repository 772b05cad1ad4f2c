//! Any bytes as a config: what is said is said of a place that is there, and what was understood,
//! written down again, is understood the same.

use std::fmt::Write as _;

use uprobe::config::{
    self, Action, Config, Diagnostic, Kind, Loaded, Method, Origin, OutputFormat, ProbeSpec, SummaryFormat,
};
use uprobe::fetch::{FetchArg, parse_arg};

const FILE: &str = "fuzz.toml";

/// Reads the bytes as TOML, and each line of them as a one-liner.
pub fn check(bytes: &[u8]) {
    let loaded = config::parse_bytes(bytes, FILE);
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split('\n').collect();
    for diagnostic in &loaded.diagnostics {
        is_inside(diagnostic, FILE, &lines);
    }
    names_are_unique(&loaded.config);
    if std::str::from_utf8(bytes).is_ok() {
        round_trip(&loaded.config);
    }
    one_liners(text);
}

/// File, line, column and length are those of something in the text, and the message is three lines.
fn is_inside(diagnostic: &Diagnostic, file: &str, lines: &[&str]) {
    assert_eq!(diagnostic.file, file);
    let line =
        lines.get(diagnostic.line as usize - 1).unwrap_or_else(|| panic!("no such line: {diagnostic:?}"));
    let line = line.trim_end_matches('\r');
    assert_eq!(diagnostic.source_line, line, "{diagnostic:?}");
    let chars = line.chars().count();
    let first = diagnostic.column as usize - 1;
    assert!(first <= chars, "{diagnostic:?}");
    assert!(diagnostic.len >= 1, "{diagnostic:?}");
    assert!(first + diagnostic.len as usize <= chars.max(first + 1), "{diagnostic:?}");
    assert!(!diagnostic.message.is_empty());
    let shown = diagnostic.to_string();
    assert_eq!(shown.lines().count(), 3, "{shown:?}");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
    assert!(shown.contains('^'), "{shown:?}");
}

fn names_are_unique(config: &Config) {
    let names: std::collections::BTreeSet<&str> = config.probes.iter().map(|probe| &*probe.name).collect();
    assert_eq!(names.len(), config.probes.len());
}

/// The config without what can't be the same twice.
fn essence(config: &Config) -> Config {
    let mut config = config.clone();
    for probe in &mut config.probes {
        probe.origin = Origin { file: String::new(), line: 0, column: 0, len: 0, source_line: String::new() };
        probe.name_is_default = false;
        probe.group = None;
        for arg in probe.args.iter_mut().chain(&mut probe.ret) {
            // Positions and text differ, name, source and type must not.
            let mut same = parse_arg("%ax").expect("a register");
            (same.name, same.source, same.ty) = (arg.name.clone(), arg.source.clone(), arg.ty);
            *arg = same;
        }
    }
    config
}

fn round_trip(config: &Config) {
    let text = print(config);
    let again = config::parse(&text, FILE);
    assert_eq!(essence(&again.config), essence(config), "{text}\n{:?}", again.diagnostics);
    // What this version lacks is said again; nothing else is wrong with what was right.
    for diagnostic in &again.diagnostics {
        let is_known =
            diagnostic.message.contains("not in this version") || diagnostic.message.contains("only");
        assert!(is_known, "{text}\n{diagnostic}");
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn strings(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| quoted(&item)).collect();
    format!("[{}]", items.join(", "))
}

/// As the user could have written it, with its name in front.
fn arg_text(arg: &FetchArg) -> String {
    let text = arg.text.trim();
    let is_named = parse_arg(text).is_ok_and(|parsed| !parsed.name.is_empty());
    if is_named { text.to_owned() } else { format!("{}={text}", arg.name) }
}

fn action_text(action: &Action) -> String {
    match action {
        Action::Log => "log".into(),
        Action::Count => "count".into(),
        Action::Hist(name) => format!("hist({name})"),
        Action::Stack(None) => "stack".into(),
        Action::Stack(Some(frames)) => format!("stack({frames})"),
        Action::Set { target, value } => format!("set({target}, {value})"),
        Action::Return(value) => format!("return({value})"),
        Action::Signal(name) => format!("signal({name})"),
        Action::Call { plugin, function } => format!("call({plugin}:{function})"),
    }
}

fn print(config: &Config) -> String {
    let mut out = format!("follow = {}\n[output]\n", config.follow);
    if let Some(path) = &config.output.path {
        let _ = writeln!(out, "path = {}", quoted(path));
    }
    let format = match config.output.format {
        OutputFormat::Text => "text",
        OutputFormat::Json => "json",
        OutputFormat::Trace => "trace",
    };
    let _ = writeln!(out, "format = \"{format}\"");
    if let Some(size) = config.output.size {
        let _ = writeln!(out, "size = \"{size}\"");
    }
    out.push_str("[summary]\n");
    if let Some(path) = &config.summary.path {
        let _ = writeln!(out, "path = {}", quoted(path));
    }
    let format = match config.summary.format {
        SummaryFormat::Table => "table",
        SummaryFormat::Json => "json",
        SummaryFormat::OpenMetrics => "openmetrics",
        SummaryFormat::None => "none",
    };
    let _ = writeln!(out, "format = \"{format}\"");
    config.probes.iter().for_each(|probe| print_probe(probe, &mut out));
    out
}

fn print_probe(probe: &ProbeSpec, out: &mut String) {
    let _ = writeln!(out, "[[probe]]\nat = {}\nname = {}", quoted(&probe.at), quoted(&probe.name));
    let _ = writeln!(out, "kind = \"{}\"", probe.kind.as_str());
    let _ = writeln!(out, "args = {}", strings(probe.args.iter().map(arg_text)));
    if probe.kind != Kind::Entry {
        let _ = writeln!(out, "ret = {}", strings(probe.ret.iter().map(arg_text)));
        let _ = writeln!(out, "maxactive = {}", probe.maxactive);
    }
    if let Some(filter) = &probe.filter_text {
        let _ = writeln!(out, "filter = {}", quoted(filter));
    }
    let _ = writeln!(out, "action = {}", strings(probe.actions.iter().map(action_text)));
    let method = if probe.method == Method::Auto { "auto" } else { "int3" };
    let _ = writeln!(out, "method = \"{method}\"\nlimit = {}\nsample = {}", probe.limit, probe.sample);
    let _ = writeln!(out, "enabled = {}", probe.enabled);
}

/// Each line by itself, as `-e` takes it, and as the TOML that says the same.
fn one_liners(text: &str) {
    let lines: Vec<String> = text.lines().take(20).map(str::to_owned).collect();
    let all = config::from_one_liners(&lines);
    names_are_unique(&all.config);
    let shown: Vec<String> = lines.iter().map(|line| line.replace(['\n', '\r'], " ")).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    for diagnostic in &all.diagnostics {
        is_inside(diagnostic, "-e", &shown);
    }
    for line in &lines {
        let alone = config::from_one_liners(std::slice::from_ref(line));
        as_toml(line, &alone);
        let single = config::one_liner(&line.replace('\r', " "));
        assert_eq!(single.is_ok(), !alone.config.probes.is_empty(), "{line:?}: {single:?}");
        if let Err(error) = single {
            assert!(error.at <= line.len() && error.len >= 1, "{line:?}: {error:?}");
        }
    }
}

fn as_toml(line: &str, alone: &Loaded) {
    let line = line.replace('\r', " ");
    let toml = config::toml_for_one_liner(&line);
    let loaded = config::parse(&toml, FILE);
    assert_eq!(essence(&loaded.config).probes, essence(&alone.config).probes, "{toml}");
    let messages = |loaded: &Loaded| loaded.diagnostics.iter().map(|d| d.message.clone()).collect::<Vec<_>>();
    assert_eq!(messages(&loaded), messages(alone), "{toml}");
}
