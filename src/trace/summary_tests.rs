//! The report, as text, for each thing it can have to say.

use std::borrow::Cow;
use std::fmt;

use super::*;
use crate::trace::histogram;

fn open() -> ProbeSummary<'static> {
    ProbeSummary {
        object: Some(Cow::Borrowed(b"/usr/lib/x86_64-linux-gnu/libc.so.6")),
        symbol: Some("openat".into()),
        file_offset: Some(0xf7280),
        address: Some(0x7f12_3456_7280),
        state: State::Armed,
        method: Some(Method::Boost),
        hits: 12,
        ..ProbeSummary::new("open", "libc.so.6:openat")
    }
}

fn refused() -> ProbeSummary<'static> {
    ProbeSummary {
        state: State::Refused,
        reason: Some("no-symbol: '/usr/bin/ls' has no function 'mian'; did you mean 'main'?".into()),
        ..ProbeSummary::new("mian", "exe:mian")
    }
}

fn pending() -> ProbeSummary<'static> {
    ProbeSummary {
        reason: Some("object-not-loaded: no object matching 'libz.so.1' is loaded".into()),
        ..ProbeSummary::new("inflate", "libz.so.1:inflate")
    }
}

fn summary(probes: Vec<ProbeSummary<'static>>) -> Summary<'static> {
    Summary { version: VERSION, pid: 4242, exe: Cow::Borrowed(b"/usr/bin/ls"), wall_ns: 12_345_678, probes }
}

fn text(
    render: fn(&Summary<'_>, &mut dyn fmt::Write) -> fmt::Result,
    probes: Vec<ProbeSummary<'static>>,
) -> String {
    let mut out = String::new();
    render(&summary(probes), &mut out).expect("a String takes everything");
    out
}

#[track_caller]
fn assert_lines(actual: &str, expected: &[&str]) {
    assert!(actual.ends_with('\n'), "ends with a newline: {actual:?}");
    let actual: Vec<&str> = actual.lines().collect();
    assert_eq!(actual, expected, "\n{}", actual.join("\n"));
}

#[test]
fn table_of_one() {
    assert_lines(
        &text(table, vec![open()]),
        &[
            "uprobe: summary of ls (pid 4242), 0.012 s, 1 probe",
            "uprobe: NAME  HITS  STATE  METHOD  PLACE",
            "uprobe: open    12  armed  boost   libc.so.6:openat",
        ],
    );
}

/// A call probe: 12 calls followed, of which one was left by longjmp and one had not returned.
fn timed() -> ProbeSummary<'static> {
    let mut log2 = [0; 64];
    (log2[1], log2[10], log2[11], log2[13]) = (1, 2, 6, 1);
    ProbeSummary {
        kind: Kind::Call,
        returns: 10,
        unwound: 1,
        in_flight: 1,
        latency: Latency::from_buckets(10, 18_500, 1, 6_500, 12_345, &log2),
        ..open()
    }
}

#[test]
fn table_of_returns() {
    let quiet = ProbeSummary { kind: Kind::Return, hits: 0, ..open() };
    assert_lines(
        &text(table, vec![quiet]),
        &[
            "uprobe: summary of ls (pid 4242), 0.012 s, 1 probe",
            "uprobe: NAME  HITS  RETURNS  STATE  METHOD  PLACE",
            "uprobe: open     0        0  armed  boost   libc.so.6:openat",
        ],
    );
}

#[test]
fn table_of_timed_calls() {
    let other = ProbeSummary { name: "idle".into(), kind: Kind::Call, ..open() };
    assert_lines(
        &text(table, vec![timed(), other]),
        &[
            "uprobe: summary of ls (pid 4242), 0.012 s, 2 probes",
            "uprobe: NAME  HITS  RETURNS  UNWOUND  IN FLIGHT  STATE  METHOD  PLACE",
            "uprobe: open    12       10        1          1  armed  boost   libc.so.6:openat",
            "uprobe: idle    12        0        0          0  armed  boost   libc.so.6:openat",
            "uprobe: NAME  TIMED   MIN      P50      P99      MAX    TOTAL     SELF",
            "uprobe: open     10  1 ns  1.36 us  6.50 us  6.50 us  18.5 us  12.3 us",
            "uprobe: open ns:",
            "uprobe: [1]                     1 |@@@@@@                                  |",
            "uprobe: [2, 4)                  0 |                                        |",
            "uprobe: [4, 8)                  0 |                                        |",
            "uprobe: [8, 16)                 0 |                                        |",
            "uprobe: [16, 32)                0 |                                        |",
            "uprobe: [32, 64)                0 |                                        |",
            "uprobe: [64, 128)               0 |                                        |",
            "uprobe: [128, 256)              0 |                                        |",
            "uprobe: [256, 512)              0 |                                        |",
            "uprobe: [512, 1K)               2 |@@@@@@@@@@@@@                           |",
            "uprobe: [1K, 2K)                6 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|",
            "uprobe: [2K, 4K)                0 |                                        |",
            "uprobe: [4K, 8K)                1 |@@@@@@                                  |",
        ],
    );
}

#[test]
fn table_of_many_timed_calls_has_the_histograms_that_matter() {
    let probes: Vec<ProbeSummary<'static>> = (0..12)
        .map(|i| {
            let mut probe = ProbeSummary { name: format!("p{i}").into(), ..timed() };
            probe.latency.sum_ns = i;
            probe
        })
        .collect();
    let out = text(table, probes);
    assert_eq!(out.matches(" ns:\n").count(), 10);
    assert!(!out.contains("p0 ns:") && !out.contains("p1 ns:") && out.contains("p2 ns:"), "{out}");
    assert!(out.find("p11 ns:") < out.find("p2 ns:"), "{out}");
    assert!(out.ends_with("and 2 more histograms of probes that took less time\n"), "{out}");
    assert!(out.lines().all(|line| line.len() <= 90), "{out}");
}

#[test]
fn openmetrics_of_timed_calls() {
    let out = text(openmetrics, vec![timed(), open()]);
    let labels = r#"probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280""#;
    let lines: Vec<String> = out
        .lines()
        .skip_while(|line| *line != "# TYPE uprobe_latency_seconds histogram")
        .map(|line| line.replace(labels, "L"))
        .collect();
    let bucket = |le: &str, n| format!("uprobe_latency_seconds_bucket{{L,le=\"{le}\"}} {n}");
    for line in [
        bucket("0.000000000", 0),
        bucket("0.000000001", 1),
        bucket("0.000001023", 3),
        bucket("0.000002047", 9),
        bucket("0.000008191", 10),
        bucket("+Inf", 10),
        "uprobe_latency_seconds_sum{L} 0.000018500".to_owned(),
        "uprobe_latency_seconds_count{L} 10".to_owned(),
        "uprobe_self_seconds_total{L} 0.000012345".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line}\n{}", lines.join("\n"));
    }
    // 14 buckets and +Inf, of the one probe that times.
    assert_eq!(lines.iter().filter(|line| line.contains("_bucket{")).count(), 15);
    assert!(out.contains(&format!("uprobe_in_flight{{{labels}}} 1\n")), "{out}");
    assert!(out.contains(&format!("uprobe_unwound_total{{{labels}}} 1\n")), "{out}");
}

