//! Both decoders, fed with bodies that a few lines write, whole and broken.

use std::collections::BTreeMap;

use keyvigil_common::limits::HISTOGRAM_BUCKETS_MAX;

use super::*;
use crate::ingest::fixture::{Fixture, NOW, Outcome, mutate};
use crate::ingest::protobuf::write::{bytes, double, number, packed, zigzag};
use crate::ingest::sink::STALE;

impl Fixture {
    fn decode(&self, version: Version, raw: &[u8]) -> Result<Outcome, Refusal> {
        let body = snap::raw::Encoder::new().compress_vec(raw).unwrap();
        let (taken, written) = self.ingest.decode(1, version, &body)?;
        Ok(Outcome::of(taken, written))
    }
}

fn label(name: &str, value: &str) -> Vec<u8> {
    bytes(1, [bytes(1, name), bytes(2, value)].concat())
}

fn sample(at_ms: i64, value: f64) -> Vec<u8> {
    bytes(2, [double(1, value), number(2, at_ms.cast_unsigned())].concat())
}

fn series(fields: &[Vec<u8>]) -> Vec<u8> {
    bytes(1, fields.concat())
}

fn values(samples: &[(i64, f64)]) -> Vec<(i64, u64)> {
    samples.iter().map(|(at, value)| (*at, value.to_bits())).collect()
}

/// One of everything that 1.0 has.
fn body() -> Vec<u8> {
    let requests = series(&[label("__name__", "requests_total"), label("code", "200"), sample(NOW, 1.0), sample(NOW + 1, 0.0)]);
    let up = series(&[label("__name__", "up"), sample(NOW, STALE), bytes(3, double(2, 1.0))]);
    let metadata = bytes(3, [number(1, 1), bytes(2, "requests_total")].concat());
    [requests, metadata, up, native(&[])].concat()
}

/// A native histogram with a zero bucket, two negative and three positive buckets; `more` fields follow.
fn native(more: &[Vec<u8>]) -> Vec<u8> {
    let span = |field, offset, length| bytes(field, [number(1, zigzag(offset)), number(2, length)].concat());
    let deltas = |field, all: &[i64]| packed(field, &all.iter().map(|n| zigzag(*n)).collect::<Vec<_>>());
    let fields = [
        number(1, 21),
        double(3, 12.5),
        number(4, zigzag(0)),
        double(5, 0.001),
        number(6, 1),
        span(8, 0, 2),
        deltas(9, &[2, 1]),
        span(11, 1, 2),
        span(11, 1, 1),
        deltas(12, &[4, 1, 1]),
        number(15, NOW.cast_unsigned()),
    ];
    series(&[label("__name__", "delay"), bytes(4, [&fields[..], more].concat().concat())])
}

