//! Requests that come again, out of order and at once. To two aggregators at once comes with high availability: today one
//! aggregator has one store.

use std::sync::{Arc, Mutex};

use keyvigil_common::sequence::Range;
use keyvigil_tests::link::Link;
use keyvigil_tests::oracle::{Issued, Stored};
use tokio::task::JoinSet;

use super::client::{Client, EPOCH, post, said};
use super::stage::{Stage, judge};
use super::world::sized;

/// Requests that are out of order among themselves.
const SHUFFLED: usize = 120;

fn ranges(count: u64, random: &Link) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    while all.last().is_none_or(|range| range.last < count) {
        let first = all.last().map_or(1, |range| range.last + 1);
        all.push(Range { first, last: (first + random.random() % 6).min(count) });
    }
    all
}

fn shuffle<T>(list: &mut [T], random: &Link) {
    (1..list.len()).rev().for_each(|at| list.swap(at, usize::try_from(random.random() % (at as u64 + 1)).expect("small")));
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_push_that_comes_again_is_answered_again_and_stored_once() {
    let seed = keyvigil_common::backoff::random_u64();
    println!("seed {seed}");
    let random = Link::new(seed, "");
    let mut stage = Stage::hasty().await;
    let mut client = Client::join(&stage, "again").await;
    let count = sized(150, 2_000);
    let ranges = ranges(count, &random);
    let bodies: Vec<Arc<Vec<u8>>> = ranges.iter().map(|range| Arc::new(client.push(*range))).collect();
    let mut queue: Vec<Arc<Vec<u8>>> = bodies.iter().flat_map(|body| vec![Arc::clone(body); 1 + (random.random() % 4) as usize]).collect();
    // Far enough that most come before what they need, near enough that it ends.
    queue.reverse();
    queue.chunks_mut(SHUFFLED).for_each(|part| shuffle(part, &random));
    let (sent, queue) = (queue.len(), Arc::new(Mutex::new(queue)));
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (mut connection, queue) = (client.connect().await, Arc::clone(&queue));
        workers.spawn(async move {
            loop {
                let Some(body) = queue.lock().expect("whole").pop() else { return };
                let answer = post(&mut connection, &body).await;
                match answer.status.as_u16() {
                    200 => {}
                    // What lies before it has not come yet.
                    409 => {
                        let mut queue = queue.lock().expect("whole");
                        let later = queue.len().saturating_sub(2 * SHUFFLED);
                        queue.insert(later, body);
                    }
                    other => panic!("{other}: {}", answer.detail()),
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker");
    }
    let issued = Issued { attempted: (1..=count).collect(), committed: (1..=count).collect() };
    let before =
        judge(&format!("F13 {sent} requests for {} pushes, shuffled, four at a time", bodies.len()), &stage.client(), "again", stage.base_ms, &issued).await;
    let mut connection = client.connect().await;
    let first = said(&post(&mut connection, &bodies[0]).await);
    assert_eq!(first, (200, EPOCH, count, Vec::new()));
    for restart in [false, true] {
        if restart {
            stage.kill();
            stage.start();
            client.address = stage.aggregator().ingest_address();
            connection = client.connect().await;
        }
        for body in &bodies {
            assert_eq!(said(&post(&mut connection, body).await), first, "equal replies");
        }
        let after = Stored::ask(&stage.client(), "again", stage.base_ms).await.expect("an answer");
        assert_eq!(after, before, "nothing has changed");
    }
    stage.stop_sender().await;
}
