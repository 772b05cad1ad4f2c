use super::*;
use crate::place::{self, Target};

/// The config of a text that has nothing wrong with it.
fn good(text: &str) -> Config {
    let loaded = parse(text, "t.toml");
    assert!(loaded.diagnostics.is_empty(), "{text}\n{}", shown(&loaded));
    loaded.config
}

fn shown(loaded: &Loaded) -> String {
    loaded.diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// Every key of this version.
const WHOLE: &str = r#"
follow = false

[output]
path   = "app.%p.%e.%t.%%.log"
format = "json"

[summary]
path   = 'app.%p.json'
format = "json"

[[probe]]
at      = "libc.so.6:openat"
name    = "open"
kind    = "entry"
args    = ["path=$arg2:string", "flags=$arg3:x32", "%di"]
filter  = 'path ~ "/etc/*" && flags & 0x40 || arg3 == 0'
action  = ["log", "count", "call(./p.so:handle)"]
maxactive = 0
method  = "int3"
limit   = 1_000
sample  = 0x10
enabled = false

[[probe]]
at = "exe:main+0x4"
args = ["%ax"]

[[probe]]
def = "p:io/close libc.so.6:close fd=$arg1:s32"
filter = "fd > 2"
"#;

#[test]
fn every_key() {
    let config = good(WHOLE);
    assert!(!config.follow);
    assert_eq!(config.output.path.as_deref(), Some("app.%p.%e.%t.%%.log"));
    assert_eq!((config.output.format, config.summary.format), (OutputFormat::Json, SummaryFormat::Json));
    assert_eq!(config.summary.path.as_deref(), Some("app.%p.json"));
    let [open, main, close] = &config.probes[..] else { panic!("{}", config.probes.len()) };
    assert_eq!(
        (open.name.as_str(), open.name_is_default, open.at.as_str()),
        ("open", false, "libc.so.6:openat")
    );
    assert_eq!((open.kind, open.method, open.enabled), (Kind::Entry, Method::Int3, false));
    assert_eq!((open.limit, open.sample, open.maxactive), (1000, 16, 0));
    let names: Vec<&str> = open.args.iter().map(|arg| arg.name.as_str()).collect();
    assert_eq!(names, ["path", "flags", "arg3"]);
    let call = Action::Call { plugin: "./p.so".to_owned(), function: "handle".to_owned() };
    assert_eq!(open.actions, [Action::Log, Action::Count, call]);
    assert_eq!(open.filter_text.as_deref(), Some("path ~ \"/etc/*\" && flags & 0x40 || arg3 == 0"));
    assert!(open.filter.is_some() && open.not_yet.is_none());
    assert_eq!((open.origin.line, open.origin.column, open.origin.file.as_str()), (13, 12, "t.toml"));
    assert_eq!(
        (main.name.as_str(), main.name_is_default, main.sample, main.enabled),
        ("main", true, 1, true)
    );
    assert_eq!(main.actions, [Action::Log]);
    assert_eq!((close.name.as_str(), close.group.as_deref()), ("close", Some("io")));
    assert_eq!((close.at.as_str(), close.args.len()), ("libc.so.6:close", 1));
}

#[test]
fn nothing_is_a_config_too() {
    for text in ["", "\n", "# probes\r\n", "\u{feff}follow = true\n", "probe = []", "[output]\n[summary]\n"] {
        assert_eq!(good(text), Config::default(), "{text:?}");
    }
}

#[test]
fn toml_in_all_its_forms() {
    let forms = [
        "[[probe]]\r\nat = \"exe:a\"\r\nargs = [\r\n  \"x=%di\", # first\r\n]\r\nfilter = \"\"\"\r\nx > 1 \\\r\n || x == 0\"\"\"\r\n",
        "probe = [{ at = \"exe:a\", args = ['x=%di'], filter = 'x > 1' }]",
        "[[\"probe\"]]\n\"at\" = '''exe:a'''\nargs = [\"\"\"x=%di\"\"\"]\nfilter = \"x \\u003E 1\"\n",
        "output.format = \"text\"\n[[probe]]\nat = \"\\u0065xe:a\"\nargs = [\"x=%di\",]\nfilter = 'x>1'\n",
    ];
    for text in forms {
        let config = good(text);
        let probe = &config.probes[0];
        assert_eq!(
            (probe.at.as_str(), probe.args.len(), probe.filter.is_some()),
            ("exe:a", 1, true),
            "{text}"
        );
    }
}

#[test]
fn default_names() {
    let rows = [
        ("libc.so.6:openat", "entry", "openat"),
        ("libc.so.6:openat+4", "entry", "openat"),
        ("libc.so.6:openat", "return", "openat__return"),
        ("libc.so.6:openat", "call", "openat"),
        ("libc.so.6:_IO_puts", "entry", "_IO_puts"),
        ("libc.so.6:__libc_start_main@@GLIBC_2.34", "entry", "__libc_start_main"),
        ("exe:ns::Cls::f(int, char*)", "entry", "ns_Cls_f"),
        ("exe:operator+", "entry", "operator"),
        ("app:<T as core::fmt::Debug>::fmt", "entry", "T_as_core_fmt_Debug_fmt"),
        ("app:main::run::h0123456789abcdef", "entry", "main_run"),
        ("libssl.so.3:SSL_*", "entry", "SSL"),
        ("exe:*", "entry", "exe"),
        ("/usr/lib/libc.so.6:*", "entry", "libc"),
        ("exe:/^get_|set_/", "entry", "get_set"),
        ("/bin/ls:0x4710", "entry", "ls_0x4710"),
        ("lib*:16", "entry", "lib_0x10"),
        ("*:16", "entry", "probe_0x10"),
        ("exe:关闭", "entry", "exe"),
        ("exe@src/main.c:42", "entry", "main_c_42"),
        ("usdt:exe:py:gc__start", "entry", "gc__start"),
    ];
    for (at, kind, name) in rows {
        let loaded = parse(&format!("[[probe]]\nat = '{at}'\nkind = '{kind}'\n"), "t");
        assert_eq!(loaded.config.probes[0].name, name, "{at}");
    }
    let long = format!("exe:{}", "a".repeat(300));
    assert_eq!(one_liner(&long).expect("spec").name.len(), 56);
}

#[test]
fn names_are_made_unique_and_the_users_come_first() {
    let text = "[[probe]]\nat = ':a'\n[[probe]]\nat = ':a+4'\n[[probe]]\nat = ':b'\nname = 'a_1'\n[[probe]]\nat = ':a+8'\n";
    let names: Vec<String> = good(text).probes.into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["a", "a_2", "a_1", "a_3"]);
}

