//! Promise: certificates end, are revoked and are replaced with their CA, clocks are set wrong and right again, and no agent
//! is locked out that should not be, none is let in that should not be, and no batch is lost.

#[path = "certs/commands.rs"]
mod commands;
#[path = "certs/host.rs"]
mod host;
#[path = "certs/strangers.rs"]
mod strangers;

use host::{DAY, World};
use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::{Identity, NewKey};
use keyvigil_common::client::{ClientError, Method};
use keyvigil_common::config::Period;
use keyvigil_common::stop::{Stop, Tasks};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_ended_while_it_was_off_comes_back_and_brings_what_waited() {
    let world = World::start(|config| {
        config.enroll.certificate_life = Period(DAY);
        config.enroll.grace = Period(DAY * 30);
    })
    .await;
    let mut host = world.host("web-1").await;
    host.link.cut();
    host.run();
    world.until("something waits", || async { (host.waiting() > 3).then_some(()) }).await;
    host.stop().await;
    let (ended, waits) = (host.identity(), host.waiting());
    // Beyond the certificate's day, within what the buffer keeps.
    world.advance(DAY * 2);
    host.link.mend();
    host.run();
    world.until("all of it arrives", || async { host.delivered(&world).await }).await;
    assert!(host.last_seq() >= waits, "what waited was delivered with its numbers");
    assert_eq!(world.gaps().await, json!([]), "nothing was lost");
    let (_, end) = host.identity().validity_ms().expect("valid");
    assert!(end > world.clock.now() && host.identity().certificate != ended.certificate, "it has a new certificate");
    host.stop().await;

    // A copy of the ended certificate is worth nothing now, though its grace is not over.
    let answer = world.renew_with(&ended).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (403, Some("duplicate")), "{}", answer.detail());
    // Beyond its grace, a certificate is not even let in; and the agent knows why.
    world.advance(DAY * 60);
    host.run();
    world.until("the agent says what to do", || async { host.trouble().filter(|t| t.code == "expired" && t.remedy.contains("join it again")) }).await;
    assert!(host.identity().validity_ms().is_ok(), "its key is kept");
    host.rejoin(&world).await;
    world.until("it delivers again, without a restart", || async { host.delivered(&world).await }).await;
    world.until("and says that all is well", || async { host.trouble().is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_shows_an_ended_certificate_may_renew_and_nothing_else() {
    let world = World::start(|_| {}).await;
    let host = world.host("web-1").await;
    world.advance(DAY * 8);
    let answer = world.push_with(&host.identity()).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (403, Some("expired")), "{}", answer.detail());
    assert!(world.renew_with(&host.identity()).await.expect("an answer").status.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_on_an_open_connection_is_good_for_its_renewal_from_then_on() {
    let world = World::start(|_| {}).await;
    let mut host = world.host("web-1").await;
    let (clock, tasks) = (world.clock.shared(), Tasks::new(Stop::new()));
    let config = host.identity().tls(&clock).expect("TLS");
    let mut open = Connection::open(&Dialer::tcp(), &world.harness.ingest_address(), config, &tasks).await.expect("a connection");
    let pushed = open.push("live", Vec::new()).await.expect("an answer");
    assert_eq!(pushed.status.as_u16(), 400, "{}", pushed.detail());
    world.advance(DAY * 8);
    let pushed = open.push("live", Vec::new()).await.expect("an answer");
    assert_eq!((pushed.status.as_u16(), pushed.code().as_deref()), (403, Some("expired")), "the connection is older than that");
    let csr = json!({"csr": NewKey::generate().expect("a key").csr}).to_string().into_bytes();
    assert!(open.post("/v1/renew", "application/json", csr).await.expect("an answer").status.is_success());
    // The agent itself does so, alone, and delivers.
    host.run();
    world.until("it delivers", || async { host.delivered(&world).await }).await;
    world.advance(DAY * 8);
    let last = host.last_seq();
    world.until("it delivers with a new certificate", || async { host.delivered(&world).await.filter(|cursor| *cursor > last) }).await;
    assert_eq!(world.gaps().await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agent_is_refused_at_once_keeps_its_data_and_delivers_it_once_it_has_joined_again() {
    let world = World::start(|_| {}).await;
    let mut host = world.host("web-1").await;
    host.run();
    world.until("it delivers", || async { host.delivered(&world).await }).await;
    let client = world.client();
    let revoked = client.revoke_agent("web-1").await.expect("revoked");
    assert_eq!(revoked["revoked"][0]["host"], "web-1");
    // Its connection is open: the next push on it is refused.
    let trouble = world.until("it knows", || async { host.trouble() }).await;
    assert!(trouble.words.contains("revoked") && trouble.remedy.contains("keyvigil-agent join"), "{trouble:?}");
    let answer = world.renew_with(&host.identity()).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (403, Some("revoked")));
    world.until("data waits", || async { (host.waiting() > 2).then_some(()) }).await;
    let agents = client.agents().await.expect("agents");
    assert_eq!((agents["agents"][0]["revoked"].as_bool(), agents["agents"][0]["state"].as_str()), (Some(true), Some("revoked")));
    assert!(matches!(client.revoke_agent("nobody").await, Err(ClientError::Refused { status, .. }) if status == 404));

    let last = host.last_seq();
    host.rejoin(&world).await;
    world.until("it delivers again", || async { host.delivered(&world).await.filter(|cursor| *cursor > last) }).await;
    world.until("and says no more that it was refused", || async { host.trouble().is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_outlives_a_restart_of_the_aggregator() {
    let mut world = World::start(|_| {}).await;
    let mut host = world.host("web-1").await;
    host.run();
    world.until("it delivers", || async { host.delivered(&world).await }).await;
    world.client().revoke_agent("web-1").await.expect("revoked");
    world.restart(&[&host]).await;
    world.until("it is refused", || async { host.trouble().filter(|t| t.words.contains("revoked")) }).await;
}

/// Counts of `GET /ca`: confirmed, renewed, waiting.
fn counts(ca: &Value) -> (u64, u64, u64) {
    let count = |name: &str| ca["agents"][name].as_u64().unwrap_or(99);
    (count("confirmed"), count("renewed"), count("waiting"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_replaced_while_everything_runs_and_one_agent_sleeps_through_half_of_it() {
    let mut world = World::start(|_| {}).await;
    let mut hosts = [world.host("a").await, world.host("b").await, world.host("sleeper").await];
    for host in &mut hosts {
        host.run();
        world.until("it delivers", || async { host.delivered(&world).await }).await;
    }
    hosts[2].stop().await;
    let [a, b, _] = &hosts;
    let old = a.identity().ca;
    let old_token = world.token().await;

    let announced = world.client().ca_step("announce", false).await.expect("announced");
    assert_eq!((announced["phase"].as_str(), announced["cas"].as_array().map(Vec::len)), (Some("announce"), Some(2)), "{announced}");
    let ca = world.until("the two that are awake confirm", || async { world.ca().await.filter(|ca| counts(ca).0 == 2) }).await;
    assert_eq!((&ca["waiting_for"][0]["host"], ca["waiting_for"].as_array().map(Vec::len)), (&json!("sleeper"), Some(1)), "{ca}");
    assert!(a.identity().ca.starts_with(&old) && a.identity().ca.len() > old.len(), "old and new are trusted");
    // The aggregator may die between any two steps.
    world.restart(&[a, b]).await;
    assert_eq!(world.ca().await.expect("a status")["phase"], "announce");

    let issued = world.client().ca_step("issue", false).await.expect("issued");
    assert_eq!(issued["phase"], "issue");
    world.until("the two have new certificates", || async { world.ca().await.filter(|ca| counts(ca).1 == 2) }).await;
    let late = world.host_with("late", &old_token).await;
    assert_eq!(late.identity().ca, a.identity().ca, "a token of before the step is good after it, and brings both");
    let new_token = world.token().await;
    drop(late);
    let refused = world.client().ca_step("retire", false).await.expect_err("one sleeps");
    assert!(refused.to_string().contains("sleeper") && refused.to_string().contains("409"), "{refused}");

    world.restart(&[a, b]).await;
    hosts[2].run_to(&world);
    world.until("the sleeper follows", || async { world.ca().await.filter(|ca| counts(ca).2 == 0) }).await;
    let retired = world.client().ca_step("retire", false).await.expect("retired");
    assert_eq!((retired["phase"].as_str(), retired["cas"].as_array().map(Vec::len)), (Some("stable"), Some(1)), "{retired}");
    world
        .until("nobody trusts the old one any more", || async {
            let all = hosts.iter().all(|host| !host.identity().ca.contains(old.trim()));
            all.then_some(())
        })
        .await;
    let again = world.host_with("later", &new_token).await;
    assert!(!again.identity().ca.contains(old.trim()), "a token made while both were there is good for the new one alone");
    for host in &hosts {
        world.until("all is delivered", || async { host.delivered(&world).await }).await;
    }
    assert_eq!(world.gaps().await, json!([]), "and nothing was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_can_be_taken_back_and_agents_follow_back() {
    let world = World::start(|_| {}).await;
    let mut host = world.host("a").await;
    host.run();
    world.until("it delivers", || async { host.delivered(&world).await }).await;
    let (client, old) = (world.client(), host.identity().ca);
    for (step, says) in [("issue", "announce"), ("retire", "announce"), ("rollback", "no CA is being replaced")] {
        let refused = client.ca_step(step, false).await.expect_err("too early").to_string();
        assert!(refused.contains(says), "{step}: {refused}");
    }
    client.ca_step("announce", false).await.expect("announced");
    world.until("it confirms", || async { world.ca().await.filter(|ca| ca["phase"] == "trust") }).await;
    client.ca_step("issue", false).await.expect("issued");
    world.until("it renews", || async { world.ca().await.filter(|ca| counts(ca).1 == 1) }).await;

    let back = client.ca_step("rollback", false).await.expect("a step back");
    assert_eq!((back["cas"][0]["issuing"].as_bool(), back["cas"].as_array().map(Vec::len)), (Some(true), Some(2)), "{back}");
    let refused = client.ca_step("rollback", false).await.expect_err("the agent holds a certificate of the new CA");
    assert!(refused.to_string().contains('a'), "{refused}");
    world.until("it renews back", || async { world.ca().await.filter(|ca| counts(ca).1 == 1) }).await;
    world.until("the new CA can go", || async { client.ca_step("rollback", false).await.ok() }).await;
    world.until("all is as it was", || async { (host.identity().ca == old).then_some(()) }).await;
    world.until("and delivered", || async { host.delivered(&world).await }).await;
    assert_eq!(world.gaps().await, json!([]));
    let metrics = reqwest::get(&world.harness.running().endpoints.metrics_url).await.expect("metrics").text().await.expect("text");
    assert!(metrics.contains("keyvigil_ca_agents"), "progress is on /metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_clock_is_wrong_keeps_its_identity_and_recovers_alone() {
    let world = World::start(|_| {}).await;
    for (name, wrong_ms) in [("at-1970", -world.clock.now()), ("ahead", 2 * 365 * 86_400_000)] {
        let mut host = world.host_of_its_own_time(name).await;
        let before = std::fs::read(Identity::path(&host.config.state_dir)).expect("an identity");
        host.clock.step(wrong_ms);
        host.run();
        let trouble = world.until("it knows that it is the clock", || async { host.trouble() }).await;
        assert!(trouble.remedy.contains("compare the clocks"), "{trouble:?}");
        assert_eq!(std::fs::read(Identity::path(&host.config.state_dir)).expect("an identity"), before, "{name}");
        host.clock.step(-wrong_ms);
        world.until("it has contact again", || async { host.trouble().is_none().then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_were_made_in_the_future_are_replaced_once_the_clocks_are_right() {
    let world = World::start(|_| {}).await;
    let mut host = world.host("web-1").await;
    host.run();
    world.until("it delivers", || async { host.delivered(&world).await }).await;
    let months = 60 * 86_400_000;
    world.clock.step(months);
    world.until("it renews in the future", || async { host.identity().validity_ms().ok().filter(|(from, _)| *from > world.clock.now() - 86_400_000) }).await;
    world.clock.step(-months);
    world.until("it renews in the present", || async { host.identity().validity_ms().ok().filter(|(from, _)| *from <= world.clock.now()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enhanced_monitoring_reaches_the_sensors_it_names_and_outlives_a_restart() {
    let mut world = World::start(|_| {}).await;
    let mut host = world.host("web-1").await;
    host.slow("load");
    host.slow("memory");
    host.run();
    let quiet = |(load, memory): &(i64, i64)| *load >= 20_000 && *memory >= 20_000;
    world.until("both are looked at seldom", || async { world.load_and_memory().await.filter(quiet) }).await;
    let client = world.client();
    for wrong in [json!({"minutes": 0}), json!({"minutes": 241}), json!({"sensors": ["a b"]}), json!({"hours": 1})] {
        assert!(client.call(Method::POST, "/hosts/web-1/enhance", &[], Some(&wrong)).await.is_err(), "{wrong}");
    }
    client.enhance("web-1", 240, &["load"]).await.expect("ordered");
    world.restart(&[&host]).await;
    let one = |(load, memory): &(i64, i64)| *load <= 5_000 && *memory >= 20_000;
    world.until("only what was named is looked at closely", || async { world.load_and_memory().await.filter(one) }).await;
    world.client().end_enhance("web-1").await.expect("ended");
    let agents = world.client().agents().await.expect("agents");
    assert_eq!(agents["agents"][0]["enhanced_until"], Value::Null);
    world.until("and it is over", || async { world.load_and_memory().await.filter(quiet) }).await;
}
