//! Promise: who used which key and how much is known to the number, by program and user, where it is observed; where it is not, it is
//! unknown and never none; and whoever follows events gets each once.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::run::Running;
use keyvigil_common::client::{Client, Method};
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::{certificate, tool};
use keyvigil_tests::probe::Probe;
use keyvigil_tests::process::{program, run};
use serde_json::Value;

/// An agent of `host` that watches `keys` and takes its sensors of use from `socket`.
async fn agent(harness: &Harness, host: &str, keys: &Path, socket: &Path) -> Running {
    let mut config = harness.agent_config(host, &RootFs::host());
    config.keystore.paths = vec![keys.to_string_lossy().into_owned()];
    config.access.socket = socket.to_owned();
    let wanted = ["keystore", "access", "operations"];
    config.sampling.disabled =
        keyvigil_agent::collect::COLLECTORS.iter().map(|row| row.name.to_owned()).filter(|name| !wanted.contains(&name.as_str())).collect();
    harness.agent_on(host, &config, Dialer::tcp()).await
}

async fn key(client: &Client, host: &str) -> String {
    let private = || async {
        let keys = client.keys(&[("host", host), ("kind", "private_key")]).await.ok()?;
        Some(keys["keys"].as_array()?.first()?["id"].as_str()?.to_owned())
    };
    until("the private key", private).await
}

fn cli(client: &Harness, args: &[&str]) -> (i32, String) {
    let at = &client.running().endpoints;
    let out = run("keyvigil", args, &[("KEYVIGIL_URL", &at.url), ("KEYVIGIL_TOKEN", &at.admin_token), ("COLUMNS", "400")]);
    (out.status.code().unwrap_or(-1), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

/// `keyvigil watch` in a process of its own, from behind the event `after`.
fn watch(harness: &Harness, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let at = &harness.running().endpoints;
    let mut command = Command::new(program("keyvigil"));
    command.args(["watch", "--output", "json"]).args(args).env("KEYVIGIL_URL", &at.url).env("KEYVIGIL_TOKEN", &at.admin_token);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, lines)
}

fn next(lines: &mut BufReader<std::process::ChildStdout>) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    serde_json::from_str(&line).expect("one object a line")
}

