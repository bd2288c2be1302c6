//! Promise: within seconds of `keyvigil up` the page shows this host, its keys and its alerts, in real Chromium, light and
//! dark, wide and narrow; and Ctrl-C ends all of it.

use std::path::Path;
use std::process::Command;

use keyvigil_common::client::Query;
use keyvigil_tests::harness::until;
use keyvigil_tests::host::certificate;
use keyvigil_tests::process::Aggregator;
use keyvigil_tests::up::Up;
use serde_json::json;

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../aggregator/dashboard");

/// Runs the checks of a script in a browser.
fn browse(script: &str, args: &[&str]) {
    let out = Command::new("node").arg(script).args(args).current_dir(DASHBOARD).output().expect("node is installed");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

#[test]
fn the_page_of_an_aggregator_without_hosts_says_what_to_do_and_shows_nothing_as_fine() {
    let dir = tempfile::tempdir().expect("a directory");
    let aggregator = Aggregator::start(&dir.path().join("state"), &[]);
    browse("e2e/empty.mjs", &[aggregator.at["url"].as_str().expect("text"), dir.path().join("shots").to_str().expect("UTF-8")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_this_host_its_keys_and_an_alert_in_real_chromium() {
    keyvigil_common::tls::install_provider();
    assert!(Path::new(DASHBOARD).join("dist/index.html").exists(), "the dashboard is not built: run `make dashboard`, or `make test`");
    let dir = tempfile::tempdir().expect("a directory");
    let keys = dir.path().join("keys");
    std::fs::create_dir(&keys).expect("a directory");
    let path = certificate(&keys, "page", 20);
    let up = Up::start(&dir.path().join("state"), &[("KEYVIGIL_KEYSTORE__PATHS", keys.to_str().expect("UTF-8")), ("KEYVIGIL_ALERTS__INTERVAL", "1s")]);
    let client = up.client();
    until("this host's CPU is there", || async {
        let query = Query { metric_pattern: "system.cpu.usage_total".into(), ..Query::default() };
        client.query_metrics(&query).await.ok()?.series.first().map(|_| ())
    })
    .await;
    until("the certificate is there", || async { (client.keys(&[("search", "page.example.org")]).await.ok()?["total"].as_u64()? > 0).then_some(()) }).await;
    let rule = json!({"rule_id": "always", "name": "Always on", "metric_pattern": "system.memory.usage_percent", "threshold_value": 0, "comparison": ">",
                      "priority": "high", "window_seconds": 600});
    client.add_rule(&rule).await.expect("a rule");
    until("the alert fires", || async {
        client.alerts(&[("state", "firing")]).await.ok()?["alerts"].as_array()?.iter().find(|a| a["rule_id"] == "always").map(|_| ())
    })
    .await;

    let shots = std::env::var("KEYVIGIL_SHOTS").unwrap_or_else(|_| dir.path().join("shots").to_string_lossy().into_owned());
    let expect = ["--expect-key-subject", "CN=page.example.org", "--expect-alert", "Always on", "--token", up.text("admin_token")];
    browse("e2e/page.mjs", &[&[up.text("url"), &shots], &expect[..]].concat());
    drop(path);
    assert!(up.interrupt(), "Ctrl-C ends all cleanly");
}
