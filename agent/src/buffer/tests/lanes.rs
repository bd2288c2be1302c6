//! Two lanes: what is fresh does not wait for a backlog.

use super::*;

const SMALL: Room = Room { frames: 10, bytes: 1 << 20 };

/// Sealed a second apart.
fn seconds(queue: &mut Queue, from: i64, count: i64) {
    fill(queue, Class::Sample, 10, (from..from + count).map(|s| T0 + s * 1_000));
}

#[test]
fn a_backlog_is_parted_so_that_what_is_fresh_goes_first_and_all_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    seconds(&mut queue, 0, 100);
    let epoch = queue.level().epoch;
    give_up(&mut queue, 3, "refused", T0);
    let now = T0 + 99_000;
    let fresh = queue.front(Lane::Live, SMALL, now).unwrap().unwrap();
    assert_eq!((seqs(&fresh), fresh.waiting.clone(), fresh.dropped.clone()), ((91..=100).collect(), vec![range(1, 90)], vec![]));
    let old = queue.front(Lane::Backfill, SMALL, now).unwrap().unwrap();
    assert_eq!((seqs(&old), old.waiting.clone(), old.dropped.clone()), ((1..=11).filter(|n| *n != 3).collect(), vec![], vec![range(3, 3)]));
    queue.acked(epoch, 0, vec![range(91, 100)], now).unwrap();
    assert!(queue.front(Lane::Live, SMALL, now).unwrap().is_none(), "nothing is fresh now");
    seconds(&mut queue, 100, 1);
    let fresh = queue.front(Lane::Live, SMALL, now).unwrap().unwrap();
    assert_eq!((seqs(&fresh), fresh.waiting.clone()), (vec![101], vec![range(1, 90)]), "what is settled is not said to come");
    let mut cursor = 0;
    while let Some(old) = queue.front(Lane::Backfill, SMALL, now).unwrap() {
        cursor = *seqs(&old).last().unwrap();
        queue.acked(epoch, cursor, vec![range(91, 100)], now).unwrap();
    }
    assert_eq!(cursor, 90);
    let rest = queue.front(Lane::Live, SMALL, now).unwrap().unwrap();
    assert_eq!((seqs(&rest), rest.waiting), (vec![101], vec![]), "one lane again");
}

#[test]
fn a_live_lane_that_falls_behind_is_parted_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    seconds(&mut queue, 0, 50);
    assert_eq!(queue.front(Lane::Live, SMALL, T0 + 49_000).unwrap().unwrap().frames[0].0, 41);
    seconds(&mut queue, 50, 100);
    let again = queue.front(Lane::Live, SMALL, T0 + 149_000).unwrap().unwrap();
    assert_eq!((seqs(&again), again.waiting), ((141..=150).collect(), vec![range(1, 140)]));
    let mut held = seqs(&queue.front(Lane::Backfill, Room { frames: 500, bytes: 1 << 30 }, T0).unwrap().unwrap());
    held.extend(141..=150);
    assert_eq!(held, (1..=150).collect::<Vec<_>>());
}

#[test]
fn numbers_given_up_at_the_end_of_a_backlog_are_declared_by_the_live_lane() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    seconds(&mut queue, 0, 30);
    let (epoch, now) = (queue.level().epoch, T0 + 29_000);
    queue.front(Lane::Live, SMALL, now).unwrap();
    for seq in 15..=20 {
        give_up(&mut queue, seq, "refused", now);
    }
    queue.front(Lane::Backfill, Room { frames: 50, bytes: 1 << 20 }, now).unwrap();
    queue.acked(epoch, 14, vec![], now).unwrap();
    assert!(queue.front(Lane::Backfill, SMALL, now).unwrap().is_none());
    assert_eq!(queue.front(Lane::Live, SMALL, now).unwrap().unwrap().dropped, [range(15, 20)]);
}

