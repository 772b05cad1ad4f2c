//! Actions: what a hit does.

use crate::config::table::nearest;
use crate::fetch;
use crate::syntax::SyntaxError;

/// One action of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Write an event.
    Log,
    /// Count only.
    Count,
    /// A log2 histogram of the fetched value of this name.
    Hist(String),
    /// The caller's stack, so many frames at most.
    Stack(Option<u32>),
    /// Write a register or memory.
    Set {
        /// What is written, a fetch source.
        target: String,
        /// A number or fetch source.
        value: String,
    },
    /// Don't run the function, return this number or fetch source.
    Return(String),
    /// Raise this signal in the thread: its name with `SIG`, or its number.
    Signal(String),
    /// Call a handler from a shared object.
    Call {
        /// The shared object.
        plugin: String,
        /// Its function.
        function: String,
    },
}

impl Action {
    /// What this version lacks for it.
    #[must_use]
    pub const fn not_yet(&self) -> Option<&'static str> {
        match self {
            Self::Log | Self::Count | Self::Hist(_) | Self::Call { .. } => None,
            Self::Stack(_) => Some("action 'stack'"),
            Self::Set { .. } => Some("action 'set'"),
            Self::Return(_) => Some("action 'return'"),
            Self::Signal(_) => Some("action 'signal'"),
        }
    }
}

/// Every action's name.
const NAMES: [&str; 8] = ["log", "count", "hist", "stack", "set", "return", "signal", "call"];

/// Words of other tools, and ours.
const SYNONYMS: [(&str, &str); 8] = [
    ("print", "log"),
    ("printf", "log"),
    ("trace", "log"),
    ("ustack", "stack"),
    ("backtrace", "stack"),
    ("stacktrace", "stack"),
    ("kill", "signal"),
    ("override", "return"),
];

/// The most frames `stack(N)` takes.
const MAX_FRAMES: u64 = 1024;

/// Parses one action.
///
/// # Errors
/// Says what is wrong and where.
pub fn parse(text: &str) -> Result<Action, SyntaxError> {
    let trimmed = text.trim();
    let skipped = text.len() - text.trim_start().len();
    parse_trimmed(trimmed).map_err(|e| e.shifted(skipped))
}

fn parse_trimmed(text: &str) -> Result<Action, SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::new(0, 1, format!("the action is empty; known are {}", NAMES.join(", "))));
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let name = &text[..end];
    if !NAMES.contains(&name) {
        let synonym = SYNONYMS.iter().find(|(word, _)| *word == name).map(|(_, ours)| *ours);
        let advice = match synonym.or_else(|| nearest(name, &NAMES)) {
            Some(word) => format!("did you mean '{word}'?"),
            None => format!("known are {}", NAMES.join(", ")),
        };
        let shown = if name.is_empty() { text } else { name };
        return Err(SyntaxError::new(0, shown.len(), format!("unknown action '{shown}'; {advice}")));
    }
    let inside = parenthesis(text, end)?;
    match (name, inside) {
        ("log", None) => Ok(Action::Log),
        ("count", None) => Ok(Action::Count),
        ("log" | "count", Some(_)) => {
            Err(SyntaxError::new(end, text.len() - end, format!("'{name}' takes nothing in parentheses")))
        }
        ("stack", None) => Ok(Action::Stack(None)),
        (_, None) => {
            Err(SyntaxError::new(0, end, format!("'{name}' needs parentheses; write {}", usage(name))))
        }
        (_, Some(inside)) => {
            let start = end + text[end..].find('(').unwrap_or(0) + 1;
            let blanks = inside.len() - inside.trim_start().len();
            with_arguments(name, inside.trim()).map_err(|e| e.shifted(start + blanks))
        }
    }
}

/// How an action is written.
fn usage(name: &str) -> &'static str {
    match name {
        "hist" => "hist(NAME)",
        "stack" => "stack or stack(N)",
        "set" => "set(SOURCE, VALUE)",
        "return" => "return(VALUE)",
        "signal" => "signal(SIGUSR1)",
        _ => "call(PLUGIN.so:FUNCTION)",
    }
}

/// The text between the parentheses that end the action.
fn parenthesis(text: &str, from: usize) -> Result<Option<&str>, SyntaxError> {
    let tail = text[from..].trim_start();
    let open = text.len() - tail.len();
    if tail.is_empty() {
        return Ok(None);
    }
    if !tail.starts_with('(') {
        return Err(SyntaxError::new(
            open,
            tail.len(),
            "expected '(' or the end of the action; one string each",
        ));
    }
    let mut depth = 0_usize;
    for (i, c) in tail.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 && i + 1 < tail.len() => {
                let rest = tail.len() - i - 1;
                return Err(SyntaxError::new(
                    open + i + 1,
                    rest,
                    "nothing can follow the action; one string each",
                ));
            }
            ')' if depth == 1 => return Ok(Some(&tail[1..i])),
            ')' => depth -= 1,
            _ => {}
        }
    }
    Err(SyntaxError::new(open, 1, "'(' is not closed"))
}

/// The actions with parentheses; `inside` has no blanks around it.
fn with_arguments(name: &str, inside: &str) -> Result<Action, SyntaxError> {
    if inside.is_empty() {
        return Err(SyntaxError::new(0, 1, format!("'{name}' needs a value; write {}", usage(name))));
    }
    match name {
        "hist" => parse_hist(inside),
        "stack" => parse_frames(inside),
        "set" => parse_set(inside),
        "return" => check_value(inside).map(|()| Action::Return(inside.to_owned())),
        "signal" => parse_signal(inside),
        _ => parse_call(inside),
    }
}