#[test]
fn table_of_none() {
    assert_lines(&text(table, vec![]), &["uprobe: summary of ls (pid 4242), 0.012 s, 0 probes"]);
}

#[test]
fn table_shows_what_is_not_zero_and_why_a_probe_is_not_armed() {
    let mut busy = open();
    (busy.hits, busy.nmissed, busy.filtered, busy.sampled_out, busy.lost) =
        (u64::MAX, 7, 1_000_000_000, 30, 4);
    busy.offset = 0x12;
    let by_offset = ProbeSummary {
        object: Some(Cow::Borrowed(b"/usr/bin/ls")),
        file_offset: Some(0x4710),
        state: State::Armed,
        method: Some(Method::Emulate),
        ..ProbeSummary::new("ls_0x4710", "exe:0x4710")
    };
    assert_lines(
        &text(table, vec![busy, refused(), pending(), by_offset]),
        &[
            "uprobe: summary of ls (pid 4242), 0.012 s, 4 probes",
            "uprobe: NAME                       HITS  MISSED    FILTERED  SAMPLED  LOST  STATE    METHOD   PLACE",
            "uprobe: open       18446744073709551615       7  1000000000       30     4  armed    boost    libc.so.6:openat+0x12",
            "uprobe: mian                          0       0           0        0     0  refused  -        exe:mian",
            "uprobe:     no-symbol: '/usr/bin/ls' has no function 'mian'; did you mean 'main'?",
            "uprobe: inflate                       0       0           0        0     0  pending  -        libz.so.1:inflate",
            "uprobe:     object-not-loaded: no object matching 'libz.so.1' is loaded",
            "uprobe: ls_0x4710                     0       0           0        0     0  armed    emulate  ls:0x4710",
        ],
    );
}

