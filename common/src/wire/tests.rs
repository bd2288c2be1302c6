use super::frame::{CODEC_ZSTD, HEAD_BYTES, inflate, raw_of};
use super::*;
use crate::event::{Actor, Event, EventKind};
use crate::key::{KeyFacts, KeyKind, Place, Reach, Revoked, Role, Served, Sighting, Staple};
use crate::limits::{SANS_MAX, TEXT_BYTES_MAX};
use crate::sample::{MetricType, Series, Tags};
use crate::sequence::Range;
use proptest::prelude::*;
use std::path::Path;

/// One batch that uses every field; its bytes are the fixture of the version.
fn full_batch() -> Batch {
    let series = |id: &str, kind| Series::new(id, kind, Tags::new([("host", "web-1"), ("cpu", "0")]).unwrap()).unwrap();
    let mut facts = KeyFacts::bare(KeyKind::Certificate, "ab".repeat(32), "cd".repeat(32), "rsa");
    facts.bits = Some(2048);
    facts.not_after_ms = Some(1_800_000_000_000);
    facts.sans = vec!["DNS:example.org".into()];
    (facts.usage, facts.weaknesses) = (vec!["serverAuth".into()], vec!["roca".into()]);
    (facts.exponent, facts.key_id, facts.authority_key_id) = (Some(65_537), Some("0102".into()), Some("0304".into()));
    facts.spki = Some("56".repeat(32));
    (facts.revoked_ms, facts.revocation) = (Some(7), Some("CRL /etc/ssl/crl.pem: keyCompromise".into()));
    facts.revokes = vec![Revoked { what: "0a".into(), at_ms: Some(6), reason: Some("superseded".into()) }];
    let served =
        Served { pid: Some(7), chain: vec!["12".repeat(32)], staple: Some(Staple { status: "good".into(), ..Staple::default() }), ..Served::default() };
    let place = Place {
        owner: Some("root".into()),
        mode: Some(0o640),
        modified_ms: Some(1_700_000_000_000),
        format: Some("pem".into()),
        entry: Some("www".into()),
        role: Role::Authorized,
        not_after_ms: Some(9),
        options: vec!["restrict".into()],
        used_by: vec!["nginx: /etc/nginx/nginx.conf:3".into()],
        reach: Some(Reach { read: true, write: false, list: true }),
        home: Some("ann".into()),
        served: Some(Box::new(served)),
        ..Place::at("/etc/ssl/a.pem")
    };
    Batch {
        sealed_ms: 1_763_836_800_123,
        series: vec![series("system.cpu.usage_total", MetricType::Gauge), series("crypto.key.created_total", MetricType::Counter)],
        groups: vec![Group {
            sensor: "cpu".into(),
            interval_ms: 10_000,
            times: vec![1_763_836_790_000, 1_763_836_800_000],
            columns: vec![
                Column { series: 0, start_ms: 0, values: vec![12.5, f64::NEG_INFINITY] },
                Column { series: 1, start_ms: 1_763_836_000_000, values: vec![1.0, 2.0] },
            ],
        }],
        sightings: vec![Sighting { facts, place, at_ms: 1_763_836_800_000, gone: false, replaces: Some("ef".repeat(32)) }],
        events: vec![Event {
            kind: EventKind::Rotated,
            at_ms: 1_763_836_800_000,
            key_id: Some("ab".repeat(32)),
            path: Some("/etc/ssl/a.pem".into()),
            actor: Some(Actor { exe: Some("/usr/bin/certbot".into()), pid: Some(7), uid: Some(0), ..Actor::default() }),
            message: "rotated".into(),
            evidence: vec![("old".into(), "ef".repeat(32))],
        }],
        gaps: vec![Gap { range: Range { first: 3, last: 9 }, class: Class::Sample, cause: "buffer full".into(), items: 700, at_ms: 5, epoch: Some([6; 16]) }],
        host: Some(HostFacts { hostname: "web-1".into(), cpus: 2, ..HostFacts::default() }),
        sealed: Some(Sealed { boot: [3; 16], boot_ms: 86_400_123 }),
    }
}