#[test]
fn no_push_declares_more_ranges_than_one_may_and_none_is_stuck_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    let count = 2 * keyvigil_common::limits::PUSH_DROPPED_MAX as i64 + 100;
    queue.append((0..count).map(|at| new(Class::Sample, 1, T0 + at)).collect(), vec![], vec![], T0).unwrap();
    let epoch = queue.level().epoch;
    for seq in (1..=count.unsigned_abs()).step_by(2) {
        give_up(&mut queue, seq, "every second one", T0);
    }
    let front = queue.front(Lane::Live, Room { frames: 100_000, bytes: 1 << 30 }, T0).unwrap().unwrap();
    assert_eq!((front.dropped.len(), front.frames.len()), (1_024, 1_024));
    let beyond: Vec<Range> = (1..count.unsigned_abs()).filter(|seq| seq % 2 == 0).map(|seq| range(seq, seq)).collect();
    let mut front = front;
    for _ in 0..50 {
        queue.acked(epoch, 0, beyond.clone(), T0).unwrap();
        front = queue.front(Lane::Live, ROOMY, T0).unwrap().unwrap();
    }
    assert_eq!((seqs(&front), front.dropped), (vec![count.unsigned_abs()], vec![range(1, count.unsigned_abs() - 1)]));
}

#[test]
fn a_push_is_of_one_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    seconds(&mut queue, 0, 60);
    let first = queue.level().epoch;
    queue.forked(first, 31, T0).unwrap();
    let second = queue.level().epoch;
    let room = Room { frames: 50, bytes: 1 << 20 };
    let fresh = queue.front(Lane::Live, room, T0 + 59_000).unwrap().unwrap();
    assert_eq!((fresh.epoch, seqs(&fresh), fresh.waiting), (second, (1..=30).collect(), vec![]), "all of the newest is fresh");
    let old = queue.front(Lane::Backfill, room, T0).unwrap().unwrap();
    assert_eq!((old.epoch, seqs(&old)), (first, (1..=30).collect()));
}

#[test]
fn what_was_acknowledged_ahead_of_a_backlog_that_was_given_up_since_is_missed_by_who_was_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    seconds(&mut queue, 0, 50);
    let old = queue.level().epoch;
    let now = T0 + 49_000;
    assert_eq!(seqs(&queue.front(Lane::Live, SMALL, now).unwrap().unwrap())[0], 41);
    queue.acked(old, 0, vec![range(41, 50)], now).unwrap();
    (1..=40).for_each(|id| give_up(&mut queue, id, "refused", now));
    // Killed: what comes counts anew, and nothing is left to send under the old epoch.
    drop(queue);
    let mut queue = open(dir.path(), WIDE);
    seconds(&mut queue, 50, 1);
    let stands = |beyond: Vec<Range>| vec![Elsewhere { epoch: old, cursor: 0, beyond }];
    let new = queue.level().epoch;
    assert_ne!(new, old);
    let ack = |queue: &mut Queue, cursor: u64, beyond: Vec<Range>| {
        queue.acked(new, cursor, vec![], now).unwrap();
        queue.elsewhere(new, stands(beyond), now).unwrap();
    };
    assert_eq!(seqs(&live(&mut queue, now)), (41..=50).collect::<Vec<_>>(), "their ack was not stored: they go again");
    queue.acked(old, 0, vec![range(41, 50)], now).unwrap();
    live(&mut queue, now);
    ack(&mut queue, 1, vec![range(41, 50)]);
    assert!(queue.front(Lane::Live, ROOMY, now).unwrap().is_none(), "all is there");
    ack(&mut queue, 1, vec![range(41, 44), range(50, 50)]);
    assert_eq!(seqs(&live(&mut queue, now)), [45, 46, 47, 48, 49]);
    queue.acked(old, 0, vec![range(41, 50)], now).unwrap();
    queue.elsewhere(new, vec![], now).unwrap();
    assert_eq!(seqs(&live(&mut queue, now)), (41..=50).collect::<Vec<_>>(), "it knows nothing of that epoch any more");
    let given_up = untold(&mut queue).iter().map(|gap| (gap.0, gap.1)).collect::<Vec<_>>();
    assert_eq!(given_up, [(1, 40)], "what was given up is told once");
}
