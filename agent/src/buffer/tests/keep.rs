//! What is kept, for how long, and what goes first.

use super::*;

fn sealed(bytes: u64) -> u64 {
    bytes + OVERHEAD_BYTES as u64
}

#[test]
fn batches_come_out_in_order_until_acknowledged_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 5);
    let epoch = live(&mut queue, T0).epoch;
    assert_eq!(queue.acked(epoch, 2, vec![], T0).unwrap(), 2);
    queue.close(T0).unwrap();
    drop(queue);
    let mut queue = open(dir.path(), WIDE);
    let front = live(&mut queue, T0);
    assert_eq!((front.epoch, seqs(&front)), (epoch, vec![3, 4, 5]), "the same file is the same epoch");
    assert_eq!(queue.level().batches, 3);
    let small = queue.front(Lane::Backfill, ROOMY, T0).unwrap();
    assert!(small.is_none(), "one lane while all fits");
    assert_eq!(queue.acked(epoch, 5, vec![], T0).unwrap(), 3);
    fill(&mut queue, Class::Sample, 10, [T0 + 9]);
    assert_eq!(live(&mut queue, T0).frames[0].0, 6, "numbers go on after everything was acknowledged");
}

#[test]
fn what_must_go_goes_by_class_then_age_and_is_declared() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), Bounds { bytes: 5 * sealed(100), age_ms: 1_000_000, min_free_bytes: 1 });
    for (class, at) in [(Class::Security, 1), (Class::Detail, 2), (Class::Alert, 3), (Class::Key, 4), (Class::Sample, 5)] {
        fill(&mut queue, class, 100, [T0 + at]);
    }
    for at in 6..=8 {
        assert_eq!(queue.append(vec![new(Class::Security, 100, T0 + at)], vec![], vec![], T0 + at).unwrap().given_up, 1);
    }
    assert_eq!(seqs(&live(&mut queue, T0)), [1, 3, 6, 7, 8], "detail, samples and keys went");
    let gaps = queue.gaps(T0).unwrap();
    assert_eq!(
        gaps.iter().map(|(_, g)| (g.range.first, g.range.last, g.class)).collect::<Vec<_>>(),
        [(2, 2, Class::Detail), (5, 5, Class::Sample), (4, 4, Class::Key)]
    );
    assert!(gaps.iter().all(|(_, g)| g.cause == "buffer full" && g.items == 10 && g.epoch == Some(queue.level().epoch)));
    assert_eq!(live(&mut queue, T0).dropped, [range(2, 2), range(4, 5)]);
    queue.front(Lane::Live, Room { frames: 1, bytes: 1 }, T0).unwrap();
    for at in (0..=2_000_000).step_by(500_000) {
        queue.gaps(T0 + at).unwrap();
    }
    fill(&mut queue, Class::Key, 10, [T0 + 2_000_000]);
    assert_eq!(queue.level().batches, 2, "too old, but for the one that may be on its way");
}

#[test]
fn a_clock_that_is_set_makes_nothing_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = Bounds { age_ms: 1_000_000, ..WIDE };
    let year = 366 * 86_400_000;
    let mut queue = open(dir.path(), bounds);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 3);
    fill(&mut queue, Class::Sample, 10, [T0 + year]);
    drop(queue);
    let mut queue = open(dir.path(), bounds);
    fill(&mut queue, Class::Sample, 10, [T0 + year + 1]);
    assert_eq!(queue.level().batches, 5, "nobody knows how old the first three are");
    for at in (0..=1_500_000).step_by(500_000) {
        queue.gaps(T0 + year + at).unwrap();
    }
    fill(&mut queue, Class::Sample, 10, [T0 + year + 1_500_000]);
    assert_eq!(queue.level().batches, 4, "what was sealed since has an age");
}