#[test]
fn a_request_becomes_series_and_samples() {
    let found = Fixture::new().decode(Version::V1, &body()).unwrap();
    assert_eq!(found.rejected, Rejections::default());
    assert_eq!(found.written, Written { samples: 3, histograms: 1 });
    assert_eq!(found.series[r#"Counter requests_total{code="200"}"#], (0, values(&[(NOW, 1.0), (NOW + 1, 0.0)])));
    assert_eq!(found.series["Gauge up{}"], (0, vec![(NOW, 0x7ff0_0000_0000_0002)]), "a staleness mark keeps its bits");
}

#[test]
fn a_native_histogram_becomes_cumulative_buckets() {
    let found = Fixture::new().decode(Version::V1, &native(&[])).unwrap();
    let all: BTreeMap<&str, f64> = found.series.iter().map(|(name, (_, samples))| (name.as_str(), f64::from_bits(samples[0].1))).collect();
    let bucket = |le: &str| all[format!("Histogram delay_bucket{{le=\"{le}\"}}").as_str()];
    // Negative: 2 in [-1, -0.5), 3 in [-2, -1). Zero: 1. Positive: 4 in (1, 2], 5 in (2, 4], 6 in (8, 16].
    let bounds = ["-2", "-1", "-0.5", "0.001", "1", "2", "4", "8", "16", "+Inf"];
    assert_eq!(bounds.map(bucket), [0.0, 3.0, 5.0, 6.0, 6.0, 10.0, 15.0, 15.0, 21.0, 21.0]);
    assert_eq!((all["Counter delay_count{}"], all["Counter delay_sum{}"], all.len()), (21.0, 12.5, 12));

    let stale =
        Fixture::new().decode(Version::V1, &series(&[label("__name__", "delay"), bytes(4, [double(3, STALE), number(15, NOW.cast_unsigned())].concat())]));
    let stale = stale.unwrap();
    assert_eq!(stale.series["Histogram delay_bucket{le=\"+Inf\"}"].1[0].1, STALE.to_bits());
    assert_eq!(stale.series["Counter delay_count{}"].1[0].1, STALE.to_bits());

    let gauge = Fixture::new().decode(Version::V1, &native(&[number(14, 3)])).unwrap();
    assert!(gauge.series.contains_key("Gauge delay_count{}") && gauge.series.contains_key("Gauge delay_bucket{le=\"+Inf\"}"));
}

#[test]
fn custom_buckets_keep_their_bounds() {
    let custom = [number(1, 6), number(4, zigzag(-53)), bytes(11, [number(1, zigzag(1)), number(2, 2)].concat())].concat();
    let counts = bytes(13, [2.0f64, 4.0].map(f64::to_le_bytes).concat());
    let bounds = bytes(16, [0.1f64, 0.5].map(f64::to_le_bytes).concat());
    let histogram = bytes(4, [custom, counts, bounds, number(15, NOW.cast_unsigned())].concat());
    let found = Fixture::new().decode(Version::V1, &series(&[label("__name__", "size"), histogram])).unwrap();
    let bucket = |le: &str| f64::from_bits(found.series[&format!("Histogram size_bucket{{le=\"{le}\"}}")].1[0].1);
    assert_eq!(["0.1", "0.5", "+Inf"].map(bucket), [0.0, 2.0, 6.0]);
}

#[test]
fn strange_histograms_are_named_and_the_rest_is_taken() {
    let span = |offset: i64, length: u64| bytes(11, [number(1, zigzag(offset)), number(2, length)].concat());
    let many = packed(12, &vec![0; HISTOGRAM_BUCKETS_MAX + 1]);
    for (more, why) in [
        (vec![number(4, zigzag(9))], "schema 9 is not known"),
        (vec![span(0, u64::MAX)], "spans that do not match the buckets"),
        (vec![packed(12, &[zigzag(1)])], "spans that do not match the buckets"),
        (vec![span(i64::MAX, 1), packed(12, &[zigzag(1)])], "spans that do not ascend"),
        (vec![span(-2, 1), packed(12, &[zigzag(1)])], "spans that do not ascend"),
        (vec![span(0, 1), packed(12, &[zigzag(-100)])], "a bucket with less than nothing in it"),
        (vec![many], "more than 1024 buckets"),
        (vec![number(15, 5)], "timestamp 5 ms lies before"),
    ] {
        let body = [native(&more), series(&[label("__name__", "up"), sample(NOW, 1.0)])].concat();
        let found = Fixture::new().decode(Version::V1, &body).unwrap();
        assert_eq!((found.series.len(), found.written.histograms, found.rejected.samples), (1, 0, 1), "{why}");
        assert!(found.rejected.named[0].starts_with("delay{}: ") && found.rejected.named[0].contains(why), "{why}: {:?}", found.rejected);
    }
}

#[test]
fn the_order_of_fields_and_unknown_ones_change_nothing() {
    let fixture = Fixture::new();
    let fields = [label("__name__", "a_total"), label("x", "1"), sample(NOW, 1.0), sample(NOW + 1, 2.0)];
    let strange = [number(9, 300), double(10, 1.0), bytes(11, "unknown"), vec![0x65, 1, 2, 3, 4], vec![0x6b, 0x08, 0x01, 0x6c]];
    let expected = fixture.decode(Version::V1, &series(&fields)).unwrap();
    assert_eq!(expected.series.len(), 1);
    for order in [[0, 1, 2, 3], [2, 0, 1, 3], [0, 2, 1, 3], [2, 3, 0, 1], [0, 2, 3, 1]] {
        let plain: Vec<_> = order.iter().map(|at| fields[*at].clone()).collect();
        assert_eq!(fixture.decode(Version::V1, &series(&plain)).unwrap(), expected, "{order:?}");
        let mixed: Vec<_> = order.iter().enumerate().flat_map(|(n, at)| [strange[n].clone(), fields[*at].clone()]).chain([strange[4].clone()]).collect();
        assert_eq!(fixture.decode(Version::V1, &[strange.concat(), series(&mixed)].concat()).unwrap(), expected, "{order:?} with unknown fields");
    }
    let turned = bytes(2, [number(2, NOW.cast_unsigned()), number(7, 1), double(1, 1.0)].concat());
    let turned = series(&[fields[0].clone(), fields[1].clone(), turned, fields[3].clone()]);
    assert_eq!(fixture.decode(Version::V1, &turned).unwrap(), expected, "a sample's fields the other way round");
}

#[test]
fn series_that_are_not_valid_are_named_and_the_others_taken() {
    let good = series(&[label("__name__", "up"), sample(NOW, 1.0)]);
    let unsorted = series(&[label("__name__", "bad"), label("b", "1"), label("a", "1"), sample(NOW, 1.0), sample(NOW + 1, 1.0)]);
    let late = series(&[label("__name__", "late"), sample(5, 1.0)]);
    let not_text = series(&[label("__name__", "x"), bytes(1, [bytes(1, "a"), bytes(2, [0xff])].concat()), sample(NOW, 1.0)]);
    let found = Fixture::new().decode(Version::V1, &[unsorted, good, late, series(&[sample(NOW, 1.0)]), not_text].concat()).unwrap();
    assert_eq!((found.series.len(), found.written.samples, found.rejected.samples), (1, 1, 5));
    let named = &found.rejected.named;
    assert!(named[0].contains("labels must be sorted: \"a\"") && named[1].starts_with("late{}: timestamp 5"), "{named:?}");
    assert!(named[2].contains("no label __name__") && named[3].contains("labels: byte ") && named[3].ends_with("not UTF-8"), "{named:?}");
}

#[test]
fn a_body_cut_at_any_byte_is_whole_series_or_an_error_with_its_byte() {
    let (fixture, whole) = (Fixture::new(), body());
    let mut between = 0;
    for end in 0..whole.len() {
        match fixture.decode(Version::V1, &whole[..end]) {
            Ok(_) => between += 1,
            Err(refusal) => assert!(refusal.to_string().starts_with("the body is not a prometheus.WriteRequest: byte "), "{end}: {refusal}"),
        }
    }
    assert_eq!(between, 4, "between the fields of the request");
}

#[test]
fn no_mutation_makes_the_decoder_panic() {
    let fixture = Fixture::new();
    mutate(&body(), |raw| drop(fixture.decode(Version::V1, raw)));
}

/// The symbols of [`body_v2`], and one more.
const SYMBOLS: [&str; 9] = ["", "__name__", "requests_total", "code", "200", "up", "delay", "delay_sum", "unused"];

fn symbols() -> Vec<u8> {
    SYMBOLS.iter().flat_map(|symbol| bytes(4, symbol)).collect()
}

fn series_v2(fields: &[Vec<u8>]) -> Vec<u8> {
    bytes(5, fields.concat())
}

fn started(at_ms: i64, value: f64, start_ms: i64) -> Vec<u8> {
    bytes(2, [double(1, value), number(2, at_ms.cast_unsigned()), number(3, start_ms.cast_unsigned())].concat())
}

fn metadata(kind: u64) -> Vec<u8> {
    bytes(5, [number(1, kind), number(3, 8), number(4, 0)].concat())
}

/// One of everything that 2.0 has.
fn body_v2() -> Vec<u8> {
    let created = number(6, (NOW - 9).cast_unsigned());
    let requests = [packed(1, &[1, 2, 3, 4]), sample(NOW, 1.0), sample(NOW + 1, 2.0), metadata(1), created.clone()];
    let exemplar = bytes(4, [packed(1, &[3, 4]), double(2, 1.0)].concat());
    let up = [number(1, 1), number(1, 5), sample(NOW, STALE), exemplar, metadata(2), created.clone()];
    let histogram = bytes(3, [number(1, 2), double(3, 0.5), number(6, 2), number(15, NOW.cast_unsigned())].concat());
    let delay = [packed(1, &[1, 6]), histogram, metadata(3), created];
    [symbols(), series_v2(&requests), series_v2(&up), series_v2(&delay)].concat()
}

#[test]
fn a_request_of_symbols_becomes_series_with_type_and_start() {
    let found = Fixture::new().decode(Version::V2, &body_v2()).unwrap();
    assert_eq!((&found.rejected, found.written), (&Rejections::default(), Written { samples: 3, histograms: 1 }));
    assert_eq!(found.series[r#"Counter requests_total{code="200"}"#], (NOW - 9, values(&[(NOW, 1.0), (NOW + 1, 2.0)])));
    assert_eq!(found.series["Gauge up{}"], (0, vec![(NOW, STALE.to_bits())]), "a gauge has no beginning");
    assert_eq!(found.series["Counter delay_count{}"], (NOW - 9, values(&[(NOW, 2.0)])));
    assert_eq!(found.series["Histogram delay_bucket{le=\"0\"}"].1, values(&[(NOW, 2.0)]));
    for (kind, name, expected) in
        [(1, 5, "Counter up"), (3, 7, "Counter delay_sum"), (5, 7, "Counter delay_sum"), (4, 7, "Gauge delay_sum"), (0, 2, "Counter req"), (99, 5, "Gauge up")]
    {
        let body = [symbols(), series_v2(&[packed(1, &[1, name]), sample(NOW, 1.0), metadata(kind)])].concat();
        let found = Fixture::new().decode(Version::V2, &body).unwrap();
        assert!(found.series.keys().all(|series| series.starts_with(expected)), "{kind}: {found:?}");
    }
}

#[test]
fn symbols_may_stand_anywhere_and_fields_in_any_order() {
    let fixture = Fixture::new();
    let fields = [packed(1, &[1, 2]), packed(1, &[3, 4]), sample(NOW, 1.0), metadata(1), number(6, (NOW - 9).cast_unsigned()), number(77, 1)];
    let expected = fixture.decode(Version::V2, &[symbols(), series_v2(&fields)].concat()).unwrap();
    assert_eq!(expected.series[r#"Counter requests_total{code="200"}"#].0, NOW - 9);
    for order in [[5, 4, 3, 2, 0, 1], [2, 0, 5, 1, 4, 3], [3, 0, 1, 2, 5, 4]] {
        let turned: Vec<_> = order.iter().map(|at| fields[*at].clone()).collect();
        assert_eq!(fixture.decode(Version::V2, &[series_v2(&turned), number(9, 1), symbols()].concat()).unwrap(), expected, "{order:?}");
    }
}

#[test]
fn each_start_of_a_sample_begins_a_run() {
    let fixture = Fixture::new();
    let all = [packed(1, &[1, 2]), started(NOW, 1.0, NOW - 5), started(NOW + 1, 2.0, NOW - 5), started(NOW + 2, 1.0, NOW + 1), sample(NOW + 3, 2.0)];
    let raw = [symbols(), series_v2(&[&all[..], &[metadata(1), number(6, 7)]].concat())].concat();
    let body = snap::raw::Encoder::new().compress_vec(&raw).unwrap();
    let (taken, ..) = fixture.ingest.decode(1, Version::V2, &body).unwrap();
    assert_eq!(taken.rows.runs().map(|(run, times, _)| (run.start_ms, times.len())).collect::<Vec<_>>(), [(NOW - 5, 2), (NOW + 1, 1), (7, 1)]);
    assert_eq!(taken.fresh.len(), 1);
}

#[test]
fn references_that_lead_nowhere_reject_their_series_alone() {
    let good = series_v2(&[packed(1, &[1, 5]), sample(NOW, 1.0)]);
    let odd = series_v2(&[packed(1, &[1, 5, 3]), sample(NOW, 1.0)]);
    let beyond = series_v2(&[packed(1, &[1, 9]), sample(NOW, 1.0), sample(NOW, 1.0)]);
    let far = series_v2(&[packed(1, &[u64::MAX, 1]), sample(NOW, 1.0)]);
    let many = series_v2(&[packed(1, &[3; 200]), sample(NOW, 1.0)]);
    let unnamed = series_v2(&[packed(1, &[0, 5, 1, 5]), sample(NOW, 1.0)]);
    let found = Fixture::new().decode(Version::V2, &[symbols(), odd, beyond, far, good, many, unnamed].concat()).unwrap();
    assert_eq!((found.series.len(), found.written.samples, found.rejected.samples), (1, 1, 6));
    let expected = [
        "series 0 of the request: 3 label references, an odd number",
        "series 1 of the request: label reference 9, but there are 9 symbols",
        "series 2 of the request: label reference 18446744073709551615, but there are 9 symbols",
        "series 4 of the request: more than 65 labels",
        "up{=\"up\"}: a label without a name",
    ];
    assert_eq!(found.rejected.named, expected);
}

#[test]
fn a_request_of_symbols_cut_or_changed_anywhere_never_panics() {
    let (fixture, whole) = (Fixture::new(), body_v2());
    for end in 0..whole.len() {
        if let Err(refusal) = fixture.decode(Version::V2, &whole[..end]) {
            assert!(refusal.to_string().starts_with("the body is not a io.prometheus.write.v2.Request: byte "), "{end}: {refusal}");
        }
    }
    mutate(&whole, |raw| drop(fixture.decode(Version::V2, raw)));
}

#[test]
fn what_is_not_snappy_or_claims_too_much_is_refused_before_it_is_allocated() {
    let fixture = Fixture::new();
    let refused = |body: &[u8]| fixture.ingest.decode(1, Version::V1, body).map(drop).unwrap_err();
    assert!(matches!(refused(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]), Refusal::TooLarge(_)), "4 GiB");
    assert!(matches!(refused(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]), Refusal::Body(_)), "no 32-bit length");
    let claim = refused(&[0x80, 0x80, 0x80, 0x10, 0x00]).to_string();
    assert!(claim.contains("5 bytes claim to become 33554432"), "{claim}");
    assert!(refused(b"").to_string().contains("snappy") && refused(&[0x05, 0x00, 0x61]).to_string().contains("snappy"));
    let busy = fixture.ingest.room(keyvigil_common::limits::INGEST_INFLIGHT_BYTES_MAX).unwrap();
    assert!(matches!(fixture.decode(Version::V1, &body()), Err(Refusal::Busy(_))), "no room");
    drop(busy);
    fixture.decode(Version::V1, &body()).unwrap();
    assert!(RAW.with_borrow(|raw| raw.capacity() <= KEPT_BYTES_MAX));
}