#[test]
fn table_of_many_shows_those_with_hits() {
    let mut probes: Vec<ProbeSummary<'static>> = (0..100)
        .map(|i| ProbeSummary { name: format!("p{i}").into(), hits: [0, 3, 5][i % 3], ..open() })
        .collect();
    probes.iter_mut().skip(6).for_each(|p| p.hits = 0);
    let rows = [
        "uprobe: summary of ls (pid 4242), 0.012 s, 102 probes",
        "uprobe: NAME  HITS  STATE  METHOD  PLACE",
        "uprobe: p2       5  armed  boost   libc.so.6:openat",
        "uprobe: p5       5  armed  boost   libc.so.6:openat",
        "uprobe: p1       3  armed  boost   libc.so.6:openat",
        "uprobe: p4       3  armed  boost   libc.so.6:openat",
    ];
    let mut expected = rows.to_vec();
    expected.push("uprobe: and 98 more with 0 hits (1 refused, 1 pending)");
    probes.extend([refused(), pending()]);
    assert_lines(&text(table, probes), &expected);
}

#[test]
fn table_of_many_without_hits() {
    let probes = (0..41).map(|_| ProbeSummary { hits: 0, ..open() }).collect();
    assert_lines(
        &text(table, probes),
        &["uprobe: summary of ls (pid 4242), 0.012 s, 41 probes", "uprobe: 41 probes with 0 hits"],
    );
}

#[test]
fn table_of_hostile_names() {
    let mut wide = open();
    wide.name = "x".repeat(70_000).into();
    let mut odd = open();
    odd.object = Some(Cow::Borrowed(b"/tmp/\x1b[31m\xff\xfe/"));
    odd.name = "é\n".into();
    let out = text(table, vec![wide, odd]);
    assert!(out.lines().all(|l| l.starts_with("uprobe: ")), "{}", out.len());
    assert!(!out.contains('\x1b'));
}

#[test]
fn json_of_one() {
    assert_lines(
        &text(json, vec![open()]),
        &[
            r#"{"version":1,"pid":4242,"exe":"/usr/bin/ls","wall_ns":12345678,"probes":["#,
            concat!(
                r#"  {"name":"open","at":"libc.so.6:openat","object":"/usr/lib/x86_64-linux-gnu/libc.so.6","#,
                r#""symbol":"openat","offset":0,"file_offset":1012352,"address":"0x7f1234567280","#,
                r#""kind":"entry","state":"armed","method":"boost","reason":null,"#,
                r#""hits":12,"returns":0,"nmissed":0,"filtered":0,"sampled_out":0,"lost":0,"unwound":0,"in_flight":0,"#,
                r#""latency":{"count":0,"sum_ns":0,"min_ns":0,"max_ns":0,"p50_ns":0,"p99_ns":0,"log2":[],"self_ns":0},"hist":{}}]}"#,
            ),
        ],
    );
}

