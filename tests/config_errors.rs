//! Wrong configs and exactly what is said about them: each `config_errors/NAME.toml` has its
//! messages, carets and all, in `NAME.expected`. `UPDATE_EXPECT=1` writes those anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use uprobe::config::{self, Severity};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_errors");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("tests/config_errors")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    cases.sort();
    cases
}

fn messages(path: &Path) -> String {
    let text = std::fs::read(path).expect("config");
    let name = path.file_name().expect("name").to_string_lossy();
    let loaded = config::parse_bytes(&text, &name);
    let mut out = String::new();
    for diagnostic in &loaded.diagnostics {
        writeln!(out, "{diagnostic}").expect("string");
    }
    let kept: Vec<String> = loaded
        .config
        .probes
        .iter()
        .map(|p| p.name.clone() + if p.not_yet.is_some() { " (not yet)" } else { "" })
        .collect();
    writeln!(out, "probes: [{}]", kept.join(", ")).expect("string");
    out
}

#[test]
fn every_mistake_is_pointed_at() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let cases = cases();
    assert!(cases.len() >= 70, "only {} cases", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        let found = messages(case);
        let expected_path = case.with_extension("expected");
        if update {
            std::fs::write(&expected_path, &found).expect("write");
            continue;
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            write!(wrong, "{}\n--- expected\n{expected}--- found\n{found}\n", case.display())
                .expect("string");
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n(UPDATE_EXPECT=1 accepts)");
}

#[test]
fn every_case_is_wrong_or_odd() {
    for case in cases() {
        let loaded = config::parse_bytes(&std::fs::read(&case).expect("config"), "f");
        let is_warning = case.file_stem().expect("name").to_string_lossy().starts_with("warn");
        assert_eq!(loaded.has_errors(), !is_warning, "{}", case.display());
        assert!(loaded.diagnostics.iter().any(|d| (d.severity == Severity::Warning) == is_warning));
    }
}

#[test]
fn no_expectation_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_errors");
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        assert!(path.with_extension("toml").exists(), "{}", path.display());
    }
}