#[test]
fn samples_are_thinned_before_they_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), Bounds { bytes: 100 * sealed(100), age_ms: 1 << 40, min_free_bytes: 1 });
    fill(&mut queue, Class::Sample, 100, T0..T0 + 140);
    let front = live(&mut queue, T0);
    let kept: Vec<u64> = seqs(&front).into_iter().take_while(|seq| *seq <= 40).collect();
    assert_eq!(kept, [1, 11, 21, 31], "of the older half every tenth stays");
    assert!(untold(&mut queue).iter().all(|gap| gap.3 == "thinned"));
    assert_eq!(untold(&mut queue)[0], (2, 10, 90, "thinned".into()), "neighbours are one gap");
    queue.front(Lane::Live, Room { frames: 1, bytes: 1 }, T0).unwrap();
    fill(&mut queue, Class::Sample, 100, T0 + 200..T0 + 1_000);
    assert!(untold(&mut queue).iter().any(|gap| gap.3 == "buffer full"));
    assert_eq!(queue.level().batches, 100);
    let first = live(&mut queue, T0).frames[0].0;
    assert_eq!(first, 140, "the one that was handed out stayed");
}

#[test]
fn a_gap_is_kept_until_a_batch_that_tells_of_it_is_acknowledged_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    queue.append(vec![], vec![], vec![(Class::Sample, 7, "not encoded")], T0).unwrap();
    drop(queue);
    let mut queue = open(dir.path(), WIDE);
    let (id, gap) = queue.gaps(T0).unwrap().remove(0);
    assert_eq!((gap.items, gap.cause.as_str()), (7, "not encoded"), "over a restart too");
    queue.append(vec![New { told: vec![id], ..new(Class::Key, 10, T0) }], vec![], vec![], T0).unwrap();
    assert!(queue.gaps(T0).unwrap().is_empty(), "it is told");
    give_up(&mut queue, 2, "refused for good", T0);
    let causes: Vec<String> = untold(&mut queue).into_iter().map(|gap| gap.3).collect();
    assert_eq!(causes, ["not encoded", "refused for good"], "the batch that told of it was given up: it is told again");
}

#[test]
fn a_gap_does_not_grow_while_somebody_is_about_to_tell_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), Bounds { bytes: 2 * sealed(100), age_ms: 1 << 40, min_free_bytes: 1 });
    fill(&mut queue, Class::Detail, 100, T0..T0 + 3);
    let (id, gap) = queue.gaps(T0).unwrap().remove(0);
    assert_eq!((gap.range.first, gap.range.last), (1, 1));
    // The batch that tells of it needs room itself: number 2 goes.
    queue.append(vec![New { told: vec![id], ..new(Class::Detail, 100, T0 + 4) }], vec![], vec![], T0 + 4).unwrap();
    assert_eq!(untold(&mut queue), [(2, 2, 10, "buffer full".into())]);
}

#[test]
fn acknowledged_batches_are_kept_a_while_and_sent_again_to_one_who_has_forgotten_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 6);
    let epoch = queue.level().epoch;
    live(&mut queue, T0);
    queue.acked(epoch, 4, vec![], T0).unwrap();
    live(&mut queue, T0);
    assert_eq!(queue.acked(epoch, 2, vec![], T0).unwrap(), 0, "it has lost two");
    assert_eq!(seqs(&live(&mut queue, T0)), [3, 4, 5, 6]);
    queue.acked(epoch, 6, vec![], T0).unwrap();
    queue.missing(epoch, 5, T0).unwrap();
    assert_eq!(seqs(&live(&mut queue, T0)), [5, 6]);
    queue.acked(epoch, 6, vec![], T0).unwrap();
    let later = T0 + 15 * 60_000;
    fill(&mut queue, Class::Sample, 10, [later]);
    queue.missing(epoch, 3, later).unwrap();
    assert_eq!((live(&mut queue, later).dropped, seqs(&live(&mut queue, later))), (vec![range(3, 6)], vec![7]));
    assert_eq!(untold(&mut queue), [(3, 6, 0, "acknowledged before, and not known to the aggregator any more".into())]);
}

#[test]
fn an_ack_that_was_overtaken_by_another_takes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 6);
    let epoch = queue.level().epoch;
    live(&mut queue, T0);
    queue.acked(epoch, 3, vec![range(6, 6)], T0).unwrap();
    queue.acked(epoch, 3, vec![], T0).unwrap();
    assert_eq!(seqs(&live(&mut queue, T0)), [4, 5], "both may answer what was handed out before either");
}