#[test]
fn json_keeps_all_probes_in_order() {
    let probes: Vec<ProbeSummary<'static>> =
        (0..100).map(|i| ProbeSummary { name: format!("p{i}").into(), hits: i, ..pending() }).collect();
    let out = text(json, probes);
    let at: Vec<usize> =
        (0..100).map(|i| out.find(&format!("\"name\":\"p{i}\"")).expect("present")).collect();
    assert!(at.is_sorted());
    assert!(out.contains(r#""object":null,"symbol":null,"offset":0,"file_offset":null,"address":null"#));
    assert!(out.contains(r#""state":"pending","method":null,"reason":"object-not-loaded: no object"#));
}

#[test]
fn json_escapes() {
    for (bytes, expected) in [
        (&b"plain"[..], r#""plain""#),
        (b"a\"b\\c", r#""a\"b\\c""#),
        (b"\n\t\r\0\x1f\x7f", r#""\n\t\r\u0000\u001f\u007f""#),
        ("é→😀".as_bytes(), r#""é→😀""#),
        (b"\xffx\xe2\x82", "\"\u{fffd}x\u{fffd}\""),
        (b"</script>", r#""</script>""#),
    ] {
        let mut out = String::new();
        let summary = Summary { exe: bytes.into(), ..summary(vec![]) };
        json(&summary, &mut out).expect("a String takes everything");
        let exe = out.split_once("\"exe\":").expect("exe").1.split_once(",\"wall_ns\"").expect("wall").0;
        assert_eq!(exe, expected);
    }
}

#[test]
fn json_of_histograms() {
    let mut p = open();
    p.kind = Kind::Call;
    p.latency = Latency {
        count: 3,
        sum_ns: 60,
        min_ns: 10,
        max_ns: 30,
        p50_ns: 20,
        p99_ns: 30,
        self_ns: 50,
        log2: vec![0, 1, 2],
    };
    let hist = |name: &'static str, log2| Histogram { name: name.into(), is_signed: false, log2 };
    p.hist = vec![hist("len", vec![1, 2]), hist("flags", vec![])];
    let out = text(json, vec![p]);
    assert!(out.contains(r#""latency":{"count":3,"sum_ns":60,"min_ns":10,"max_ns":30,"p50_ns":20,"p99_ns":30,"log2":[0,1,2],"self_ns":50},"hist":{"len":[1,2],"flags":[]}}"#), "{out}");
}

/// Values with and without a sign, from end to end.
fn measured() -> ProbeSummary<'static> {
    let mut log2 = [0; histogram::BUCKETS];
    (log2[0], log2[2], log2[64]) = (1, 40, 20);
    let high = std::array::from_fn(|i| u64::from(i >= 63));
    ProbeSummary {
        hist: vec![
            Histogram::new("fd", true, &log2),
            Histogram::new("high", false, &high),
            Histogram::new("none", false, &[0; histogram::BUCKETS]),
        ],
        ..open()
    }
}

#[test]
fn table_of_values() {
    assert_lines(
        &text(table, vec![open(), measured()]),
        &[
            "uprobe: summary of ls (pid 4242), 0.012 s, 2 probes",
            "uprobe: NAME  HITS  STATE  METHOD  PLACE",
            "uprobe: open    12  armed  boost   libc.so.6:openat",
            "uprobe: open    12  armed  boost   libc.so.6:openat",
            "uprobe: open fd:",
            "uprobe: (..., 0)               20 |@@@@@@@@@@@@@@@@@@@@                    |",
            "uprobe: [0]                     1 |@                                       |",
            "uprobe: [1]                     0 |                                        |",
            "uprobe: [2, 4)                 40 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|",
            "uprobe: open high:",
            "uprobe: [4E, 8E)                1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|",
            "uprobe: [8E, 16E)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|",
        ],
    );
    let many = (0..12).map(|i| ProbeSummary { hits: i, ..measured() }).collect();
    let out = text(table, many);
    assert_eq!(out.matches(" fd:\n").count(), 10);
    assert!(out.ends_with("and histograms of 2 more probes with fewer hits\n"), "{out}");
}

#[test]
fn openmetrics_of_values() {
    let out = text(openmetrics, vec![measured()]);
    let lines: Vec<&str> = out.lines().skip_while(|line| *line != "# TYPE uprobe_value histogram").collect();
    let buckets = |name: &str| -> Vec<&str> {
        let label = format!(",value=\"{name}\",le=\"");
        lines.iter().filter_map(|line| line.split_once(label.as_str()).map(|(_, rest)| rest)).collect()
    };
    let fd = buckets("fd");
    assert_eq!(fd[..4], ["-1.0\"} 20", "0.0\"} 21", "1.0\"} 21", "3.0\"} 61"]);
    assert_eq!(fd.last(), Some(&"+Inf\"} 61"));
    let high = buckets("high");
    assert_eq!(high[63..], ["9223372036854775807.0\"} 1", "18446744073709551615.0\"} 2", "+Inf\"} 2"]);
    assert_eq!(buckets("none"), ["+Inf\"} 0"]);
    assert!(!out.contains("uprobe_value_sum") && !out.contains("uprobe_value_count"), "{out}");
    assert_eq!(lines.last(), Some(&"# EOF"));
}

#[test]
fn openmetrics_of_two() {
    let mut odd = refused();
    odd.name = "a\"b\\c\nd".into();
    assert_lines(
        &text(openmetrics, vec![open(), odd]),
        &[
            "# TYPE uprobe_process info",
            "# HELP uprobe_process The probed process.",
            r#"uprobe_process_info{pid="4242",exe="/usr/bin/ls"} 1"#,
            "# TYPE uprobe_wall_seconds gauge",
            "# UNIT uprobe_wall_seconds seconds",
            "# HELP uprobe_wall_seconds Time from the library's start to this report.",
            "uprobe_wall_seconds 0.012345678",
            "# TYPE uprobe_armed gauge",
            "# HELP uprobe_armed 1 where the probe is armed.",
            r#"uprobe_armed{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280",state="armed",method="boost"} 1"#,
            r#"uprobe_armed{probe="a\"b\\c\nd",at="exe:mian",state="refused",reason="no-symbol"} 0"#,
            "# TYPE uprobe_hits counter",
            "# HELP uprobe_hits Executions at which the probe's handler ran.",
            r#"uprobe_hits_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 12"#,
            r#"uprobe_hits_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_returns counter",
            "# HELP uprobe_returns Returns seen.",
            r#"uprobe_returns_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_returns_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_unwound counter",
            "# HELP uprobe_unwound Calls left without a return.",
            r#"uprobe_unwound_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_unwound_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_nmissed counter",
            "# HELP uprobe_nmissed Executions at which the handler could not run.",
            r#"uprobe_nmissed_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_nmissed_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_filtered counter",
            "# HELP uprobe_filtered Executions the filter turned away.",
            r#"uprobe_filtered_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_filtered_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_sampled_out counter",
            "# HELP uprobe_sampled_out Executions left out by sample or limit.",
            r#"uprobe_sampled_out_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_sampled_out_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_lost counter",
            "# HELP uprobe_lost Hits whose event did not fit the buffer.",
            r#"uprobe_lost_total{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_lost_total{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# TYPE uprobe_in_flight gauge",
            "# HELP uprobe_in_flight Calls that had not returned yet.",
            r#"uprobe_in_flight{probe="open",at="libc.so.6:openat",object="/usr/lib/x86_64-linux-gnu/libc.so.6",symbol="openat",file_offset="0xf7280"} 0"#,
            r#"uprobe_in_flight{probe="a\"b\\c\nd",at="exe:mian"} 0"#,
            "# EOF",
        ],
    );
}

#[test]
fn a_full_writer_is_an_error_not_a_panic() {
    struct Full(usize);
    impl fmt::Write for Full {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(s.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    for render in [table, json, openmetrics] {
        for room in 0..200 {
            assert!(render(&summary(vec![open(), refused()]), &mut Full(room)).is_err());
        }
    }
}
