//! What becomes of pushes that come twice, ahead, from the wrong clock or from a copy.

use keyvigil_common::clock::{Clock, ManualClock};
use keyvigil_common::key::{KeyFacts, KeyKind, Place, Sighting};
use keyvigil_common::sample::{MetricType, Tags};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::sequence::Range;
use keyvigil_common::telemetry::Registry;
use keyvigil_common::wire::{Class, Column, Gap, Group, Sealed, encode_batch, encode_push, encode_push_after};

use super::*;
use crate::fleet::Fleet;
use crate::ingest::Lane;
use crate::keys::{Inventory, Sensor};
use crate::store::Store;
use crate::store::ledger::{self, Stored};

const NOW: i64 = 1_763_836_800_000;
const DAY: i64 = 86_400_000;

struct Door {
    dir: tempfile::TempDir,
    master: MasterKey,
    clock: Arc<ManualClock>,
    ingest: Ingest,
}

fn door_to(dir: &std::path::Path, master: &MasterKey, clock: &Arc<ManualClock>) -> Ingest {
    let store = Store::open(dir, master, NOW, 512 << 20).unwrap();
    let fleet = Arc::new(Fleet::default());
    Ingest::new(store, fleet, Arc::new(Inventory::default()), Arc::default(), Arc::<ManualClock>::clone(clock), &Registry::default())
}

fn agent() -> Agent {
    let identity = Identity { tenant: "default".into(), agent: "ab".repeat(16) };
    Agent::joining(&identity, "web-1".into(), "", NOW)
}

fn sender(instance: u8, boot_ms: i64, wall_ms: i64) -> Sender {
    Sender { instance: [instance; 16], machine: [instance; 32], boot: [9; 16], boot_ms, wall_ms, trusts: [0; 32], blind: None, canaries: Canaries::default() }
}

fn range(first: u64, last: u64) -> Range {
    Range { first, last }
}

/// One sample of the value `seq` at `at_ms`.
fn batch(seq: u64, at_ms: i64) -> Batch {
    let series = Series::new("m", MetricType::Gauge, Tags::default()).unwrap();
    let column = Column { series: 0, start_ms: 0, values: vec![seq as f64] };
    let groups = vec![Group { sensor: "test".into(), interval_ms: 10_000, times: vec![at_ms], columns: vec![column] }];
    Batch { sealed_ms: at_ms, series: vec![series], groups, ..Batch::default() }
}

impl Door {
    async fn new() -> Self {
        let (dir, master, clock) = (tempfile::tempdir().unwrap(), MasterKey::generate(), ManualClock::at(NOW));
        let ingest = door_to(dir.path(), &master, &clock);
        let tenant = ingest.store.write(|tx| tx.tenant("default")).await.unwrap();
        assert_eq!(tenant, 1);
        ingest.fleet.set(1, agent(), NOW);
        Self { dir, master, clock, ingest }
    }

    async fn push(&self, push: Push) -> Result<Ack, Refusal> {
        self.body(&agent().id, &encode_push(&push).unwrap()).await
    }

    async fn body(&self, agent: &str, body: &[u8]) -> Result<Ack, Refusal> {
        let identity = Identity { tenant: "default".into(), agent: agent.into() };
        let place = self.ingest.admission().admit(&identity, Lane::Live, 1).unwrap();
        self.ingest.push(&place, "127.0.0.1:1".parse().unwrap(), body).await.map(|(ack, _)| ack)
    }

    /// Batches of these numbers, each with one sample a second after the one before.
    async fn send(&self, from: Sender, numbers: impl IntoIterator<Item = u64>, push: Push) -> Result<Ack, Refusal> {
        let frame = |seq: u64| (seq, encode_batch(&batch(seq, NOW - DAY + seq as i64 * 1_000)).unwrap());
        let frames = numbers.into_iter().map(frame).collect();
        self.push(Push { epoch: [1; 16], sender: Some(from), frames, ..push }).await
    }

