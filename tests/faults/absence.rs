//! F10: the aggregator is away for a day, whose ticks are collected in compressed time; the buffer has room for all of it, or for
//! half.

use std::cell::Cell;
use std::collections::BTreeSet;

use keyvigil_common::clock::SystemClock;
use keyvigil_tests::harness::{memory_dir, until};
use keyvigil_tests::oracle::ITEMS;

use crate::world::{World, sized};

/// Each so manieth batch is an alert.
const ALERT_EVERY: u64 = 50;

/// Bytes that one batch takes in the buffer.
async fn bytes_each(world: &World) -> u64 {
    let count = 200;
    let mut sender = world.sender(&format!("--every-ms 0 --count {count} --alert-every {ALERT_EVERY}"));
    world.commits(count, &mut sender).await;
    let bytes = until("the level is noted", || async { world.levels().last().map(|level| level.0) }).await;
    sender.stop().await;
    bytes / count as u64 + 1
}

/// A day without aggregator in a buffer of `tenths` tenths of what is needed.
async fn a_day_away(tenths: u64) -> (World, BTreeSet<u64>, tempfile::TempDir) {
    let memory = memory_dir();
    let world = World::on("F10", memory.path()).await;
    world.go_away();
    let ticks = sized(8_640, 86_400);
    let cap = bytes_each(&world).await * ticks * tenths / 10;
    let bound = format!("--max-bytes {cap} --alert-every {ALERT_EVERY}");
    let mut sender = world.sender(&format!("--every-ms 0 --count {ticks} {bound}"));
    let least = 200 + usize::try_from(ticks).expect("small");
    until("the day is collected", || {
        assert!(sender.runs(), "the sender has ended");
        let enough = world.issued().committed.len() >= least;
        async move { enough.then_some(()) }
    })
    .await;
    let collecting = sender.status("VmHWM");
    sender.stop().await;
    let backlog = world.issued().committed;
    world.come_back();
    let clock = SystemClock::shared();
    let began = clock.monotonic();
    let sender = world.sender(&format!("--every-ms 20 {bound}"));
    let newest = *backlog.last().expect("a backlog");
    let (at_first, fresh, old) = (Cell::new(None), Cell::new(0), Cell::new(0));
    until("the backlog is through", || async {
        let stored = world.stored().await;
        old.set(stored.samples.range(..=newest).count());
        fresh.set(stored.samples.range(newest + 1..).count());
        if fresh.get() > 0 && at_first.get().is_none() {
            at_first.set(Some(old.get()));
        }
        (old.get() as u64 + stored.declared / ITEMS == backlog.len() as u64).then_some(())
    })
    .await;
    let (at_first, fresh, old) = (at_first.get().expect("something fresh is stored"), fresh.get(), old.get());
    let took = (clock.monotonic() - began).as_secs_f64();
    let delivering = sender.status("VmHWM");
    sender.stop().await;
    println!(
        "F10 cap {}.{} x need: backlog {:.0} batches/s, live {:.0} batches/s meanwhile; peak RSS {} MiB collecting, {} MiB delivering (debug build); {at_first} of {old} \
         were through when the first fresh one was",
        tenths / 10,
        tenths % 10,
        old as f64 / took,
        fresh as f64 / took,
        collecting >> 10,
        delivering >> 10
    );
    assert!(at_first < old, "nothing fresh came through before the backlog");
    assert!(collecting.max(delivering) < 100 << 10, "{collecting} and {delivering} KiB of memory");
    world.settle(5).await;
    (world, backlog, memory)
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_day_without_aggregator_loses_nothing_where_there_is_room() {
    let (world, _, _memory) = a_day_away(12).await;
    let stored = world.judge("a day away, room for 1.2 of it").await;
    assert_eq!(stored.gaps, [], "nothing was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_day_without_aggregator_loses_the_oldest_of_the_least_where_there_is_half_the_room() {
    let (world, backlog, _memory) = a_day_away(5).await;
    let stored = world.judge("a day away, room for half of it").await;
    assert!(stored.declared > 0 && stored.unknown == 0, "{:?}", stored.gaps);
    let lost: Vec<u64> = backlog.difference(&stored.samples).copied().collect();
    let alerts: Vec<&u64> = lost.iter().filter(|n| n.is_multiple_of(ALERT_EVERY)).collect();
    assert!(alerts.is_empty(), "alerts were given up: {alerts:?}");
    let (oldest, newest) = (*backlog.first().expect("a backlog"), *backlog.last().expect("a backlog"));
    let middle = oldest + (newest - oldest) / 2;
    let (old, new) = (lost.iter().filter(|n| **n < middle).count(), lost.iter().filter(|n| **n >= middle).count());
    println!("F10 of what was given up {old} are of the older half of the day, {new} of the newer");
    assert!(old > new * 2, "{old} of the older half, {new} of the newer");
}