fn parse_hist(inside: &str) -> Result<Action, SyntaxError> {
    let bare = inside.strip_prefix('$').unwrap_or(inside);
    if bare.is_empty() || bare.contains(|c: char| !(c.is_alphanumeric() || c == '_')) {
        let message = "hist takes the name of a fetched value; give the value a name in args";
        return Err(SyntaxError::new(0, inside.len(), message));
    }
    Ok(Action::Hist(inside.to_owned()))
}

fn parse_frames(inside: &str) -> Result<Action, SyntaxError> {
    match inside.parse::<u64>() {
        Ok(frames @ 1..=MAX_FRAMES) => Ok(Action::Stack(Some(frames as u32))),
        _ => Err(SyntaxError::new(
            0,
            inside.len(),
            format!("stack takes a number of frames from 1 to {MAX_FRAMES}"),
        )),
    }
}

fn parse_set(inside: &str) -> Result<Action, SyntaxError> {
    let Some(comma) = inside.find(',') else {
        return Err(SyntaxError::new(0, inside.len(), "set needs two values; write set(SOURCE, VALUE)"));
    };
    let (target, value) = (&inside[..comma], &inside[comma + 1..]);
    let blanks = value.len() - value.trim_start().len();
    let (target, value, value_at) = (target.trim(), value.trim(), comma + 1 + blanks);
    if value.is_empty() {
        return Err(SyntaxError::new(comma, 1, "no value after ','; write set(SOURCE, VALUE)"));
    }
    check_source(target)?;
    if !target.starts_with(['%', '@', '+', '-', '$']) || target == "$comm" || target == "$tid" {
        let message = "this can't be written; set takes a register, an argument or memory";
        return Err(SyntaxError::new(0, target.len(), message));
    }
    check_value(value).map_err(|e| e.shifted(value_at))?;
    Ok(Action::Set { target: target.to_owned(), value: value.to_owned() })
}

/// A number, or a fetch source.
fn check_value(text: &str) -> Result<(), SyntaxError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return check_source(text);
    }
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse::<u64>().ok(),
    };
    let fits = number.is_some_and(|n| digits.len() == text.len() || n <= 1 << 63);
    if fits {
        return Ok(());
    }
    Err(SyntaxError::new(0, text.len(), format!("'{text}' is no 64-bit number")))
}

/// A fetch source, without a name.
fn check_source(text: &str) -> Result<(), SyntaxError> {
    if let Some(equals) = text.find('=') {
        return Err(SyntaxError::new(0, equals + 1, "no name is needed here"));
    }
    fetch::parse_arg(text).map(|_| ())
}

/// Linux's signals by name; `SIGRTMIN+N` besides.
const SIGNALS: [&str; 33] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPOLL",
    "SIGPWR",
    "SIGSYS",
    "SIGRTMIN",
];

fn parse_signal(inside: &str) -> Result<Action, SyntaxError> {
    if let Ok(number) = inside.parse::<u32>() {
        if (1..=64).contains(&number) {
            return Ok(Action::Signal(inside.to_owned()));
        }
        return Err(SyntaxError::new(0, inside.len(), "signals have the numbers 1 to 64"));
    }
    let upper = inside.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let real_time = name.strip_prefix("SIGRTMIN+").and_then(|n| n.parse::<u32>().ok());
    if SIGNALS.contains(&name.as_str()) || real_time.is_some_and(|n| n <= 30) {
        return Ok(Action::Signal(name));
    }
    let advice = match nearest_signal(&name) {
        Some(word) => format!("did you mean '{word}'?"),
        None => "write its name, such as SIGUSR1, or its number".to_owned(),
    };
    Err(SyntaxError::new(0, inside.len(), format!("unknown signal '{inside}'; {advice}")))
}

fn nearest_signal(name: &str) -> Option<&'static str> {
    let (distance, word) = SIGNALS.iter().map(|word| (strsim::osa_distance(name, word), *word)).min()?;
    (distance <= 2).then_some(word)
}

fn parse_call(inside: &str) -> Result<Action, SyntaxError> {
    let Some(colon) = inside.rfind(':') else {
        let message = "no ':' between the plugin and its function; write call(PLUGIN.so:FUNCTION)";
        return Err(SyntaxError::new(0, inside.len(), message));
    };
    let (plugin, function) = (&inside[..colon], &inside[colon + 1..]);
    if plugin.is_empty() {
        return Err(SyntaxError::new(0, 1, "no plugin before ':'; write call(PLUGIN.so:FUNCTION)"));
    }
    if function.is_empty() {
        return Err(SyntaxError::new(colon, 1, "no function after ':'; write call(PLUGIN.so:FUNCTION)"));
    }
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
    if let Some((at, c)) =
        function.char_indices().find(|(at, c)| !is_word(*c) || (*at == 0 && c.is_ascii_digit()))
    {
        let message = format!("'{c}' can't stand here in a function's name");
        return Err(SyntaxError::new(colon + 1 + at, c.len_utf8(), message));
    }
    Ok(Action::Call { plugin: plugin.to_owned(), function: function.to_owned() })
}