#[test]
fn a_fork_counts_anew_from_that_batch_on_and_rewrites_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 6);
    let old = live(&mut queue, T0);
    queue.acked(old.epoch, 1, vec![range(5, 5)], T0).unwrap();
    queue.forked(old.epoch, 4, T0).unwrap();
    let rest = live(&mut queue, T0);
    assert_eq!((rest.epoch, seqs(&rest)), (old.epoch, vec![2, 3]), "what lies before stays as it was");
    queue.acked(old.epoch, 3, vec![], T0).unwrap();
    let anew = live(&mut queue, T0);
    assert!(anew.epoch != old.epoch);
    assert_eq!(anew.frames, [(1, old.frames[3].1.clone()), (3, old.frames[5].1.clone())]);
    assert_eq!(anew.dropped, [range(2, 2)], "what the old epoch delivered is jumped over");
    assert!(untold(&mut queue).is_empty(), "and is no loss");
    drop(queue);
    let mut queue = open(dir.path(), WIDE);
    // The ack of these was not stored yet.
    assert_eq!(seqs(&live(&mut queue, T0)), [2, 3]);
    queue.acked(old.epoch, 3, vec![], T0).unwrap();
    assert_eq!(live(&mut queue, T0).frames, anew.frames);
    assert_eq!(queue.acked(anew.epoch, 3, vec![], T0).unwrap(), 2);
}

#[test]
fn an_ack_settles_nothing_that_was_not_sent_for_it_may_speak_of_an_earlier_life_of_this_host() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 3);
    let epoch = live(&mut queue, T0).epoch;
    fill(&mut queue, Class::Sample, 10, T0 + 3..T0 + 6);
    assert_eq!(queue.acked(epoch, 9, vec![range(11, 12)], T0).unwrap(), 3);
    assert_eq!(seqs(&live(&mut queue, T0)), [4, 5, 6], "who has others under these numbers says so when they are sent");
    queue.forked(epoch, 4, T0).unwrap();
    assert_eq!(seqs(&live(&mut queue, T0)), [1, 2, 3]);
}

#[test]
fn a_copy_of_the_file_counts_under_an_epoch_of_its_own() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 2);
    let epoch = queue.level().epoch;
    queue.close(T0).unwrap();
    drop(queue);
    for name in ["buffer.db", "buffer.key", "buffer.id"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let mut queue = open(copy.path(), WIDE);
    assert!(queue.level().epoch != epoch);
    fill(&mut queue, Class::Sample, 10, [T0 + 3]);
    assert_eq!((live(&mut queue, T0).epoch, seqs(&live(&mut queue, T0))), (epoch, vec![1, 2]), "what it was copied with goes under the old one");
    queue.acked(epoch, 2, vec![], T0).unwrap();
    assert_eq!(seqs(&live(&mut queue, T0)), [1]);
    drop(queue);
    assert_eq!(open(dir.path(), WIDE).level().epoch, epoch, "the original goes on");
}

