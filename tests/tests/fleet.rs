//! Promise: a fleet whose aggregator is killed and comes back loses nothing, sends nothing twice that counts, and everyone
//! returns. `tests/bench/fleet` does the same with ten thousand.

use std::collections::BTreeSet;
use std::time::Duration;

use keyvigil_common::client::Method;
use keyvigil_common::clock::SystemClock;
use keyvigil_tests::fleet::{Fleet, Standing, joining, judge};
use keyvigil_tests::harness::{Harness, memory_dir, until};
use keyvigil_tests::process::Aggregator;

const AGENTS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_one_name_that_join_in_the_same_moment_get_names_of_their_own() {
    let harness = Harness::start().await;
    let (identities, _) = joining::join(&harness.client(), 40, |_| "web".to_owned()).await;
    let names: BTreeSet<String> = identities.into_iter().map(|identity| identity.host).collect();
    assert_eq!(names.len(), 40);
    assert!(names.contains("web"));
    let tokens = harness.client().call(Method::GET, "/enroll-tokens", &[], None).await.expect("an answer");
    assert_eq!((&tokens["tokens"][0]["uses"], &tokens["tokens"][0]["used"]), (&40.into(), &40.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_aggregator_is_killed_comes_back_and_nothing_is_lost_or_doubled() {
    keyvigil_common::tls::install_provider();
    let (dir, clock) = (memory_dir(), SystemClock::shared());
    let aggregator = Aggregator::start(dir.path(), &[]);
    let (identities, _) = joining::join(&aggregator.client(), AGENTS, joining::named).await;
    let from_ms = clock.now_ms();
    let fleet = Fleet::start(identities, Duration::from_secs(1));
    let reached = |what: &'static str, is: fn(Standing) -> bool, since_ms: i64| {
        let fleet = &fleet;
        until(what, move || std::future::ready(is(fleet.standing(since_ms)).then_some(())))
    };
    reached("all are connected", |standing| standing.connected == AGENTS, 0).await;
    fleet.seal();
    reached("all deliver", |standing| standing.back == AGENTS, 1).await;
    let ingest = aggregator.ingest_address();
    aggregator.kill();
    reached("batches wait", |standing| standing.waiting as usize >= 2 * AGENTS, 0).await;
    let aggregator = Aggregator::start(dir.path(), &[("KEYVIGIL_LISTEN__INGEST", &ingest)]);
    reached("all are back", |standing| standing.back == AGENTS, clock.now_ms()).await;
    fleet.drain();
    reached("all is delivered", |standing| standing.waiting == 0, 0).await;
    assert_eq!(fleet.tally().odd(), Vec::<String>::new());
    let found = judge::judge(&aggregator.client(), fleet.states(), from_ms).await.unwrap_or_else(|why| panic!("{why}"));
    assert!(found.batches >= 3 * AGENTS as u64, "{found:?}");
    fleet.stop().await;
}