/// Decodes without the dictionary.
fn knowing(frame: &[u8]) -> Result<Batch, WireError> {
    Raw::open(frame)?.decode_unless(|_| true)
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wire").join(name)
}

#[test]
fn a_dictionary_that_is_known_is_left_out_and_all_else_is_the_same() {
    let batch = full_batch();
    let frame = encode_batch(&batch).unwrap();
    let mut dictionary = Vec::new();
    let read = |bytes: &[u8], known: bool, seen: &mut Vec<u8>| {
        Raw::open(bytes)?.decode_unless(|bytes| {
            bytes.clone_into(seen);
            known
        })
    };
    assert_eq!(read(&frame, false, &mut dictionary).unwrap(), batch);
    assert_eq!(dictionary, bincode::encode_to_vec(&batch.series, standard()).unwrap());
    assert_eq!(read(&frame, true, &mut dictionary).unwrap(), Batch { series: Vec::new(), ..batch.clone() });
    let hollow = Group { times: Vec::new(), columns: vec![Column { series: 0, start_ms: 0, values: Vec::new() }; 2], ..batch.groups[0].clone() };
    assert!(matches!(encode_batch(&Batch { groups: vec![hollow], ..batch.clone() }), Err(WireError::Shape(_))), "columns that cost memory and hold nothing");
    let mut lying = batch;
    lying.series.pop();
    let raw = raw_of(&lying).unwrap();
    let head = [b"KVB".as_slice(), &[VERSION, CODEC_ZSTD, 0, 0, 0], &(raw.len() as u32).to_le_bytes()].concat();
    let frame = [head, zstd::bulk::compress(&raw, 1).unwrap()].concat();
    assert!(matches!(read(&frame, true, &mut dictionary), Err(WireError::Shape(_))), "a column points past the dictionary");
}

/// What version 1 could say of it.
fn of_version_1(sighting: &Sighting) -> Sighting {
    let Sighting { facts, place, at_ms, gone, replaces } = sighting.clone();
    let bare = KeyFacts::bare(facts.kind, facts.id, facts.fingerprint, facts.algorithm);
    let facts = KeyFacts { bits: facts.bits, not_after_ms: facts.not_after_ms, sans: facts.sans, ..bare };
    let place = Place { owner: place.owner, mode: place.mode, modified_ms: place.modified_ms, ..Place::at(place.path) };
    Sighting { facts, place, at_ms, gone, replaces }
}

#[test]
fn the_bytes_of_each_version_mean_what_they_meant() {
    let (batch, path) = (full_batch(), fixture("batch-v2.bin"));
    if std::env::var_os("KEYVIGIL_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, encode_batch(&batch).unwrap()).unwrap();
    }
    let golden = std::fs::read(path).unwrap();
    assert_eq!(decode_batch(&golden).unwrap(), batch, "old buffers would be misread");
    let raw = inflate(&golden[HEAD_BYTES..], u32::from_le_bytes(golden[8..12].try_into().unwrap()) as usize).unwrap();
    assert_eq!(raw_of(&batch).unwrap(), raw, "the layout changed: raise VERSION and keep reading this one");
    let before = decode_batch(&std::fs::read(fixture("batch-v1.bin")).unwrap()).unwrap();
    let gaps = batch.gaps.iter().map(|gap| Gap { epoch: None, ..gap.clone() }).collect();
    assert_eq!(before, Batch { gaps, sealed: None, sightings: batch.sightings.iter().map(of_version_1).collect(), ..batch });
}

