//! Promise: `keyvigil up` works on every address, and the operator's commands say by their exit code what was wrong.

use keyvigil_tests::process::run;
use keyvigil_tests::up::Up;

fn said(out: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn up_on_an_address_that_others_reach_serves_tls_that_the_own_ca_vouches_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let up = Up::start_at(dir.path(), "0.0.0.0:0", &[]);
    assert!(up.text("url").starts_with("https://127.0.0.1:"), "an address that works from here: {}", up.at);
    assert!(up.text("ingest_url").starts_with("https://127.0.0.1:"), "{}", up.at);
    let ca = dir.path().join("aggregator/pki/ca.pem");
    let env = [("KEYVIGIL_TOKEN", up.text("admin_token")), ("KEYVIGIL_URL", up.text("url"))];
    let out = run("keyvigil", &["hosts", "--output", "json", "--ca-file", ca.to_str().expect("UTF-8")], &env);
    let hosts: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert!(out.status.success() && hosts["hosts"].as_array().map(Vec::len) == Some(1), "the agent joined: {}", said(&out));
    let out = run("keyvigil", &["hosts"], &env);
    assert!(out.status.code() == Some(69) && said(&out).contains("certificate"), "a CA that nobody named is not trusted: {}", said(&out));
    let out = run("keyvigil", &["hosts", "--ca-file", ca.to_str().expect("UTF-8")], &env[1..]);
    assert_eq!(out.status.code(), Some(77), "no token, no answer: {}", said(&out));
    assert!(up.interrupt(), "Ctrl-C is a clean end");
}

#[test]
fn what_is_wrong_with_a_command_shows_in_its_exit_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = dir.path().join("no.pem");
    std::fs::write(&text, "nothing").expect("a file");
    let text = text.to_str().expect("UTF-8");
    let cases: [(&str, &[&str], i32, &str); 7] = [
        ("keyvigil", &["--url", "notaurl", "status"], 2, "\"notaurl\" is not the address of an aggregator"),
        ("keyvigil", &["--url", "ftp://127.0.0.1", "status"], 2, "neither http nor https"),
        ("keyvigil", &["--ca-file", text, "status"], 2, "there is no certificate in it"),
        ("keyvigil", &["--ca-file", "/nonexistent", "status"], 2, "cannot read the CA file"),
        ("keyvigil", &["--url", "http://127.0.0.1:1", "status"], 69, "keyvigil up"),
        ("keyvigil-aggregator", &["--dir", "/sys/keyvigil", "run"], 77, "cannot use /sys/keyvigil"),
        ("keyvigil-agent", &["--dir", "/sys", "run"], 77, "cannot use /sys"),
    ];
    for (program, args, code, words) in cases {
        let out = run(program, args, &[]);
        assert!(out.status.code() == Some(code) && said(&out).contains(words), "{program} {args:?}: {:?} {}", out.status, said(&out));
    }
}