    async fn values(&self) -> Vec<(i64, f64)> {
        let ids: Vec<_> = self.ingest.store.index().all_ids().iter().collect();
        let points = self.ingest.store.select(&ids, 0, i64::MAX, 1_000).await.unwrap();
        points.into_iter().flatten().collect()
    }

    async fn losses(&self) -> Vec<(u64, u64, u64)> {
        GapRecord::all(&self.ingest.store).await.into_iter().map(|record| (record.first_seq, record.last_seq, record.items)).collect()
    }
}

#[tokio::test]
async fn what_is_fresh_comes_before_a_backlog_and_all_of_it_is_stored_once() {
    let door = Door::new().await;
    let from = sender(1, 5_000, NOW);
    let waiting = || Push { waiting: vec![range(1, 7)], ..Push::default() };
    assert!(matches!(door.send(from, [8], Push::default()).await, Err(Refusal::Gap { expected: 1, .. })), "ahead, and nobody said so");
    let ack = door.send(from, [8, 9], waiting()).await.unwrap();
    assert_eq!((ack.cursor, ack.beyond), (0, vec![range(8, 9)]));
    let ack = door.send(from, [1, 2, 3], Push::default()).await.unwrap();
    assert_eq!((ack.cursor, ack.beyond), (3, vec![range(8, 9)]));
    let ack = door.send(from, [8, 9, 10], waiting()).await.unwrap();
    assert_eq!((ack.cursor, ack.beyond), (3, vec![range(8, 10)]), "a repeat, with something new behind it");
    let ack = door.send(from, [6, 7], Push { dropped: vec![range(4, 5)], ..Push::default() }).await.unwrap();
    assert_eq!((ack.cursor, ack.beyond), (10, vec![]));
    assert_eq!(door.values().await.iter().map(|(_, value)| *value as u64).collect::<Vec<_>>(), [1, 2, 3, 6, 7, 8, 9, 10]);
    assert!(matches!(door.send(from, [5], Push::default()).await, Err(Refusal::Fork { seq: 5, .. })), "it was declared lost: it cannot come under that number");
}

#[tokio::test]
async fn what_was_stored_is_not_lost_though_its_sender_gave_it_up() {
    let door = Door::new().await;
    let from = sender(1, 5_000, NOW);
    door.send(from, [1, 2, 3], Push::default()).await.unwrap();
    let gap = |range, items| Gap { range, class: Class::Sample, cause: "buffer full".into(), items, at_ms: NOW, epoch: Some([1; 16]) };
    let told = Batch { sealed_ms: NOW, gaps: vec![gap(range(2, 3), 2), gap(range(3, 5), 3)], ..Batch::default() };
    let frames = vec![(6, encode_batch(&told).unwrap())];
    let ack = door.push(Push { epoch: [1; 16], sender: Some(from), dropped: vec![range(2, 5)], frames, ..Push::default() }).await.unwrap();
    assert_eq!(ack.cursor, 6);
    assert_eq!(door.losses().await, [(3, 5, 2)], "of 2 and 3 nothing was lost, of 3 to 5 two items");
}

#[tokio::test]
async fn a_loss_that_is_told_twice_is_one_loss() {
    let door = Door::new().await;
    let from = sender(1, 5_000, NOW);
    let gap = |range, items| Gap { range, class: Class::Sample, cause: "buffer full".into(), items, at_ms: NOW, epoch: Some([1; 16]) };
    let tell = async |seq: u64, gaps: Vec<Gap>| {
        let told = Batch { sealed_ms: NOW + seq as i64, gaps, ..Batch::default() };
        let frames = vec![(seq, encode_batch(&told).unwrap())];
        door.push(Push { epoch: [1; 16], sender: Some(from), dropped: vec![range(1, seq - 1)], frames, ..Push::default() }).await.unwrap();
    };
    tell(6, vec![gap(range(1, 5), 10)]).await;
    // The ack did not come, the batch that told of it was given up as well, and the loss had grown by then.
    tell(9, vec![gap(range(1, 8), 16)]).await;
    tell(10, vec![gap(range(1, 8), 16)]).await;
    assert_eq!(door.losses().await, [(6, 8, 6), (1, 5, 10)], "of the second telling, what is new");
    let events = |connection: &rusqlite::Connection, _: &keyvigil_common::seal::KeyRing| {
        Ok(connection.query_row("SELECT count(*) FROM event WHERE kind = 'data_lost'", [], |row| row.get::<_, i64>(0))?)
    };
    assert_eq!(door.ingest.store.read(events).await.unwrap(), 2);
}