/// One-liner: name, group, kind, at, names of args and ret, maxactive.
#[test]
fn one_liners() {
    let rows = [
        ("p libc.so.6:openat", "openat", None, Kind::Entry, "libc.so.6:openat", "", 0),
        (
            "p:open libc.so.6:openat path=$arg2:string %dx",
            "open",
            None,
            Kind::Entry,
            "libc.so.6:openat",
            "path arg2",
            0,
        ),
        ("p:io/open  /bin/ls:0x4710\t%ax", "open", Some("io"), Kind::Entry, "/bin/ls:0x4710", "arg1", 0),
        ("p:io/ exe:main", "main", Some("io"), Kind::Entry, "exe:main", "", 0),
        ("r:done libc.so.6:openat fd=$retval:s32", "done", None, Kind::Return, "libc.so.6:openat", "/fd", 0),
        ("r12 :f $retval", "f__return", None, Kind::Return, ":f", "/arg1", 12),
        ("r3:x :f a=$arg1 b=$retval", "x", None, Kind::Return, ":f", "a/b", 3),
        // Numbered as they stand, fetched as they can be.
        ("r :f $retval $arg1 %ax", "f__return", None, Kind::Return, ":f", "arg2/arg1 arg3", 0),
        ("p:x :f%return $retval", "x", None, Kind::Return, ":f", "/arg1", 0),
        (":f%return $retval", "f__return", None, Kind::Return, ":f", "/arg1", 0),
        ("libc.so.6:openat", "openat", None, Kind::Entry, "libc.so.6:openat", "", 0),
        ("libc.so.6:openat path=$arg2:string", "openat", None, Kind::Entry, "libc.so.6:openat", "path", 0),
        (
            "  exe:f(int, char*) const  x=+0(%si):string ",
            "f",
            None,
            Kind::Entry,
            "exe:f(int, char*) const",
            "x",
            0,
        ),
        ("p exe:f x=\\\"a b\" y=%di", "f", None, Kind::Entry, "exe:f", "x y", 0),
        ("p::f::g", "f_g", None, Kind::Entry, "", "", 0),
        ("print.so:f", "f", None, Kind::Entry, "print.so:f", "", 0),
        ("redis:f %di", "f", None, Kind::Entry, "redis:f", "arg1", 0),
        ("exe:/^a b$/ %di", "a_b", None, Kind::Entry, "exe:/^a b$/", "arg1", 0),
    ];
    for (text, name, group, kind, at, args, maxactive) in rows {
        if at.is_empty() {
            assert!(one_liner(text).is_err(), "{text}");
            continue;
        }
        let spec = one_liner(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let names = |args: &[crate::fetch::FetchArg]| {
            args.iter().map(|arg| arg.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let both = names(&spec.args) + if spec.ret.is_empty() { "" } else { "/" } + &names(&spec.ret);
        assert_eq!(
            (
                spec.name.as_str(),
                spec.group.as_deref(),
                spec.kind,
                spec.at.as_str(),
                both.as_str(),
                spec.maxactive
            ),
            (name, group, kind, at, args, maxactive),
            "{text}"
        );
        assert_eq!(place::parse(&spec.at), Ok(spec.place), "{text}");
    }
}

/// One-liner, where the caret stands, how the message begins.
#[test]
fn wrong_one_liners() {
    let rows = [
        ("", 0, "the probe is empty"),
        ("p", 0, "no place after 'p'"),
        ("p:a", 0, "no place after 'p:a'"),
        ("p: exe:a", 1, "no event name after ':'"),
        ("p:/a exe:a", 2, "no group before '/'"),
        ("p3 exe:a", 1, "only 'r' takes a number"),
        ("r99999999999 exe:a", 1, "the number is too large"),
        ("-:a", 0, "'-:' removes"),
        ("openat", 0, "no object before 'openat'"),
        ("p:x openat %di", 4, "no object before 'openat'"),
        ("exe:a x=%zz", 8, "invalid register name"),
        ("exe:a x=$retval", 8, "$retval is not available"),
        ("exe:a+4%return", 5, "a return is probed at the function's entry"),
        ("exe:a %di x=%di x=%si", 16, "argument name 'x' is already used"),
    ];
    for (text, at, message) in rows {
        let error = one_liner(text).expect_err(text);
        assert!(error.message.starts_with(message), "{text}: {}", error.message);
        assert_eq!(error.at, at, "{text}: {}", error.message);
    }
}

#[test]
fn one_liners_of_the_command_line() {
    let lines = ["exe:a", "p:x exe:b\n%di", "p:x exe:c", "exe:a %zz", "exe:a"].map(str::to_owned);
    let loaded = from_one_liners(&lines);
    let names: Vec<&str> = loaded.config.probes.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a", "x", "a_1"]);
    let expected = "\
-e:3:3: error: another probe is called 'x'
  3 | p:x exe:c
    |   ^ names are unique
-e:4:7: error: invalid register name '%zz'
  4 | exe:a %zz
    |       ^^^
";
    assert_eq!(shown(&loaded), expected);
}

#[test]
fn one_liners_survive_toml() {
    let texts = [
        "libc.so.6:openat path=$arg2:string",
        r"exe:/^a\d'b$/ %di",
        r#"exe:f x=\"it's" y=%di"#,
        "exe:f\tx=%di",
        "app:<T as A<'a>>::f",
        "exe:関数 x=%di",
    ];
    for text in texts {
        let toml = toml_for_one_liner(text);
        let from_toml = good(&toml).probes;
        let direct = one_liner(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(from_toml.len(), 1, "{toml}");
        assert_eq!(
            (&from_toml[0].name, &from_toml[0].at, &from_toml[0].args),
            (&direct.name, &direct.at, &direct.args)
        );
    }
    for hostile in ["'''", "\"\"\"", "a\nb", "\\", "'\\'\"", "\u{0}\u{7f}\u{1b}", "]]\n[output]\npath='x'"] {
        let toml = toml_for_one_liner(hostile);
        let document = toml::de::DeTable::parse(&toml).unwrap_or_else(|e| panic!("{toml}: {e}"));
        let probe = document.get_ref().get("probe").and_then(|p| p.get_ref().get(0)).expect("probe");
        let def = probe.get_ref().get("def").and_then(|d| d.get_ref().as_str());
        assert_eq!(def, Some(hostile), "{toml}");
    }
}

#[test]
fn actions() {
    let set = |target: &str, value: &str| Action::Set { target: target.to_owned(), value: value.to_owned() };
    let call = |plugin: &str, function: &str| Action::Call {
        plugin: plugin.to_owned(),
        function: function.to_owned(),
    };
    let rows = [
        ("log", Action::Log),
        (" count ", Action::Count),
        ("hist(bytes)", Action::Hist("bytes".to_owned())),
        ("hist( $latency )", Action::Hist("$latency".to_owned())),
        ("stack", Action::Stack(None)),
        ("stack(16)", Action::Stack(Some(16))),
        ("set(%ax, 0)", set("%ax", "0")),
        ("set(+8(%di):u32, -1)", set("+8(%di):u32", "-1")),
        ("set($arg1,%si)", set("$arg1", "%si")),
        ("return(0)", Action::Return("0".to_owned())),
        ("return(-0x1)", Action::Return("-0x1".to_owned())),
        ("return(+0(%di))", Action::Return("+0(%di)".to_owned())),
        ("signal(SIGUSR1)", Action::Signal("SIGUSR1".to_owned())),
        ("signal(usr1)", Action::Signal("SIGUSR1".to_owned())),
        ("signal(10)", Action::Signal("10".to_owned())),
        ("signal(SIGRTMIN+3)", Action::Signal("SIGRTMIN+3".to_owned())),
        ("call(p.so:f)", call("p.so", "f")),
        ("call( /a:b/p.so:my_f )", call("/a:b/p.so", "my_f")),
    ];
    for (text, expected) in rows {
        assert_eq!(action::parse(text), Ok(expected), "{text}");
    }
}

#[test]
fn later_features_are_parsed_and_kept() {
    let text = "[[probe]]\nat = 'exe:f'\nkind = 'call'\nargs = ['a=$arg1', 'x=$xmm0:f64', 's=req->uri:string']\n\
                ret = ['r=$retval:s32']\nfilter = 'a > 1 && r < 0 && $latency > 1000 && s ~ \"/x*\" && x > 1'\n\
                action = ['hist($latency)', 'stack(5)']\nmaxactive = 5\n";
    let loaded = parse(text, "t");
    assert!(
        loaded.diagnostics.iter().all(|d| d.message.ends_with(" is not in this version yet")),
        "{}",
        shown(&loaded)
    );
    let probe = &loaded.config.probes[0];
    assert_eq!((probe.not_yet, probe.kind, probe.maxactive), (Some("$xmmN"), Kind::Call, 5));
    assert_eq!((probe.args.len(), probe.ret.len(), probe.actions.len()), (3, 1, 2));
    assert!(matches!(one_liner("usdt:exe:p:n").expect("spec").place.target, Target::Usdt { .. }));
}

#[test]
fn a_wide_and_hostile_line_keeps_its_caret() {
    let text = "[[probe]]\nat = \"測:\u{1b}[31m f\u{301}\" # x\n";
    let text = text.replace('\u{1b}', "\u{85}");
    let loaded = parse(&text, "t\u{1b}.toml");
    let expected = "\
t\u{fffd}.toml:2:9: error: control character in the place
  2 | at = \"測:\u{fffd}[31m f\u{301}\" # x
    |          ^
";
    assert_eq!(shown(&loaded), expected);
}

/// xorshift64*: the same configs on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Changed at random, a config gives diagnostics that can be printed, and never a panic.
#[test]
fn mutations_never_panic() {
    let pieces = [
        "'",
        "\"",
        "\"\"\"",
        "'''",
        "[",
        "]",
        "[[probe]]",
        "{",
        "}",
        "(",
        ")",
        "<",
        ">",
        "::",
        ":",
        "@",
        "/",
        "\\",
        "\\u00e9",
        "+",
        "+0x",
        "-",
        "%",
        "%return",
        "$arg1",
        "$",
        "*",
        "?",
        "[a-",
        "operator",
        "é",
        "測",
        "\u{301}",
        "\0",
        "\r\n",
        "\n",
        "\t",
        " ",
        "#",
        "=",
        ",",
        "9999999999999999999999",
        "-1",
        "p:",
        "r5:x ",
        "usdt:",
        "def = ",
        "at = ",
        "&& ",
        "|| ",
        "~",
    ];
    let seeds = [
        WHOLE,
        "[[probe]]\nat = \"\"\"\nexe:ns::f(int, \\\n  char*)+0x4\"\"\"\nargs = ['a=+0(%di):string[3]']\n",
        "[[probe]]\ndef = 'r5:g/e exe:<T as A>::f%return a=$arg1 b=$retval'\naction = ['set(%ax, 1)', 'stack(3)']\n",
        "[[probe]]\nat = 'usdt:exe:a:b'\n[[probe]]\nat = 'exe@a.c:4'\nkind = 'call'\nret = ['$retval']\n",
        "[[probe]]\nat = ':/^(a|b)[c-e]+$/'\nfilter = '!(arg1 == 1) && $comm ~ \"x*\"'\nargs = ['%di']\n",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut diagnostics = 0;
    for round in 0..6_000 {
        let mut text: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len());
            match random.below(3) {
                0 => drop(text.drain(at..(at + 1 + random.below(6)).min(text.len()))),
                1 => drop(text.splice(at..at, pieces[random.below(pieces.len())].chars())),
                _ => text[at] = pieces[random.below(pieces.len())].chars().next().unwrap_or('x'),
            }
            if text.is_empty() {
                break;
            }
        }
        let text: String = text.into_iter().collect();
        let loaded = parse(&text, "m");
        for diagnostic in &loaded.diagnostics {
            let line = text.split('\n').nth(diagnostic.line as usize - 1).expect("line");
            assert!(diagnostic.column as usize <= line.chars().count() + 1, "{diagnostic}");
            assert!(diagnostic.to_string().contains('^'), "{diagnostic}");
            diagnostics += 1;
        }
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        drop(from_one_liners(&lines));
    }
    assert!(diagnostics > 3_000, "{diagnostics}");
}
