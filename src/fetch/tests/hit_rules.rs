//! The modules that run at a hit use nothing that allocates, formats or panics.

#[test]
fn no_forbidden_word_in_what_runs_at_a_hit() {
    let modules = [
        ("fetch/eval.rs", include_str!("../eval.rs")),
        ("fetch/filter_eval.rs", include_str!("../filter_eval.rs")),
        ("trace/record.rs", include_str!("../../trace/record.rs")),
        ("trace/line.rs", include_str!("../../trace/line.rs")),
        ("trace/event_text.rs", include_str!("../../trace/event_text.rs")),
        ("trace/event_json.rs", include_str!("../../trace/event_json.rs")),
    ];
    let forbidden = [
        "format!",
        "write!",
        "println!",
        "vec!",
        "Vec",
        "String",
        "Box",
        "to_owned",
        "to_string",
        "to_vec",
        "collect",
        "unwrap()",
        "expect(",
        "panic!",
        "assert",
        "unreachable!",
        "todo!",
        "std::",
        "unsafe",
        "thread_local",
        "Mutex",
        "Rc<",
        "Arc<",
    ];
    for (name, text) in modules {
        assert!(text.contains("//! Runs at a hit"), "{name} says so in its head");
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap();
            for word in forbidden {
                assert!(!line.contains(word), "{name}:{}: {word}", number + 1);
            }
            // Indexing panics; `get` doesn't. An array's type and literal, and attributes, are no indexing.
            let indexed = line.char_indices().any(|(i, c)| {
                c == '[' && line[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ')')
            });
            assert!(!indexed, "{name}:{}: indexing", number + 1);
        }
    }
}