fn interrupted(mut child: Child) -> Option<i32> {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    child.wait().expect("it ends").code()
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_a_real_program_are_known_to_the_number_and_a_host_without_helper_says_unknown() {
    let harness = Harness::start().await;
    let (web, db, sockets) = (harness.dir("web-keys"), harness.dir("db-keys"), harness.dir("run"));
    tool(&web, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out shop.key");
    tool(&db, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out backup.key");
    let socket = sockets.join("probe.sock");
    let Some(_probe) = Probe::start(&socket, &[]) else { return };
    let second = run("keyvigil-agent", &["probe", "--stop-with-stdin", "--socket", socket.to_str().expect("UTF-8")], &[]);
    assert_eq!(second.status.code(), Some(1), "one that comes later does not take the agent's helper away");
    assert!(socket.exists());
    let agents = [agent(&harness, "web", &web, &socket).await, agent(&harness, "db", &db, &sockets.join("nobody.sock")).await];
    let client = harness.client();
    let (shop, backup) = (key(&client, "web").await, key(&client, "db").await);
    let usage = async |id: &str| client.key_usage(id, &[]).await.expect("an answer");

    until("that use is observed", || async { Some(usage(&shop).await).filter(|usage| !usage["observed_since"].is_null()) }).await;
    let path = web.join("shop.key");
    until("that the key is followed", || async {
        tool(&web, "cat shop.key");
        let opened = client.events(&[("kind", "accessed"), ("key", &shop), ("exe", "cat"), ("user", "root")]).await.ok()?;
        opened["events"].as_array()?.iter().any(|event| event["path"].as_str() == path.to_str()).then_some(())
    })
    .await;
    for _ in 0..7 {
        tool(&web, "openssl dgst -sha256 -sign shop.key -out /dev/null /etc/hostname");
    }
    let signed = until("seven signatures", || async { Some(usage(&shop).await).filter(|usage| usage["count"]["uses"]["sign"].as_u64() >= Some(7)) }).await;
    assert_eq!(signed["count"]["uses"]["sign"], 7, "{signed}");
    let of = |usage: &Value, exe: &str| {
        usage["actors"].as_array().into_iter().flatten().find(|actor| actor["exe"].as_str().is_some_and(|known| known.ends_with(exe))).cloned()
    };
    let openssl = of(&signed, "/openssl").expect("openssl is told");
    assert_eq!((openssl["count"]["uses"]["sign"].as_u64(), openssl["user"].as_str(), &openssl["hosts"]), (Some(7), Some("root"), &serde_json::json!(["web"])));
    let of_series: u64 = signed["series"]["sign"].as_array().expect("points").iter().filter_map(|point| point[1].as_u64()).sum();
    assert_eq!(of_series, 7, "the series has what the total has: {signed}");
    assert!(signed["last_used"].as_i64() >= signed["observed_since"].as_i64(), "{signed}");

    let unknown = usage(&backup).await;
    assert_eq!((unknown["observed"].as_str(), &unknown["count"], &unknown["observed_since"]), (Some("unknown"), &Value::Null, &Value::Null), "{unknown}");
    assert_eq!(unknown["reasons"][0]["reason"], "no sensor observes use on db", "{unknown}");
    let with = async |used: &str| client.keys(&[("used", used), ("kind", "private_key")]).await.expect("keys")["keys"][0]["id"].as_str().map(str::to_owned);
    assert_eq!((with("unknown").await, with("never").await, with("since:-1h").await), (Some(backup.clone()), None, Some(shop.clone())));

    let (code, told) = cli(&harness, &["keys", "--usage", &shop[..12]]);
    assert!(code == 0 && told.contains("sign 7") && told.contains("/openssl") && told.contains("root"), "{told}");
    let (code, told) = cli(&harness, &["keys", "--usage"]);
    assert!(code == 0 && told.contains("shop.key") && told.contains("nothing observes") && told.contains("2 of 2 private keys"), "{told}");
    let (code, told) = cli(&harness, &["keys", "show", &backup[..12]]);
    assert!(code == 0 && told.contains("no sensor observes use on db"), "{told}");

    let mut cbom = Vec::new();
    client.cbom(&[("version", "1.6")], |piece| std::io::Write::write_all(&mut cbom, piece)).await.expect("a CBOM");
    let text = String::from_utf8(cbom).expect("text");
    assert!(["observed_since", "last_used_by", "uses_since"].iter().all(|name| text.contains(&format!("keyvigil:usage:{name}"))), "the evidence stands in it");

    let latest = client.events(&[("limit", "1")]).await.expect("events")["events"][0]["id"].as_str().expect("an id").to_owned();
    let (child, mut lines) = watch(&harness, &["--kind", "accessed", "--exe", "od", "--key", &shop, "--after", &latest]);
    tool(&web, "head -c 1 shop.key");
    tool(&web, "od shop.key");
    let event = tokio::task::spawn_blocking(move || (next(&mut lines), lines)).await.expect("an event").0;
    assert_eq!((event["key"].as_str(), event["actor"]["uid"].as_u64()), (Some(shop.as_str()), Some(0)), "{event}");
    assert!(event["actor"]["exe"].as_str().is_some_and(|exe| exe.ends_with("/od")), "{event}");
    assert_eq!(interrupted(child), Some(130));
    for agent in agents {
        agent.stop().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_events_gets_each_once_also_over_a_restart_and_wrong_questions_are_refused() {
    let mut harness = Harness::start().await;
    let keys = harness.dir("keys");
    let _path = certificate(&keys, "first", 90);
    let nobody = harness.dir("run").join("nobody.sock");
    let running = agent(&harness, "web", &keys, &nobody).await;
    let client = harness.client();
    until("the first certificate", || async { client.keys(&[("search", "first.example.org")]).await.ok().filter(|keys| keys["total"].as_u64() > Some(0)) })
        .await;
    let from = client.events(&[("after", "latest")]).await.expect("where it stands")["next_after"].as_str().expect("text").to_owned();

    // Asked before there is anything: it comes when it is there.
    let waiting = [("after", from.as_str()), ("kind", "created"), ("wait", "30")];
    let (page, _path) = tokio::join!(client.events(&waiting), async { certificate(&keys, "second", 90) });
    let page = page.expect("an answer");
    assert!(!page["events"].as_array().expect("events").is_empty(), "{page}");
    until("certificate and key", || async {
        client.events(&[("kind", "created")]).await.ok().filter(|all| all["events"].as_array().is_some_and(|all| all.len() == 2))
    })
    .await;
    running.stop().await.expect("a clean end");

    harness.restart().await;
    let client = harness.client();
    let (mut after, mut ids) = (from, Vec::new());
    loop {
        let page = client.events(&[("after", &after), ("kind", "created"), ("limit", "1")]).await.expect("a page");
        page["next_after"].as_str().expect("text").clone_into(&mut after);
        let Some(event) = page["events"].get(0) else { break };
        ids.push(event["id"].as_str().expect("an id").to_owned());
    }
    let mut all: Vec<String> = client.events(&[("kind", "created")]).await.expect("events")["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| e["id"].as_str().expect("an id").to_owned())
        .collect();
    all.reverse();
    assert_eq!(ids, all, "each once, in the order in which they were stored");

    let id = client.keys(&[]).await.expect("keys")["keys"][0]["id"].as_str().expect("an id").to_owned();
    let usage = format!("/keys/{id}/usage");
    let ask = async |path: &str, query: &[(&str, &str)]| client.call(Method::GET, path, query, None).await.expect_err("refused").to_string();
    assert!(ask(&usage, &[("start_time", "now"), ("end_time", "-1h")]).await.contains("start_time lies after end_time"));
    assert!(ask(&usage, &[("start_time", "-30d"), ("interval", "1s")]).await.contains("use a longer interval"));
    assert!(ask(&usage, &[("interval", "0s")]).await.contains("write 1h or 1d"));
    assert!(ask("/keys/%FF/usage", &[]).await.contains("the path names nothing"));
    assert!(ask(&usage, &[("since", "-30d")]).await.contains("known are: start_time end_time interval"));
    assert!(ask("/keys", &[("used", "often")]).await.contains("none of: never unknown before:TIME since:TIME"));
    assert!(ask("/events", &[("after", "x")]).await.contains("after must be what next_after said, or latest"));
    assert!(ask("/events", &[("after", "1"), ("wait", "3600")]).await.contains("wait must be a whole number from 1 to 30"));
    assert!(ask("/events", &[("wait", "3")]).await.contains("wait has no place here without after"));
    assert!(ask("/events", &[("after", "1"), ("cursor", "1:1")]).await.contains("cursor has no place beside after"));
    let (code, told) = cli(&harness, &["watch", "--kind", "acessed"]);
    assert!(code == 2 && told.contains("is none of: created"), "{code} {told}");
    let (code, told) = cli(&harness, &["keys", "--usage", "000000"]);
    assert!(code == 1 && told.contains("no key has the id"), "{code} {told}");
}
