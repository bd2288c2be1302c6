use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const WIDE: Bounds = Bounds { bytes: 1 << 30, age_ms: 1 << 40 };

fn open(dir: &tempfile::TempDir, bounds: Bounds) -> Buffer {
    let master = MasterKey::load_or_create(&dir.path().join("buffer.key")).unwrap();
    Buffer::open(&dir.path().join("buffer.db"), &master, bounds).unwrap()
}

fn new(class: Class, bytes: usize, at_ms: i64) -> New {
    New { class, items: 10, at_ms, frame: vec![u8::try_from(at_ms % 251).unwrap(); bytes], told: Vec::new() }
}

#[test]
fn batches_come_out_in_order_until_acknowledged_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, WIDE);
    for at in 1..=5 {
        buffer.append(&[new(Class::Sample, 10, at)], &[], &[], at).unwrap();
    }
    let epoch = buffer.epoch();
    buffer.ack(2).unwrap();
    drop(buffer);
    let buffer = open(&dir, WIDE);
    let front = buffer.peek(2, 1 << 20, 0).unwrap();
    assert_eq!(front.epoch, epoch, "the same file is the same epoch");
    assert_eq!(front.frames, [(3, vec![3; 10]), (4, vec![4; 10])]);
    assert_eq!(buffer.peek(10, 60, 0).unwrap().frames.len(), 1, "one at least, however large");
    buffer.ack(5).unwrap();
    buffer.append(&[new(Class::Sample, 10, 9)], &[], &[], 9).unwrap();
    assert_eq!(buffer.peek(9, 1 << 20, 0).unwrap().frames[0].0, 6, "numbers go on after everything was acknowledged");
}

#[test]
fn what_must_go_goes_by_class_then_age_and_is_declared() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = 100 + keyvigil_common::seal::OVERHEAD_BYTES as u64;
    let buffer = open(&dir, Bounds { bytes: 4 * sealed, age_ms: 1_000_000 });
    for (class, at) in [(Class::Security, 1), (Class::Sample, 2), (Class::Key, 3), (Class::Sample, 4)] {
        buffer.append(&[new(class, 100, at)], &[], &[], at).unwrap();
    }
    for at in 5..=6 {
        assert_eq!(buffer.append(&[new(Class::Security, 100, at)], &[], &[], at).unwrap(), 1);
    }
    let left: Vec<u64> = buffer.peek(9, 1 << 20, 0).unwrap().frames.iter().map(|f| f.0).collect();
    assert_eq!(left, [1, 3, 5, 6], "both samples went, oldest first");
    let gaps: Vec<Gap> = buffer.gaps().unwrap().into_iter().map(|(_, gap)| gap).collect();
    assert_eq!(gaps.iter().map(|g| (g.range.first, g.range.last, g.items)).collect::<Vec<_>>(), [(2, 2, 10), (4, 4, 10)]);
    assert_eq!(gaps[0].cause, "buffer full");
    assert_eq!(buffer.peek(9, 1 << 20, 0).unwrap().dropped, [Range { first: 2, last: 2 }, Range { first: 4, last: 4 }]);
    buffer.append(&[new(Class::Key, 10, 2_000_000)], &[], &[], 2_000_000).unwrap();
    assert_eq!(buffer.level().unwrap().batches, 1, "the others were too old");
}

#[test]
fn a_gap_waits_until_a_batch_that_tells_of_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, WIDE);
    buffer.append(&[], &[], &[(Class::Sample, 7, "disk full")], 5).unwrap();
    let (id, gap) = buffer.gaps().unwrap().remove(0);
    assert_eq!((gap.items, gap.cause.as_str()), (7, "disk full"));
    drop(buffer);
    let buffer = open(&dir, WIDE);
    assert_eq!(buffer.gaps().unwrap().len(), 1, "over a restart too");
    buffer.append(&[New { told: vec![Told { id, last: gap.range.last, items: gap.items }], ..new(Class::Key, 10, 6) }], &[], &[], 6).unwrap();
    assert!(buffer.gaps().unwrap().is_empty());
    assert_eq!(buffer.peek(9, 99, 0).unwrap().dropped.len(), 1, "the number stays declared until the ack passes it");
    buffer.ack(2).unwrap();
    assert!(buffer.peek(9, 99, 0).unwrap().dropped.is_empty());
}

#[test]
fn a_gap_that_grows_while_it_is_told_keeps_the_rest_to_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = 100 + keyvigil_common::seal::OVERHEAD_BYTES as u64;
    let buffer = open(&dir, Bounds { bytes: 2 * sealed, age_ms: 1_000_000 });
    for at in 1..=3 {
        buffer.append(&[new(Class::Sample, 100, at)], &[], &[], at).unwrap();
    }
    let (id, gap) = buffer.gaps().unwrap().remove(0);
    assert_eq!((gap.range.first, gap.range.last), (1, 1));
    // The batch that tells of it needs room itself: number 2 goes, and would join the gap that is being told.
    let told = vec![Told { id, last: gap.range.last, items: gap.items }];
    buffer.append(&[New { told, ..new(Class::Sample, 100, 4) }], &[], &[], 4).unwrap();
    let rest: Vec<Gap> = buffer.gaps().unwrap().into_iter().map(|(_, gap)| gap).collect();
    assert_eq!(rest.iter().map(|g| (g.range.first, g.range.last, g.items)).collect::<Vec<_>>(), [(2, 2, 10)]);
}

