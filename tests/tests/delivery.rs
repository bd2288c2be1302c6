//! Promise: what was acknowledged is stored exactly once, whoever is killed, and whatever the link does.

use std::sync::Arc;

use keyvigil_agent::buffer::{Buffer, Place};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::sender::Itself;
use keyvigil_common::client::{Client, Query};
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::telemetry::Registry;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::small_host;
use keyvigil_tests::link::{Hasty, Link};
use keyvigil_tests::oracle::{Issued, Stored};
use keyvigil_tests::process::{Agent, Aggregator, run};
use keyvigil_tests::sender::{self, Options, Sender};
use keyvigil_tests::up::Up;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_fails_and_an_aggregator_that_is_killed_lose_and_double_nothing() {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(keyvigil_common::backoff::random_u64);
    println!("seed {seed}");
    let dir = tempfile::tempdir().expect("a directory");
    let (store, agent) = (dir.path().join("aggregator"), dir.path().join("agent"));
    let mut aggregator = Aggregator::start(&store, &[]);
    let link = Link::new(seed, &aggregator.ingest_address());
    sender::join(&aggregator.client(), &agent, "sender").await;
    let clock: SharedClock = Arc::new(Hasty(SystemClock::shared()));
    let base_ms = clock.now_ms() - 3_600_000;
    let sender = Sender::start(Options { clock, dialer: link.dialer(), ..Options::of(&agent, base_ms) });
    let mut issued = Issued::default();
    for round in 0..6 {
        for n in 1 + round * 60..=60 + round * 60 {
            sender.send(n).await.expect("committed");
            issued.attempted.insert(n);
            issued.committed.insert(n);
        }
        // Some of it has arrived, some is on its way: then the aggregator dies.
        let seen = sender.buffer.level().batches;
        until("something is acknowledged", || async { (sender.buffer.level().batches < seen.max(1)).then_some(()) }).await;
        aggregator.kill();
        aggregator = Aggregator::start(&store, &[]);
        link.lead_to(&aggregator.ingest_address());
        println!("round {round}: {} faults", link.faults.load(std::sync::atomic::Ordering::Relaxed));
    }
    link.heal();
    until("everything is acknowledged", || async { sender.is_drained().then_some(()) }).await;
    let stored = Stored::ask(&aggregator.client(), "sender", base_ms).await.expect("an answer");
    println!("{}", stored.judge(&issued).unwrap_or_else(|broken| panic!("seed {seed}: {broken}")));
    assert_eq!(stored.gaps, [], "seed {seed}: nothing was given up");
    assert!(link.faults.load(std::sync::atomic::Ordering::Relaxed) > 0, "the link never failed: the test tests nothing");
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_that_forgets_what_agents_tell_differences_to_is_told_all_at_once_and_nobody_complains() {
    let harness = Harness::start().await;
    let (dir, base_ms) = (harness.dir("sender"), SystemClock::shared().now_ms() - 3_600_000);
    sender::join(&harness.client(), &dir, "sender").await;
    let sender = Sender::start(Options::of(&dir, base_ms));
    let number = |registry: &Registry, name: &str| registry.all().iter().find(|number| number.metric_id == name).map_or(0, |number| number.value.get());
    let (mut issued, mut forgotten) = (Issued::default(), 0);
    for n in 1..=30 {
        issued.attempted.insert(n);
        issued.committed.insert(n);
        sender.send(n).await.expect("committed");
        until("it is delivered", || async { sender.is_drained().then_some(()) }).await;
        if n % 10 == 0 {
            harness.running().app.ingest.forget_bases();
            forgotten += u64::from(n < 30);
        }
    }
    let stored = Stored::ask(&harness.client(), "sender", base_ms).await.expect("an answer");
    println!("{}", stored.judge(&issued).unwrap_or_else(|broken| panic!("{broken}")));
    let registry = &harness.running().app.registry;
    assert_eq!(number(&sender.registry, "keyvigil.agent.asked_whole_total"), forgotten);
    assert_eq!(number(registry, "keyvigil.ingest.asked_whole_total"), forgotten);
    assert_eq!(number(registry, "keyvigil.ingest.differences_total"), 30 - 1 - forgotten, "all others but the first");
    assert_eq!((number(&sender.registry, "keyvigil.agent.push_failures_total"), number(registry, "keyvigil.ingest.refused_total")), (0, 0));
    sender.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_delivers_every_number_once() {
    keyvigil_common::tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let aggregator = Aggregator::start(&dir.path().join("aggregator"), &[]);
    let client = aggregator.client();
    let _host = small_host(&dir.path().join("host"));
    let config = dir.path().join("agent.toml");
    let intervals: String = keyvigil_agent::collect::COLLECTORS.iter().map(|row| format!("{} = [\"100ms\", \"100ms\"]\n", row.name)).collect();
    let text = format!("state_dir = {:?}\nroot = {:?}\n[sampling.intervals]\n{intervals}", dir.path().join("agent"), dir.path().join("host"));
    std::fs::write(&config, text).expect("a file");
    let token = client.create_token(1, "5m").await.expect("a token");
    let joined = run("keyvigil-agent", &["--config", config.to_str().expect("UTF-8"), "join", token["token"].as_str().expect("text")], &[]);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    let cursor = || async { client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64() };
    let mut last = 0;
    for round in 0..8 {
        let agent = Agent::start(&config);
        last = until("the cursor moves on", || async { cursor().await.filter(|now| *now > last + round % 3) }).await;
        agent.kill();
    }
    let agent = Agent::start(&config);
    until("the last agent delivers", || async { cursor().await.filter(|now| *now > last) }).await;
    agent.stop();
    let master = MasterKey::load_or_create(&dir.path().join("agent/buffer.key")).expect("a key");
    let clock = SystemClock::shared();
    let options = Options::of(&dir.path().join("agent"), 0);
    let root = RootFs::new(dir.path().join("host"));
    let origin = Itself::starting(&root, &options.dir, Arc::clone(&clock)).machine().to_owned();
    let place = Place { path: options.dir.join("buffer.db"), vfs: None, origin, clock: Arc::clone(&clock) };
    let level = Buffer::open(place, master, options.bounds, clock.now_ms()).expect("the buffer").level();
    assert_eq!(level.batches, 0, "a clean end delivers what is left");
    assert_eq!(cursor().await, Some(level.last_seq), "each number was settled");
    assert_eq!(client.gaps(&[]).await.expect("gaps")["gaps"], serde_json::json!([]), "nothing was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_joins_again_goes_on_and_one_that_meets_another_aggregator_sends_again_what_it_still_holds() {
    keyvigil_common::tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("up");
    let cursor = async |client: &Client| client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64();
    // Other ports each time, so the agent joins again; its buffer stays.
    for _ in 0..2 {
        let up = Up::start(&state, &[("KEYVIGIL_KEYSTORE__PATHS", "/nonexistent")]);
        let client = up.client();
        until("it delivers", || async { cursor(&client).await.filter(|now| *now > 0) }).await;
        let hosts = client.hosts().await.expect("hosts");
        assert_eq!(hosts["hosts"].as_array().map(Vec::len), Some(1), "the same host, once: {hosts}");
        assert_eq!(client.gaps(&[]).await.expect("gaps")["gaps"], serde_json::json!([]));
        assert!(up.interrupt(), "a clean end");
    }
    std::fs::remove_dir_all(state.join("aggregator")).expect("the aggregator's state is gone");
    let lost_ms = SystemClock::shared().now_ms();
    let up = Up::start(&state, &[("KEYVIGIL_KEYSTORE__PATHS", "/nonexistent")]);
    let client = up.client();
    until("it delivers to the new one", || async { cursor(&client).await.filter(|now| *now > 0) }).await;
    // What it acknowledged to the old one lies in the replay window still.
    until("the new one has what was sampled before it was there", || async {
        let query = Query { metric_pattern: "system.load.1m".into(), start_time: Some("-1h".into()), ..Query::default() };
        let answer = client.query_metrics(&query).await.ok()?;
        answer.series.iter().flat_map(|series| &series.points).any(|(at, _)| *at < lost_ms).then_some(())
    })
    .await;
    assert_eq!(client.gaps(&[]).await.expect("gaps")["gaps"], serde_json::json!([]), "nothing of it was lost");
    let second = Up::try_start(&state);
    assert!(second.contains("is in use by another aggregator"), "two in one directory: {second}");
}
