//! JSON and YAML as tools and people write them.

use proptest::prelude::*;

use std::path::Path;

use keyvigil_common::limits::TEXT_BYTES_MAX;

use super::*;
use crate::parse::keys::{FaultClass, Found, keys_at};

/// All texts of a document with the way to them, `a.b.0=x`.
fn flat(text: &str) -> Vec<String> {
    fn walk(value: Value<'_, '_>, way: &str, depth: usize, out: &mut Vec<String>) {
        if depth > 20 {
            return;
        }
        if let Some(text) = value.text() {
            out.push(format!("{way}={}", &*text));
        }
        value.entries().for_each(|(key, value)| walk(value, &format!("{way}.{}", &*key), depth + 1, out));
        value.items().enumerate().for_each(|(n, value)| walk(value, &format!("{way}.{n}"), depth + 1, out));
    }
    let document = Document::read(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let mut out = Vec::new();
    document.roots().for_each(|root| walk(root, "", 0, &mut out));
    out
}

#[test]
fn json_is_read_as_it_is_meant() {
    assert_eq!(flat(r#"{"a": [1, {"b":"x\/\n\u00e9\ud83d\ude00"}], "c":{}, "d":null,"e":""}"#), [".a.0=1", ".a.1.b=x/\n\u{e9}\u{1f600}", ".d=null", ".e="]);
    assert_eq!(flat("[\n\t\"a:b\" ,\n\t[] ]"), [".0=a:b"]);
    for broken in ["{\"a\":", "{\"a\" 1}", "[1", "\"a", "{]", "[1]]", "{\"a\":1} x"] {
        assert!(Document::read(broken).is_err(), "{broken}");
    }
}

#[test]
fn yaml_is_read_as_it_is_meant() {
    let text = "%YAML 1.2\n---\n# comment\napiVersion: v1  # behind\nlist:\n- name: a\n  url: https://x:1/#y\n\n- 'it''s'\n- - 1\n  - 2\n-\n  b: 2\nempty:\n\
        flow: {a: [x, 'y, z'], \"b\": c}\n\"quoted key\": |\n  line: 1\n    two\nfolded: >-\n  a\n  b\nplain: one\n  two\nlast: \"a\\tb\"\n...\n---\nsecond\n";
    let expected = [
        ".apiVersion=v1",
        ".list.0.name=a",
        ".list.0.url=https://x:1/#y",
        ".list.1=it's",
        ".list.2.0=1",
        ".list.2.1=2",
        ".list.3.b=2",
        ".flow.a.0=x",
        ".flow.a.1=y, z",
        ".flow.b=c",
        ".quoted key=line: 1\ntwo",
        ".folded=a b",
        ".plain=one two",
        ".last=a\tb",
        "=second",
    ];
    assert_eq!(flat(text), expected);
    assert_eq!(flat(&text.replace('\n', "\r\n")), expected);
}

#[test]
fn anchors_are_references_and_a_bomb_of_them_is_small() {
    let merged = "base: &base {a: 1, b: 2}\nuser:\n  <<: *base\n  b: 3\nagain: *base\n";
    let document = Document::read(merged).unwrap();
    let root = document.roots().next().unwrap();
    let text = |of: &str, key: &str| root.get(of).unwrap().text_of(key).unwrap().to_string();
    assert_eq!((text("user", "a"), text("user", "b"), text("again", "b")), ("1".into(), "3".into(), "2".into()));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    assert!(Document::read(&bomb).unwrap().nodes.len() < 1_000);
    assert!(Document::read(&"[".repeat(10_000)).is_err() && Document::read(&"- ".repeat(10_000)).is_err());
    assert!(Document::read(&"&a ".repeat(10_000)).is_err() && Document::read(&format!("[{}]", "0,".repeat(NODES_MAX))).is_err());
    assert!(Document::read("a: *nothing").is_err());
}

/// Twenty thousand users with twenty thousand members each would be read for hours; a name of a megabyte, told of each of two
/// thousand keys, would take gigabytes.
#[test]
fn what_aliases_repeat_is_bounded_in_time_and_memory_and_told() {
    let members: String = (0..15_000).map(|n| format!("k{n}: 1,")).collect();
    let users = "- {<<: *m, name: u}\n".repeat(9_000);
    let parsed = keys_at(format!("client-key-data: x\nm: &m {{{members}}}\nusers:\n{users}").as_bytes(), Path::new("/x"));
    assert_eq!(parsed.faults.iter().map(|fault| fault.class).collect::<Vec<_>>(), [FaultClass::TooCostly]);
    let key = r#"{"kty":"oct","k":"AAAA","kid":*n,"key_ops":*o},"#.repeat(1_000);
    let parsed = keys_at(format!("[{{\"a\":\"kty\"}}, &n \"{}\", &o [{}], {key}]", "n".repeat(1 << 20), "*n,".repeat(10_000)).as_bytes(), Path::new("/x"));
    assert_eq!(parsed.faults.iter().map(|fault| fault.class).collect::<Vec<_>>(), [FaultClass::TooCostly]);
    assert!(!parsed.objects.is_empty() && parsed.objects.len() < 100, "{}", parsed.objects.len());
    let held = |found: &Found| found.within.entry.as_ref().map_or(0, String::capacity) + found.facts.usage.iter().map(String::capacity).sum::<usize>();
    assert!(parsed.objects.iter().all(|found| found.facts.is_clamped() && held(found) <= 33 * TEXT_BYTES_MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_panics_or_loops(parts in proptest::collection::vec(prop_oneof![
        Just("a"), Just(": "), Just(":"), Just("- "), Just("-"), Just("\n"), Just("\n  "), Just("\n    "), Just("{"), Just("}"), Just("["), Just("]"), Just(","),
        Just("\""), Just("'"), Just("\\"), Just("&x "), Just("*x"), Just("| "), Just(">"), Just("#"), Just("!t "), Just("---\n"), Just("\u{e9}"), Just("<<"), Just("? "), Just("\t"),
    ], 0..60)) {
        let text = parts.concat();
        if let Ok(document) = Document::read(&text) {
            prop_assert!(document.nodes.len() <= 2 * text.len() + 2);
            for map in document.maps() {
                let _ = (map.get("a"), map.entries().count());
            }
        }
    }
}