#[test]
fn push_and_ack_return_as_they_went_in_both_versions() {
    let sender = Sender {
        instance: [1; 16],
        machine: [2; 32],
        boot: [3; 16],
        boot_ms: 77,
        wall_ms: -5,
        trusts: [4; 32],
        blind: Some(0),
        canaries: crate::canary::Canaries::default(),
    };
    let range = |first, last| Range { first, last };
    let push =
        Push { epoch: [7; 16], sender: Some(sender), dropped: vec![range(1, 4)], waiting: vec![range(7, 9)], frames: vec![(5, vec![1, 2]), (10, vec![3])] };
    let before = Push { sender: None, waiting: Vec::new(), ..push.clone() };
    for push in [push.clone(), before] {
        assert_eq!(decode_push(&encode_push(&push).unwrap()).unwrap(), push);
    }
    for bad in [range(0, 4), range(4, 3), range(1, u64::MAX)] {
        let push = Push { dropped: vec![bad], ..push.clone() };
        assert!(decode_push(&encode_push(&push).unwrap()).is_err(), "{bad:?}");
    }
    let beyond = Push { frames: vec![(u64::MAX, vec![1])], ..push.clone() };
    assert!(decode_push(&encode_push(&beyond).unwrap()).is_err(), "a number that no store can count");
    let enhance = Directive::Enhance { sensors: vec!["cpu".into()], until_ms: 4 };
    let directives = vec![enhance.clone(), Directive::Renew { within_ms: 9 }, Directive::Proven { nonces: vec![u64::MAX, 1] }];
    let ack = Ack {
        epoch: [7; 16],
        cursor: 6,
        beyond: vec![range(8, 9)],
        others: Some(vec![Elsewhere { epoch: [8; 16], cursor: 5, beyond: vec![range(7, 7)] }]),
        now_ms: 9,
        spread_ms: 100,
        base: Some(7),
        directives,
    };
    assert_eq!(decode_ack(&encode_ack(&ack, 2).unwrap()).unwrap(), ack);
    let told = Ack { beyond: Vec::new(), others: None, spread_ms: 0, base: None, directives: vec![enhance], ..ack.clone() };
    assert_eq!(decode_ack(&encode_ack(&ack, 1).unwrap()).unwrap(), told, "an agent of version 1 is not told what it cannot read");
}

#[test]
fn another_version_is_named_and_refused() {
    let mut frame = encode_batch(&full_batch()).unwrap();
    frame[3] = 9;
    assert_eq!(decode_batch(&frame), Err(WireError::Version(9)));
    frame[3] = VERSION;
    frame[4] = 2;
    assert_eq!(decode_batch(&frame), Err(WireError::Codec(2)));
    assert_eq!(decode_batch(b"GET / HTTP/1.1\r\n"), Err(WireError::Magic));
}

#[test]
fn a_frame_cut_anywhere_is_an_error_and_never_a_part() {
    let frame = encode_batch(&full_batch()).unwrap();
    for end in 0..frame.len() {
        assert!(decode_batch(&frame[..end]).is_err(), "cut at {end}");
    }
    let mut longer = frame.clone();
    longer.push(0);
    assert!(decode_batch(&longer).is_err(), "bytes after the end");
}

#[test]
fn a_small_frame_cannot_claim_much_memory() {
    // zstd of 64 MiB of zeros is some kilobytes.
    let zeros = vec![0u8; 64 << 20];
    let bomb = zstd::bulk::compress(&zeros, 19).unwrap();
    let frame = |claim: u32| [b"KVB\x02\x01\0\0\0".as_slice(), &claim.to_le_bytes(), &bomb].concat();
    assert!(matches!(decode_batch(&frame(64 << 20)), Err(WireError::TooLarge { .. })));
    assert!(matches!(decode_batch(&frame(1 << 10)), Err(WireError::Garbled(_))));
    // A vector of 2^60 elements, in nine bytes.
    let raw = [&[0u8][..], &[253], &(1u64 << 60).to_le_bytes()].concat();
    let frame = [b"KVB\x02\x01\0\0\0".as_slice(), &u32::try_from(raw.len()).unwrap().to_le_bytes(), &zstd::bulk::compress(&raw, 1).unwrap()];
    assert!(matches!(decode_batch(&frame.concat()), Err(WireError::Garbled(_) | WireError::Truncated)));
}

