use super::*;
use crate::limits::BATCH_RAW_BYTES_MAX;
use crate::sample::{MetricType, Series, Tags};
use crate::wire::{Batch, Column, Group, Sealed, decode_batch, encode_batch};
use proptest::prelude::*;

const NOW: i64 = 1_763_836_800_000;

fn series(count: usize) -> Vec<Series> {
    let tags = |n: usize| Tags::new([("cpu", n.to_string())]).unwrap();
    (0..count).map(|n| Series::new("system.cpu.seconds_total", MetricType::Counter, tags(n)).unwrap()).collect()
}

/// One scrape of a host with so many series.
fn batch(seq: u64, count: usize, value: f64) -> Batch {
    let now = NOW + seq.cast_signed() * 10_000;
    let column = |n: usize| Column { series: n as u32, start_ms: NOW, values: vec![n as f64 + value] };
    let group = Group { sensor: "cpu".into(), interval_ms: 10_000, times: vec![now - 3], columns: (0..count).map(column).collect() };
    let sealed = Some(Sealed { boot: [3; 16], boot_ms: seq.cast_signed() * 10_000 });
    Batch { sealed_ms: now, series: series(count), groups: vec![group], sealed, ..Batch::default() }
}

fn push(batches: &[(u64, Batch)]) -> Push {
    let seq = batches[0].0.cast_signed();
    let sender = Sender {
        instance: [1; 16],
        machine: [2; 32],
        boot: [3; 16],
        boot_ms: seq * 10_001,
        wall_ms: NOW + seq * 10_001,
        trusts: [4; 32],
        blind: Some(0),
        canaries: Canaries::default(),
    };
    let frames = batches.iter().map(|(seq, batch)| (*seq, encode_batch(batch).unwrap())).collect();
    Push { epoch: [7; 16], sender: Some(sender), frames, waiting: vec![Range { first: 1, last: 2 }], ..Push::default() }
}

fn one(seq: u64) -> Push {
    push(&[(seq, batch(seq, 100, 1.0))])
}

/// What the other end makes of a push that came whole.
fn taken_whole(body: &[u8]) -> Option<Base> {
    let push = crate::wire::decode_push(body).unwrap();
    let raws: Vec<_> = push.frames.iter().map(|(seq, frame)| (*seq, Raw::open(frame).unwrap())).collect();
    Base::after_whole(&push, raws.iter().map(|(seq, raw)| (*seq, raw))).unwrap()
}

fn first() -> Base {
    let (body, next) = encode_push_after(&one(1), None).unwrap();
    assert_eq!(next, taken_whole(&body), "both ends keep the same");
    next.unwrap()
}

#[test]
fn what_repeats_costs_next_to_nothing_and_comes_back_to_the_bit() {
    let mut base = first();
    for seq in 2..200 {
        let sent = push(&[(seq, batch(seq, 100, 1.0))]);
        let (body, next) = encode_push_after(&sent, Some(&base)).unwrap();
        assert!(body.len() < 100, "{} bytes for number {seq}, whole {}", body.len(), sent.frames[0].1.len());
        let difference = Difference::read(&body).unwrap().unwrap();
        assert_eq!(difference.base, base.name);
        let opened = difference.open(&base).unwrap();
        assert_eq!(opened.push, Push { frames: Vec::new(), ..sent.clone() });
        assert_eq!(opened.batches.iter().map(|(seq, raw)| (*seq, raw.seal().unwrap())).collect::<Vec<_>>(), sent.frames);
        assert_eq!(Some(&opened.next), next.as_ref(), "both ends keep the same");
        base = opened.next;
        assert!(base.bytes.len() <= BASE_BYTES_MIN, "{} bytes are kept", base.bytes.len());
    }
}

#[test]
fn a_batch_is_known_again_however_it_travelled() {
    let (sent, base) = (one(2), first());
    let (body, _) = encode_push_after(&sent, Some(&base)).unwrap();
    let opened = Difference::read(&body).unwrap().unwrap().open(&base).unwrap();
    let whole = &sent.frames[0].1;
    let other = [&whole[..12], &zstd::bulk::compress(&Raw::open(whole).unwrap().bytes, 9).unwrap()].concat();
    let hashes = [Raw::open(whole).unwrap().hash(whole), Raw::open(&other).unwrap().hash(&other), opened.batches[0].1.hash(&[])];
    assert!(other != *whole && hashes.iter().all(|hash| *hash == hashes[0]));
    let before = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wire/batch-v1.bin")).unwrap();
    assert_eq!(Raw::open(&before).unwrap().hash(&before), crate::sha256(&before), "what an aggregator of version 1 has kept is known again");
}

