//! Promise: within seconds of `keyvigil up` the page shows this host, its keys and its alerts, in real Chromium, light and
//! dark, wide and narrow; and Ctrl-C ends all of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyvigil_common::client::{Client, Query};
use keyvigil_common::process::EXIT_PERMISSION;
use keyvigil_tests::harness::until;
use keyvigil_tests::host::{certificate, tool};
use keyvigil_tests::process::{Aggregator, program};
use keyvigil_tests::up::Up;
use serde_json::json;

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../aggregator/dashboard");

/// Runs the checks of a script in a browser.
fn browse(script: &str, args: &[&str]) {
    let out = Command::new("node").arg(script).args(args).current_dir(DASHBOARD).output().expect("node is installed");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

/// Whether `keyvigil up` of this user can have a helper.
fn may_observe(dir: &Path) -> bool {
    let mut command = Command::new(program("keyvigil-agent"));
    command.args(["probe", "--stop-with-stdin", "--socket"]).arg(dir.join("try.sock")).env("LOG_LEVEL", "error");
    let status = command.stdin(Stdio::null()).status().expect("the helper starts");
    assert!(status.success() || status.code() == Some(EXIT_PERMISSION.into()), "the helper has ended: {status}");
    status.success()
}

/// The agent of another host, which has no helper.
struct Blind(Child);

impl Blind {
    async fn join(client: &Client, dir: &Path, name: &str, keys: &Path) -> Self {
        let token = client.create_token(1, "5m").await.expect("a token")["token"].as_str().expect("text").to_owned();
        let state = dir.join(name);
        let agent = || {
            let mut command = Command::new(program("keyvigil-agent"));
            // Without its memory, so that the alert stays one of this host alone.
            command.arg("--dir").arg(&state).env("KEYVIGIL_SAMPLING__DISABLED", "served:memory").env("KEYVIGIL_KEYSTORE__PATHS", keys);
            command.env("KEYVIGIL_ACCESS__SOCKET", dir.join("nobody.sock")).env("LOG_LEVEL", "error").stdout(Stdio::null());
            command
        };
        assert!(agent().args(["join", &token, "--name", name]).status().expect("it runs").success(), "{name} joins");
        Self(agent().args(["run", "--stop-with-stdin"]).stdin(Stdio::piped()).spawn().expect("it starts"))
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Id of the private key in the file `name`.
async fn private_key(client: &Client, name: &str) -> String {
    let filter = [("search", name), ("kind", "private_key")];
    until("the private key", || async { Some(client.keys(&filter).await.ok()?["keys"].get(0)?["id"].as_str()?.to_owned()) }).await
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
    let _path = certificate(&keys, "page", 20);
    let paths = ("KEYVIGIL_KEYSTORE__PATHS", keys.to_str().expect("UTF-8"));
    let up = Up::start(&dir.path().join("state"), &[paths, ("KEYVIGIL_ALERTS__INTERVAL", "1s"), ("KEYVIGIL_SAMPLING__DISABLED", "served")]);
    let client = up.client();
    let unseen = dir.path().join("unseen");
    std::fs::create_dir(&unseen).expect("a directory");
    let _path = certificate(&unseen, "backup", 90);
    let blind = Blind::join(&client, dir.path(), "db", &unseen).await;
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

    let (used, unobserved) = (private_key(&client, "page.key").await, private_key(&client, "backup.key").await);
    let is_observed = may_observe(dir.path());
    if is_observed {
        until("that openssl used the key", || async {
            tool(&keys, "openssl dgst -sha256 -sign page.key -out /dev/null /etc/hostname");
            let usage = client.key_usage(&used, &[]).await.ok()?;
            (usage["last_used_by"]["exe"].as_str()?.ends_with("/openssl") && usage["count"]["uses"]["sign"].as_u64()? > 0).then_some(())
        })
        .await;
    } else {
        eprintln!("not tried: who used a key, as the kernel does not let this user look");
    }

    let shots = std::env::var("KEYVIGIL_SHOTS").unwrap_or_else(|_| dir.path().join("shots").to_string_lossy().into_owned());
    let expect = ["--expect-key-subject", "CN=page.example.org", "--expect-alert", "Always on", "--token", up.text("admin_token")];
    let of_use: &[&str] = if is_observed { &["--used-key", &used, "--used-by", "/openssl"] } else { &[] };
    browse("e2e/page.mjs", &[&[up.text("url"), &shots], &expect[..], of_use, &["--unobserved-key", &unobserved]].concat());
    drop(blind);
    assert!(up.interrupt(), "Ctrl-C ends all cleanly");
}