#[tokio::test]
async fn samples_of_a_clock_that_was_far_off_are_stored_at_their_time_and_found_there_after_a_restart() {
    let door = Door::new().await;
    let wrong = NOW + 400 * DAY;
    let one = Batch { sealed: Some(Sealed { boot: [9; 16], boot_ms: 60_000 }), ..batch(1, wrong) };
    let push = |seq, batch: &Batch, wall_ms| Push {
        epoch: [1; 16],
        sender: Some(sender(1, 90_000, wall_ms)),
        frames: vec![(seq, encode_batch(batch).unwrap())],
        ..Push::default()
    };
    door.push(push(1, &one, NOW)).await.unwrap();
    assert_eq!(door.values().await, [(NOW - 30_000, 1.0)]);
    assert_eq!(door.ingest.fleet.get(1, &agent().id).unwrap().clock_offset_ms, Some(0));
    let lost = Batch { sealed: Some(Sealed { boot: [8; 16], boot_ms: 60_000 }), ..batch(2, wrong) };
    assert!(matches!(door.push(push(2, &lost, NOW)).await, Err(Refusal::Permanent { seq: 2, .. })), "sealed before the host was started anew");
    let doubtful = door.push(push(2, &lost, wrong)).await;
    assert!(matches!(doubtful, Err(Refusal::Clock(_))), "whose clock is wrong is not known: it waits");
    let Door { dir, master, clock, ingest } = door;
    drop(ingest);
    let door = Door { ingest: door_to(dir.path(), &master, &clock), dir, master, clock };
    assert_eq!(door.values().await, [(NOW - 30_000, 1.0)]);
    assert_eq!(door.clock.now_ms(), NOW);
}

#[tokio::test]
async fn of_two_machines_with_one_identity_the_later_one_is_kept_out_and_that_is_told() {
    let door = Door::new().await;
    for seq in 1..=5 {
        let from = sender(1 + u8::from(seq % 2 == 0), 5_000, NOW);
        door.send(from, [seq], Push::default()).await.unwrap();
    }
    assert!(matches!(door.send(sender(2, 5_000, NOW), [6], Push::default()).await, Err(Refusal::Cloned)));
    door.send(sender(1, 5_000, NOW), [6], Push::default()).await.unwrap();
    let restarted = Sender { instance: [7; 16], ..sender(2, 5_000, NOW) };
    assert!(matches!(door.send(restarted, [7], Push::default()).await, Err(Refusal::Cloned)), "also after its restart");
    let told = |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
        let mut told = 0;
        ledger::events(connection, ring, 1, (0, i64::MAX), (i64::MAX, i64::MAX), |stored: Stored<EventRecord>| {
            told += usize::from(stored.record.kind == EventKind::IdentityCloned);
            true
        })?;
        Ok(told)
    };
    assert_eq!(door.ingest.store.read(told).await.unwrap(), 1);
    assert_eq!(door.ingest.fleet.of_machine(1, ""), None);
}

/// A push of one batch, and it as a difference.
fn both(seq: u64, value: u64, base: Option<&Base>) -> (Vec<u8>, Vec<u8>, Option<Base>) {
    let frames = vec![(seq, encode_batch(&batch(value, NOW - DAY + seq as i64 * 1_000)).unwrap())];
    let push = Push { epoch: [1; 16], sender: Some(sender(1, 5_000, NOW)), frames, ..Push::default() };
    let (body, next) = encode_push_after(&push, base).unwrap();
    (encode_push(&push).unwrap(), body, next)
}