#[test]
fn a_file_of_version_1_is_taken_over_with_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let master = key(dir.path());
    let wrapped = keyvigil_common::seal::KeyRing::make_key(&master, 1).unwrap();
    let ring = keyvigil_common::seal::KeyRing::open(&master, &[(1, wrapped.clone())]).unwrap();
    let epoch = [7u8; 16];
    let connection = rusqlite::Connection::open(dir.path().join("buffer.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE batch (seq INTEGER PRIMARY KEY, class INTEGER NOT NULL, items INTEGER NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);
             CREATE INDEX batch_by_class ON batch (class, seq);
             CREATE TABLE dropped (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
             CREATE TABLE gap (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, class INTEGER NOT NULL, items INTEGER NOT NULL, at_ms INTEGER NOT NULL, cause TEXT NOT NULL);
             CREATE TABLE remembered (sensor TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (sensor, key)) WITHOUT ROWID;
             PRAGMA user_version = 1; INSERT INTO meta VALUES ('last_seq', 6);
             INSERT INTO dropped VALUES (4, 4); INSERT INTO gap VALUES (1, 4, 4, 2, 10, 5, 'buffer full');",
        )
        .unwrap();
    connection.execute("INSERT INTO meta VALUES ('data_key', ?1), ('epoch', ?2)", rusqlite::params![wrapped, epoch]).unwrap();
    for (seq, class) in [(3, 0), (5, 1), (6, 2)] {
        let body = ring.seal(&[seq; 20], format!("batch:{}:{seq}", keyvigil_common::hex(&epoch)).as_bytes()).unwrap();
        connection.execute("INSERT INTO batch VALUES (?1, ?2, 10, ?3, ?4, ?5)", rusqlite::params![seq, class, 48, T0, body]).unwrap();
    }
    drop(connection);
    let mut queue = open(dir.path(), Bounds { bytes: 60, ..WIDE });
    let front = live(&mut queue, T0);
    assert_eq!((front.epoch, front.frames.clone()), (epoch, vec![(3, vec![3; 20]), (5, vec![5; 20]), (6, vec![6; 20])]));
    assert_eq!(front.dropped, [range(4, 4)]);
    assert_eq!(queue.gaps(T0).unwrap()[0].1.class, Class::Sample);
    queue.acked(epoch, 3, vec![], T0).unwrap();
    queue.front(Lane::Backfill, ROOMY, T0).unwrap();
    live(&mut queue, T0);
    queue.missing(epoch, 1, T0).unwrap();
    assert_eq!(queue.level().batches, 3, "what it has acknowledged and still holds waits again");
    fill(&mut queue, Class::Security, 20, [T0]);
    let classes: Vec<Class> = queue.gaps(T0).unwrap().into_iter().map(|(_, gap)| gap.class).collect();
    assert!(classes.contains(&Class::Key) && classes.contains(&Class::Sample), "classes are read as they were meant: {classes:?}");
}

#[test]
fn a_batch_that_was_not_sent_is_not_given_up_because_somebody_refuses_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 3);
    let front = queue.front(Lane::Live, Room { frames: 1, bytes: 1 }, T0).unwrap().unwrap();
    let (sent, other) = (front.frames[0].0, if front.frames[0].0 == 1 { 2 } else { 1 });
    assert!(!queue.set_aside(front.epoch, other, "refused".into(), T0).unwrap());
    assert!(!queue.set_aside(front.epoch, 99, "refused".into(), T0).unwrap());
    assert!(!queue.set_aside([0; 16], sent, "refused".into(), T0).unwrap());
    assert_eq!(queue.level().batches, 3);
    assert!(queue.set_aside(front.epoch, sent, "why".repeat(1_000), T0).unwrap());
    let gaps = untold(&mut queue);
    assert!(queue.level().batches == 2 && gaps.len() == 1 && gaps[0].3.len() <= 256, "{gaps:?}");
}

#[test]
fn the_file_shrinks_after_a_drain_and_its_log_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), Bounds { bytes: 24 << 20, ..WIDE });
    let size = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |m| m.len());
    let mut most = 0;
    for round in 0..400 {
        let batches = (0..32).map(|_| new(Class::Sample, 3_000, T0 + round)).collect();
        queue.append(batches, vec![], vec![], T0 + round).unwrap();
        most = most.max(size("buffer.db-wal"));
    }
    let full = size("buffer.db");
    assert!(full > 16 << 20, "{full}");
    let epoch = queue.level().epoch;
    while let Some(front) = queue.front(Lane::Live, Room { frames: 100_000, bytes: 1 << 30 }, T0).unwrap() {
        queue.acked(epoch, front.frames.last().unwrap().0, vec![], T0).unwrap();
    }
    for second in 0..40 {
        fill(&mut queue, Class::Sample, 10, [T0 + 16 * 60_000 + second]);
        most = most.max(size("buffer.db-wal"));
    }
    queue.close(T0).unwrap();
    assert!(size("buffer.db") < 4 << 20, "{} of {full}", size("buffer.db"));
    assert!(most < 16 << 20, "{most}");
}

#[test]
fn what_sensors_remember_is_stored_with_the_batch_and_nothing_is_readable_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    let batch = New { frame: b"marker-frame".to_vec(), ..new(Class::Key, 10, T0) };
    let remember = vec![("keystore", "a".into(), Some(b"marker-value".to_vec())), ("other", "a".into(), Some(vec![1]))];
    queue.append(vec![batch], remember, vec![], T0).unwrap();
    assert_eq!(queue.remembered("keystore", T0).unwrap().unwrap(), [("a".to_owned(), b"marker-value".to_vec())]);
    queue.append(vec![], vec![("keystore", "a".into(), None)], vec![], T0).unwrap();
    assert!(queue.remembered("keystore", T0).unwrap().unwrap().is_empty());
    for name in ["buffer.db", "buffer.db-wal", "buffer.id"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"marker-"), "{name}");
    }
}