#[test]
fn what_is_too_much_or_old_or_damaged_goes_whole() {
    let base = first();
    let is_whole = |push: &Push| encode_push_after(push, Some(&base)).unwrap().0.starts_with(b"KVP");
    assert!(!is_whole(&one(2)));
    let mut much = push(&[(2, batch(2, 30_000, 0.5))]);
    assert!(is_whole(&much) && claimed_bytes(&much.frames[0].1) < BATCH_RAW_BYTES_MAX);
    assert_eq!(encode_push_after(&much, None).unwrap().1, None, "it leaves no base");
    assert_eq!(taken_whole(&encode_push(&much).unwrap()), None);
    much.frames[0].1.truncate(20);
    assert!(is_whole(&much), "damaged in the buffer");
    let mut old = one(2);
    old.frames.insert(0, (1, std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wire/batch-v1.bin")).unwrap()));
    assert!(is_whole(&old));
    let (body, next) = encode_push_after(&old, None).unwrap();
    assert_eq!((next, taken_whole(&body)), (None, None));
    assert_eq!(encode_push_after(&Push { sender: None, ..one(2) }, None).unwrap().1, None);
}

#[test]
fn another_base_is_an_error_and_never_another_batch() {
    let base = first();
    let (body, _) = encode_push_after(&one(2), Some(&base)).unwrap();
    let difference = Difference::read(&body).unwrap().unwrap();
    let meant = difference.open(&base).unwrap().batches;
    for at in (0..base.bytes.len()).step_by(11) {
        let mut other = base.clone();
        other.bytes[at] ^= 1;
        // What nothing was taken from may differ.
        assert!(difference.open(&other).is_ok_and(|opened| opened.batches == meant) || difference.open(&other).is_err(), "{at}");
    }
    assert!(difference.open(&Base { name: base.name, bytes: Vec::new() }).is_err());
    for end in 0..body.len() {
        assert!(Difference::read(&body[..end]).ok().flatten().is_none_or(|cut| cut.open(&base).is_err()), "cut at {end}");
    }
}

#[test]
fn a_small_difference_cannot_claim_much_memory() {
    let base = Base { name: 0, bytes: vec![0; BASE_BYTES_MAX] };
    let body = |compressed: &[u8]| [b"KVD\x02".as_slice(), &[0; 8], &compressed[MAGIC.len()..]].concat();
    let bomb = zstd::bulk::compress(&vec![0u8; 64 << 20], 19).unwrap();
    assert!(matches!(Difference::read(&body(&bomb)), Err(WireError::TooLarge { .. })));
    let mut lying = zstd::bulk::compress(&vec![0u8; 60_000], 19).unwrap();
    lying[5..7].copy_from_slice(&1_000u16.to_le_bytes());
    let lying = Difference::read(&body(&lying)).unwrap().unwrap();
    assert_eq!(lying.claimed, 1_256);
    assert!(matches!(lying.open(&base), Err(WireError::Garbled(_))));
    assert!(matches!(Difference::read(&body(&vec![0; 2 << 20])), Err(WireError::TooLarge { .. })));
    let endless = zstd::stream::encode_all(&[0u8; 9][..], 1).unwrap();
    assert!(Difference::read(&body(&endless)).is_err(), "it does not say how long it is");
    let sender = one(1).sender.unwrap();
    let open = |batches: Vec<(u64, u32)>| {
        let text = encode(&([7u8; 16], Vec::<Range>::new(), Vec::<Range>::new(), SenderBytes::from(sender), batches)).unwrap();
        Difference::read(&Difference::encode(&base, &text).unwrap()).unwrap().unwrap().open(&base)
    };
    assert_eq!(open(vec![(1, u32::MAX)]), Err(WireError::Truncated), "a batch longer than all there is");
    assert_eq!(open((1..=300).map(|seq| (seq, 0)).collect()), Err(WireError::TooMany));
    assert!(matches!(open(vec![(2, 0), (1, 0)]), Err(WireError::Shape(_))));
    assert!(matches!(open(Vec::new()), Err(WireError::Shape(_))));
    let mut other = encode_push_after(&one(2), Some(&base)).unwrap().0;
    other[3] = 1;
    assert_eq!(Difference::read(&other), Err(WireError::Version(1)), "version 1 had none");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_was_sent_both_ends_agree(sizes in prop::collection::vec((0usize..600, 1usize..4, any::<u32>()), 1..12)) {
        let (mut ours, mut theirs, mut seq) = (None::<Base>, None::<Base>, 1u64);
        for (count, batches, value) in sizes {
            let batches: Vec<_> = (0..batches as u64).map(|n| (seq + n, batch(seq + n, count, f64::from(value)))).collect();
            seq += batches.len() as u64;
            let (body, next) = encode_push_after(&push(&batches), ours.as_ref()).unwrap();
            let (raws, after) = match Difference::read(&body).unwrap() {
                Some(difference) => {
                    let opened = difference.open(theirs.as_ref().unwrap()).unwrap();
                    (opened.batches.into_iter().map(|(_, raw)| raw.decode().unwrap()).collect::<Vec<_>>(), Some(opened.next))
                }
                None => (crate::wire::decode_push(&body).unwrap().frames.iter().map(|(_, frame)| decode_batch(frame).unwrap()).collect(), taken_whole(&body)),
            };
            prop_assert_eq!(raws, batches.into_iter().map(|(_, batch)| batch).collect::<Vec<_>>());
            prop_assert_eq!(&next, &after);
            prop_assert!(next.as_ref().is_none_or(|base| base.bytes.len() <= BASE_BYTES_MAX));
            (ours, theirs) = (next, after);
        }
    }

    #[test]
    fn changed_bytes_never_panic(at in 0usize..200, bit in 0u8..8, cut in 0usize..4) {
        let base = first();
        let mut body = encode_push_after(&one(2), Some(&base)).unwrap().0;
        let length = body.len();
        body[at % length] ^= 1 << bit;
        body.truncate(length - cut);
        if let Ok(Some(difference)) = Difference::read(&body) {
            let _ = difference.open(&base);
        }
    }
}