#[tokio::test]
async fn a_repeat_is_a_repeat_and_a_fork_a_fork_whichever_way_they_come() {
    let door = Door::new().await;
    let me = agent().id;
    let (_, first, base) = both(1, 1, None);
    let ack = door.body(&me, &first).await.unwrap();
    assert_eq!(ack.base, base.as_ref().map(|base| base.name), "it says what it keeps");
    let (whole, difference, next) = both(2, 2, base.as_ref());
    assert!(difference.starts_with(b"KVD"));
    let ack = door.body(&me, &difference).await.unwrap();
    assert_eq!((ack.cursor, ack.base), (2, next.as_ref().map(|base| base.name)));
    assert!(matches!(door.body(&me, &difference).await, Err(Refusal::Base)), "the answer was lost: what it differed from is gone");
    let again = door.body(&me, &whole).await.unwrap();
    assert_eq!((again.cursor, again.beyond, again.others), (ack.cursor, ack.beyond, ack.others));
    assert_eq!(door.ingest.metrics.repeats.get(), 1);
    let (_, _, base) = both(2, 2, None);
    let (_, repeat, _) = both(1, 1, base.as_ref());
    assert!(repeat.starts_with(b"KVD"));
    assert_eq!(door.body(&me, &repeat).await.unwrap().cursor, 2, "what came whole comes again as a difference");
    let (_, _, base) = both(1, 1, base.as_ref());
    let (whole, other, _) = both(2, 7, base.as_ref());
    assert!(matches!(door.body(&me, &other).await, Err(Refusal::Base)), "it is looked at whole before anybody is accused");
    assert!(matches!(door.body(&me, &whole).await, Err(Refusal::Fork { seq: 2, .. })));
    assert_eq!(door.values().await.iter().map(|(_, value)| *value as u64).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn what_was_kept_is_its_own_agents_and_lasts_until_it_is_forgotten() {
    let door = Door::new().await;
    let other = Identity { tenant: "default".into(), agent: "cd".repeat(16) };
    door.ingest.fleet.set(1, Agent::joining(&other, "web-2".into(), "", NOW), NOW);
    let (_, first, base) = both(1, 1, None);
    door.body(&agent().id, &first).await.unwrap();
    let (whole, difference, _) = both(2, 2, base.as_ref());
    assert!(matches!(door.body(&other.agent, &difference).await, Err(Refusal::Base)), "another agent of the same tenant");
    let (_, poison, _) = both(2, 2, base.as_ref());
    let cut = &poison[..poison.len() - 1];
    assert!(matches!(door.body(&agent().id, cut).await, Err(Refusal::Base)), "nothing is refused for good that was not seen whole");
    door.ingest.forget_bases();
    assert!(matches!(door.body(&agent().id, &difference).await, Err(Refusal::Base)));
    assert_eq!(door.body(&agent().id, &whole).await.unwrap().cursor, 2);
    assert_eq!((door.ingest.metrics.refused.get(), door.ingest.metrics.whole.get()), (0, 3), "that is no fault of anybody");
    assert!(door.ingest.bases.bytes() > 0);
}

#[tokio::test]
async fn what_came_as_a_difference_is_found_after_a_restart_and_moved_like_all_else() {
    let door = Door::new().await;
    let me = agent().id;
    let (_, first, base) = both(1, 1, None);
    door.body(&me, &first).await.unwrap();
    let wrong = Batch { sealed: Some(Sealed { boot: [9; 16], boot_ms: 60_000 }), ..batch(2, NOW + 400 * DAY) };
    let frames = vec![(2, encode_batch(&wrong).unwrap())];
    let push = Push { epoch: [1; 16], sender: Some(sender(1, 90_000, NOW)), frames, ..Push::default() };
    let (difference, _) = encode_push_after(&push, base.as_ref()).unwrap();
    assert!(difference.starts_with(b"KVD"));
    door.body(&me, &difference).await.unwrap();
    let expected = [(NOW - DAY + 1_000, 1.0), (NOW - 30_000, 2.0)];
    assert_eq!(door.values().await, expected);
    let Door { dir, master, clock, ingest } = door;
    drop(ingest);
    let door = Door { ingest: door_to(dir.path(), &master, &clock), dir, master, clock };
    assert_eq!(door.values().await, expected, "it is stored complete in itself");
}

/// A key file, and what the sensors of use tell of it.
fn used(seq: u64, at_ms: i64, signed: Option<f64>) -> Batch {
    let facts = KeyFacts::bare(KeyKind::PrivateKey, "a".repeat(64), "a".repeat(64), "rsa");
    let sighting = Sighting { facts, place: Place::at("/srv/shop.key"), at_ms: NOW - DAY, gone: false, replaces: None };
    let series = |name: &str, tags: &[(&str, &str)]| Series::new(name, MetricType::Counter, Tags::new(tags.iter().copied()).unwrap()).unwrap();
    let key = "a".repeat(64);
    let mut names = vec![series("crypto.operations.lost_total", &[])];
    let mut columns = vec![Column { series: 0, start_ms: 0, values: vec![0.0] }];
    if let Some(signed) = signed {
        names.push(series("crypto.key.signing_ops", &[("key", &key), ("exe", "/usr/sbin/nginx"), ("user", "www-data")]));
        columns.push(Column { series: 1, start_ms: 0, values: vec![signed] });
    }
    let groups = vec![Group { sensor: "operations".into(), interval_ms: 10_000, times: vec![at_ms], columns }];
    let sightings = if seq == 1 { vec![sighting] } else { Vec::new() };
    Batch { sealed_ms: at_ms, series: names, groups, sightings, ..Batch::default() }
}

#[tokio::test]
async fn a_key_knows_when_it_was_used_last_and_since_when_that_is_observed_also_after_a_restart() {
    let door = Door::new().await;
    let minute = 60_000;
    let push = async |door: &Door, seq: u64, batch: &Batch| {
        let frames = vec![(seq, encode_batch(batch).unwrap())];
        door.push(Push { epoch: [1; 16], sender: Some(sender(1, 5_000, NOW)), frames, ..Push::default() }).await.unwrap();
    };
    let last = |door: &Door| door.ingest.inventory.find(1, &"a".repeat(64)).unwrap().last_used_ms;
    push(&door, 1, &used(1, NOW - 100 * minute, None)).await;
    assert_eq!(last(&door), None, "it is observed, and not used");
    push(&door, 2, &used(2, NOW - 98 * minute, Some(3.0))).await;
    assert_eq!(last(&door), Some(NOW - 98 * minute));
    let by = door.ingest.inventory.find(1, &"a".repeat(64)).unwrap().last_used_by.clone().unwrap();
    assert_eq!(by.to_string(), "/usr/sbin/nginx as www-data on web-1");
    push(&door, 3, &used(3, NOW - 96 * minute, Some(3.0))).await;
    assert_eq!(last(&door), Some(NOW - 98 * minute), "a counter that rests is no use");

    let since = |door: &Door| door.ingest.fleet.observed(1, "web-1").since_ms(Sensor::Operations);
    assert_eq!(since(&door), Some(NOW - 100 * minute));
    door.clock.advance(std::time::Duration::from_secs(60));
    push(&door, 4, &used(4, NOW - 94 * minute, Some(3.0))).await;
    let Door { dir, master, clock, ingest } = door;
    drop(ingest);
    let door = Door { ingest: door_to(dir.path(), &master, &clock), dir, master, clock };
    door.ingest.fleet.load(&door.ingest.store).await.unwrap();
    door.ingest.inventory.load(&door.ingest.store).await.unwrap();
    assert_eq!((last(&door), since(&door)), (Some(NOW - 98 * minute), Some(NOW - 100 * minute)));
    push(&door, 5, &used(5, NOW - 92 * minute, Some(3.0))).await;
    assert_eq!(last(&door), Some(NOW - 98 * minute), "what was counted before the start is not used anew");
    push(&door, 6, &used(6, NOW - 90 * minute, Some(4.0))).await;
    assert_eq!(last(&door), Some(NOW - 90 * minute));
}