#[test]
fn a_batch_that_was_damaged_on_disk_is_declared_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, WIDE);
    for at in 1..=3 {
        buffer.append(&[new(Class::Sample, 10, at)], &[], &[], at).unwrap();
    }
    buffer.lock().execute("UPDATE batch SET body = zeroblob(length(body)) WHERE seq = 2", []).unwrap();
    let front = buffer.peek(9, 1 << 20, 5).unwrap();
    assert_eq!(front.frames.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((front.dropped, buffer.gaps().unwrap()[0].1.cause.as_str()), (vec![Range { first: 2, last: 2 }], "damaged on disk"));
}

#[test]
fn no_push_declares_more_ranges_than_one_may() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, WIDE);
    for at in 1..=(2 * PUSH_DROPPED_MAX as i64 + 100) {
        buffer.append(&[new(Class::Sample, 1, at)], &[], &[], at).unwrap();
    }
    for seq in (1..=2 * PUSH_DROPPED_MAX as u64 + 100).step_by(2) {
        buffer.set_aside(seq, "every second one", 0).unwrap();
    }
    let front = buffer.peek(100_000, 1 << 30, 0).unwrap();
    assert_eq!((front.dropped.len(), front.frames.len()), (PUSH_DROPPED_MAX, PUSH_DROPPED_MAX));
}

#[test]
fn what_sensors_remember_is_stored_with_the_batch_and_nothing_is_readable_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir, WIDE);
    let mut batch = new(Class::Key, 10, 1);
    batch.frame = b"marker-frame".to_vec();
    buffer.append(&[batch], &[("keystore", "a".into(), Some(b"marker-value".to_vec())), ("other", "a".into(), Some(vec![1]))], &[], 1).unwrap();
    assert_eq!(buffer.remembered("keystore").unwrap(), [("a".to_owned(), b"marker-value".to_vec())]);
    buffer.append(&[], &[("keystore", "a".into(), None)], &[], 2).unwrap();
    assert!(buffer.remembered("keystore").unwrap().is_empty());
    for name in ["buffer.db", "buffer.db-wal"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap_or_default();
        assert!(!bytes.windows(7).any(|w| w == b"marker-"), "{name}");
    }
}

#[test]
fn a_file_that_is_not_a_buffer_or_another_key_is_an_error_with_words() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir, WIDE));
    let other = Buffer::open(&dir.path().join("buffer.db"), &MasterKey::generate(), WIDE);
    assert!(matches!(other, Err(BufferError::Seal(SealError::WrongKey))));
    std::fs::write(dir.path().join("junk.db"), vec![7; 8_192]).unwrap();
    assert!(Buffer::open(&dir.path().join("junk.db"), &MasterKey::generate(), WIDE).is_err());
}

#[derive(Debug, Clone)]
enum Action {
    Append(Class, usize),
    Ack(u64),
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let class = prop_oneof![Just(Class::Security), Just(Class::Key), Just(Class::Sample)];
    prop_oneof![
        4 => (class, 1usize..400).prop_map(|(c, n)| Action::Append(c, n)),
        2 => (0u64..40).prop_map(Action::Ack),
        1 => Just(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The buffer against a map: numbers are dense, and each is held, acknowledged or declared lost.
    #[test]
    fn every_number_is_held_acknowledged_or_declared(actions in prop::collection::vec(action(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { bytes: 1_500, age_ms: 1 << 40 };
        let mut buffer = open(&dir, bounds);
        let (mut last, mut acked) = (0u64, 0u64);
        let mut frames: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (at, action) in (1i64..).zip(actions) {
            match action {
                Action::Append(class, bytes) => {
                    let batch = new(class, bytes, at);
                    last += 1;
                    frames.insert(last, batch.frame.clone());
                    buffer.append(&[batch], &[], &[], at).unwrap();
                }
                Action::Ack(cursor) => {
                    acked = acked.max(cursor.min(last));
                    buffer.ack(acked).unwrap();
                }
                Action::Restart => {
                    drop(buffer);
                    buffer = open(&dir, bounds);
                }
            }
            let front = buffer.peek(1_000, 1 << 30, 0).unwrap();
            let level = buffer.level().unwrap();
            prop_assert_eq!((level.last_seq, level.batches), (last, front.frames.len() as u64));
            prop_assert!(level.bytes <= bounds.bytes + 400 + 64, "one batch may stand alone above the bound");
            for seq in acked + 1..=last {
                let held = front.frames.iter().find(|f| f.0 == seq);
                let declared = front.dropped.iter().any(|r| r.contains(seq));
                prop_assert!(held.is_some() != declared, "{} is neither or both", seq);
                if let Some((_, frame)) = held {
                    prop_assert_eq!(frame, &frames[&seq]);
                }
            }
        }
    }
}