#[test]
fn what_decodes_must_also_be_possible() {
    type Break = (&'static str, fn(&mut Batch));
    let broken: [Break; 15] = [
        ("column too short", |b| b.groups[0].columns[0].values.truncate(1)),
        ("series out of range", |b| b.groups[0].columns[0].series = 9),
        ("times out of order", |b| b.groups[0].times.reverse()),
        ("key id", |b| b.sightings[0].facts.id = "../../etc".into()),
        ("a loss that ends before it begins", |b| b.gaps[0].range = Range { first: 9, last: 3 }),
        ("a loss beyond all numbers", |b| b.gaps[0].range.last = u64::MAX),
        ("a loss with a book as its cause", |b| b.gaps[0].cause = "x".repeat(TEXT_BYTES_MAX + 1)),
        ("an actor's text", |b| b.events[0].actor = Some(Actor { unit: Some("x".repeat(TEXT_BYTES_MAX + 1)), ..Actor::default() })),
        ("a key's text", |b| b.sightings[0].facts.subject = Some("x".repeat(TEXT_BYTES_MAX + 1))),
        ("too many names", |b| b.sightings[0].facts.sans = vec!["x".into(); SANS_MAX + 2]),
        ("an owner's text", |b| b.sightings[0].place.owner = Some("x".repeat(TEXT_BYTES_MAX + 1))),
        ("an end that no calendar has", |b| b.sightings[0].facts.not_after_ms = Some(i64::MAX)),
        ("a place's end that none has", |b| b.sightings[0].place.not_after_ms = Some(i64::MIN)),
        ("a host's text", |b| b.host = Some(HostFacts { os: "x".repeat(TEXT_BYTES_MAX + 1), ..HostFacts::default() })),
        ("event text", |b| b.events[0].message = "x".repeat(TEXT_BYTES_MAX + 1)),
    ];
    for (name, break_it) in broken {
        let mut batch = full_batch();
        break_it(&mut batch);
        let raw = raw_of(&batch).unwrap();
        let frame = [b"KVB\x02\x01\0\0\0".as_slice(), &u32::try_from(raw.len()).unwrap().to_le_bytes(), &zstd::bulk::compress(&raw, 1).unwrap()];
        assert!(decode_batch(&frame.concat()).is_err(), "{name}");
        batch.clamp();
    }
}

#[test]
fn the_fuzz_corpus_never_panics() {
    let (mut seen, mut opened) = (0, 0);
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/wire")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let _ = (decode_batch(&bytes), knowing(&bytes), decode_push(&bytes), decode_ack(&bytes));
        opened += u32::from(unbased(&bytes).is_ok());
        seen += 1;
    }
    assert!(seen >= 5 && opened >= 1, "the corpus is missing");
}

/// Opens a difference to nothing.
fn unbased(bytes: &[u8]) -> Result<Opened, WireError> {
    let difference = Difference::read(bytes)?.ok_or(WireError::Magic)?;
    difference.open(&Base { name: difference.base, bytes: Vec::new() })
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(at in 0usize..2_000, bit in 0u8..8, cut in 0usize..2_000) {
        let mut frame = encode_batch(&full_batch()).unwrap();
        let length = frame.len();
        frame[at % length] ^= 1 << bit;
        frame.truncate(length - cut % 8);
        let _ = (decode_batch(&frame), knowing(&frame));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (decode_batch(&bytes), knowing(&bytes), decode_push(&bytes), decode_ack(&bytes));
        let _ = unbased(&[b"KVD\x02".as_slice(), &[0; 8], &bytes].concat());
        let _ = Raw { version: VERSION, bytes }.decode();
    }
}
