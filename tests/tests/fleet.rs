//! Promise: a fleet whose aggregator is killed and comes back loses nothing, sends nothing twice that counts, and everyone
//! returns. `tests/bench/fleet` does the same with ten thousand.

use std::time::Duration;

use keyvigil_common::clock::SystemClock;
use keyvigil_tests::fleet::{Fleet, Standing, joining, judge};
use keyvigil_tests::harness::{memory_dir, until};
use keyvigil_tests::process::Aggregator;

const AGENTS: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_aggregator_is_killed_comes_back_and_nothing_is_lost_or_doubled() {
    keyvigil_common::tls::install_provider();
    let (dir, clock) = (memory_dir(), SystemClock::shared());
    let aggregator = Aggregator::start(dir.path(), &[]);
    let (identities, _) = joining::join(&aggregator.client(), AGENTS).await;
    let from_ms = clock.now_ms();
    let fleet = Fleet::start(identities, Duration::from_secs(1));
    let reached = |what: &'static str, is: fn(Standing) -> bool, since_ms: i64| {
        let fleet = &fleet;
        until(what, async move || is(fleet.standing(since_ms)).then_some(()))
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
