//! Each kind of data point in both forms, and bodies that are broken.

use serde_json::{Value, json};

use super::*;
use crate::ingest::fixture::{Fixture, NOW, Outcome, mutate};
use crate::ingest::protobuf::write::{bytes, double, number, packed, word, zigzag};
use crate::ingest::sink::{STALE, Written};

const START: i64 = NOW - 60_000;

fn nanos(at_ms: i64) -> u64 {
    at_ms.cast_unsigned() * 1_000_000
}

fn text(key: &str, value: &str) -> Vec<u8> {
    [bytes(1, key), bytes(2, bytes(1, value))].concat()
}

fn times() -> Vec<u8> {
    [word(2, nanos(START)), word(3, nanos(NOW))].concat()
}

/// A request with these metrics, of a host's service.
fn request(metrics: &[Vec<u8>]) -> Vec<u8> {
    let resource = [text("host.name", "web-1"), text("service.name", "shop"), text("process.pid", "77")].map(|pair| bytes(1, pair)).concat();
    let scope = [bytes(1, bytes(1, "lib")), metrics.iter().map(|metric| bytes(2, metric)).collect::<Vec<_>>().concat()].concat();
    bytes(1, [bytes(1, resource), bytes(2, scope)].concat())
}

fn cumulative(field: u64, name: &str, points: &[Vec<u8>]) -> Vec<u8> {
    let points: Vec<u8> = points.iter().flat_map(|point| bytes(1, point)).collect();
    [bytes(1, name), bytes(field, [points, number(2, 2), number(3, 1)].concat())].concat()
}

fn words<const N: usize>(field: u64, all: [u64; N]) -> Vec<u8> {
    bytes(field, all.map(u64::to_le_bytes).concat())
}

fn doubles<const N: usize>(field: u64, all: [f64; N]) -> Vec<u8> {
    words(field, all.map(f64::to_bits))
}

/// One data point of each kind.
fn body() -> Vec<u8> {
    let gauge = [word(3, nanos(NOW)), double(4, 21.5), bytes(7, text("room", "hall")), bytes(7, [bytes(1, "floor"), bytes(2, number(3, 2))].concat())].concat();
    let sum = [times(), word(6, 7), bytes(7, text("host", "own"))].concat();
    let histogram = [times(), word(4, 6), double(5, 9.5), words(6, [1, 2, 3]), doubles(7, [0.5, 2.5])].concat();
    let side = |offset, counts: &[u64]| [number(1, zigzag(offset)), packed(2, counts)].concat();
    let exponential = [times(), word(4, 10), number(6, zigzag(0)), word(7, 1), bytes(8, side(0, &[2, 0, 4])), bytes(9, side(1, &[3]))].concat();
    let summary = [times(), word(4, 5), double(5, 2.5), bytes(6, [double(1, 0.99), double(2, 0.75)].concat())].concat();
    request(&[
        [bytes(1, "room.temperature"), bytes(5, bytes(1, gauge))].concat(),
        cumulative(7, "http.requests", &[sum]),
        cumulative(9, "http.duration", &[histogram]),
        cumulative(10, "rpc.duration", &[exponential]),
        [bytes(1, "gc.pause"), bytes(11, bytes(1, summary))].concat(),
    ])
}

fn json() -> Value {
    let (start, now) = (nanos(START).to_string(), nanos(NOW).to_string());
    let times = |more: Value| {
        let mut point = json!({"startTimeUnixNano": start, "timeUnixNano": now});
        point.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!([point])
    };
    let attribute = |key: &str, value: Value| json!({"key": key, "value": value});
    let metrics = json!([
        {"name": "room.temperature", "description": "ignored", "gauge": {"dataPoints": [{"timeUnixNano": nanos(NOW), "asDouble": 21.5, "attributes": [
            attribute("room", json!({"stringValue": "hall"})), attribute("floor", json!({"intValue": "2"}))]}]}},
        {"name": "http.requests", "sum": {"isMonotonic": true, "aggregationTemporality": 2,
            "dataPoints": times(json!({"asInt": "7", "attributes": [attribute("host", json!({"stringValue": "own"}))], "exemplars": [{"traceId": "00"}]}))}},
        {"name": "http.duration", "histogram": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
            "dataPoints": times(json!({"count": "6", "sum": 9.5, "bucketCounts": ["1", 2, "3"], "explicitBounds": [0.5, 2.5]}))}},
        {"name": "rpc.duration", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": times(json!({"count": 10, "scale": 0, "zeroCount": "1",
            "positive": {"offset": 0, "bucketCounts": ["2", "0", "4"]}, "negative": {"offset": 1, "bucketCounts": [3]}, "sum": null}))}},
        {"name": "gc.pause", "summary": {"dataPoints": times(json!({"count": "5", "sum": 2.5, "quantileValues": [{"quantile": 0.99, "value": 0.75}]}))}},
    ]);
    json!({"resourceMetrics": [{
        "resource": {"attributes": [attribute("host.name", json!({"stringValue": "web-1"})), attribute("service.name", json!({"stringValue": "shop"}))]},
        "scopeMetrics": [{"scope": {"name": "lib", "version": "1"}, "metrics": metrics}],
    }]})
}

impl Fixture {
    fn otlp(&self, form: Form, raw: &[u8]) -> Result<Outcome, Refusal> {
        self.ingest.read_otlp(1, form, raw).map(|taken| Outcome::of(taken, Written::default()))
    }
}

#[test]
fn each_kind_of_data_point_becomes_series() {
    let found = Fixture::new().otlp(Form::Protobuf, &body()).unwrap();
    assert_eq!(found.rejected, Rejections::default());
    let origin = r#"host="web-1",otel_scope_name="lib""#;
    let value = |name: &str| {
        let (start_ms, samples) = found.series.get(name).unwrap_or_else(|| panic!("{name} is none of {:?}", found.series.keys()));
        assert_eq!((samples.len(), samples[0].0), (1, NOW));
        (*start_ms, f64::from_bits(samples[0].1))
    };
    assert_eq!(value(r#"Gauge room.temperature{floor="2",host="web-1",otel_scope_name="lib",room="hall",service.name="shop"}"#), (0, 21.5));
    assert_eq!(value(r#"Counter http.requests{host="own",otel_scope_name="lib",service.name="shop"}"#), (START, 7.0), "its own attribute goes first");
    let bucket = |name: &str, le: &str| value(&format!("Histogram {name}_bucket{{host=\"web-1\",le={le:?},otel_scope_name=\"lib\",service.name=\"shop\"}}"));
    assert_eq!(["0.5", "2.5", "+Inf"].map(|le| bucket("http.duration", le)), [(START, 1.0), (START, 3.0), (START, 6.0)]);
    // Negative 3 in [-4, -2), zero 1, positive 2 in (1, 2] and 4 in (4, 8].
    let bounds = ["-4", "-2", "0", "1", "2", "4", "8", "+Inf"].map(|le| bucket("rpc.duration", le).1);
    assert_eq!(bounds, [0.0, 3.0, 4.0, 4.0, 6.0, 6.0, 10.0, 10.0]);
    let total = |name: &str| value(&format!("Counter {name}{{{origin},service.name=\"shop\"}}"));
    assert_eq!((total("http.duration_count"), total("http.duration_sum"), total("rpc.duration_count")), ((START, 6.0), (START, 9.5), (START, 10.0)));
    assert_eq!((total("gc.pause_count"), total("gc.pause_sum")), ((START, 5.0), (START, 2.5)));
    assert_eq!(value(&format!("Gauge gc.pause{{{origin},quantile=\"0.99\",service.name=\"shop\"}}")), (0, 0.75));
    assert_eq!(found.series.len(), 19);
}

#[test]
fn json_says_what_protobuf_says() {
    let fixture = Fixture::new();
    let expected = fixture.otlp(Form::Protobuf, &body()).unwrap();
    assert_eq!(fixture.otlp(Form::Json, json().to_string().as_bytes()).unwrap(), expected);
    for (wrong, why) in [
        (json!([]), "not an object"),
        (json!({"resourceMetrics": {}}), ".resourceMetrics: not a list"),
        (json!({"resourceMetrics": [{}, {"scopeMetrics": [{"metrics": [{"name": 7}]}]}]}), ".resourceMetrics[1].scopeMetrics[0].metrics[0].name: not a text"),
        (json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"isMonotonic": "yes"}}]}]}]}), "sum.isMonotonic: neither true nor false"),
        (json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"gauge": {"dataPoints": [{"asInt": 1.5}]}}]}]}]}), "asInt: not a whole number of 64 bits"),
    ] {
        let refused = fixture.otlp(Form::Json, wrong.to_string().as_bytes()).unwrap_err().to_string();
        assert!(refused.starts_with("the body is not an ExportMetricsServiceRequest: ") && refused.contains(why), "{refused}");
    }
    assert!(matches!(fixture.otlp(Form::Json, b"{\"resourceMetrics\":"), Err(Refusal::Body(_))));
}

#[test]
fn what_has_no_value_any_more_is_marked_so() {
    let gauge = [word(3, nanos(NOW)), number(8, 1)].concat();
    let histogram = [times(), word(4, 6), number(10, 1)].concat();
    let summary = [times(), bytes(6, double(1, 0.5)), number(8, 1)].concat();
    let metrics =
        [[bytes(1, "g"), bytes(5, bytes(1, gauge))].concat(), cumulative(9, "h", &[histogram]), [bytes(1, "s"), bytes(11, bytes(1, summary))].concat()];
    let found = Fixture::new().otlp(Form::Protobuf, &request(&metrics)).unwrap();
    assert_eq!((found.series.len(), found.rejected.samples), (7, 0));
    assert!(found.series.values().all(|(_, samples)| samples == &[(NOW, STALE.to_bits())]), "{:?}", found.series);
}

#[test]
fn data_points_that_cannot_be_stored_are_counted_and_named() {
    let point = [times(), word(6, 1)].concat();
    let sum = |temporality: u64| [bytes(1, "d"), bytes(7, [bytes(1, &point), bytes(1, &point), number(2, temporality)].concat())].concat();
    let bounds = [times(), words(6, [1, 2]), doubles(7, [1.0, 2.0])].concat();
    let metrics = [
        sum(1),
        sum(0),
        cumulative(7, "empty", &[times()]),
        cumulative(9, "bounds", &[bounds, [times(), words(6, [1, 2, 3]), doubles(7, [2.0, 1.0])].concat()]),
        cumulative(10, "scale", &[[times(), number(6, zigzag(21))].concat()]),
        cumulative(7, "twice", &[[point.clone(), bytes(7, text("a", "1")), bytes(7, text("a", "2"))].concat()]),
        cumulative(9, "le", &[[times(), bytes(9, text("le", "1"))].concat()]),
        cumulative(7, "early", &[[word(3, 5), word(6, 1)].concat()]),
        cumulative(7, "fine", &[point]),
    ];
    let found = Fixture::new().otlp(Form::Protobuf, &request(&metrics)).unwrap();
    assert_eq!((found.series.len(), found.rejected.samples), (1, 11));
    let words =
        ["delta", "unspecified", "without a value", "2 bucket counts for 2 bounds", "do not ascend", "scale 21", "comes twice", "label le", "timestamp 0 ms"];
    assert!(found.rejected.named.iter().zip(words).all(|(reason, word)| reason.contains(word)), "{:?}", found.rejected.named);
}

#[test]
fn attributes_that_are_no_texts_become_json() {
    let list = bytes(5, [bytes(1, bytes(1, "a\"b")), bytes(1, number(3, 1)), bytes(1, [])].concat());
    let map = bytes(6, bytes(1, [bytes(1, "k"), bytes(2, number(2, 1))].concat()));
    let values = [("list", list), ("map", map), ("real", double(4, 0.25)), ("no", number(2, 0)), ("raw", bytes(7, [1, 2])), ("minus", number(3, u64::MAX))];
    let attributes = values.iter().flat_map(|(key, value)| bytes(7, [bytes(1, key), bytes(2, value)].concat()));
    let point = [word(3, nanos(NOW)), double(4, 1.0), attributes.collect()].concat();
    let found = Fixture::new().otlp(Form::Protobuf, &request(&[[bytes(1, "m"), bytes(5, bytes(1, point))].concat()])).unwrap();
    let name = found.series.keys().next().unwrap();
    assert!(name.contains(r#"list="[\"a\\\"b\",1,null]",map="{\"k\":true}",minus="-1",no="false""#) && name.contains(r#"raw="AQI=",real="0.25""#), "{name}");
    let mut deep = bytes(1, "x");
    for _ in 0..1_000 {
        deep = bytes(5, bytes(1, deep));
    }
    let point = [word(3, nanos(NOW)), double(4, 1.0), bytes(7, [bytes(1, "deep"), bytes(2, deep)].concat())].concat();
    let found = Fixture::new().otlp(Form::Protobuf, &request(&[[bytes(1, "m"), bytes(5, bytes(1, point))].concat()])).unwrap();
    assert!(found.series.is_empty() && found.rejected.named[0].contains("too many lists"), "{:?}", found.rejected);
}

#[test]
fn a_body_cut_or_changed_anywhere_never_panics() {
    let (fixture, whole) = (Fixture::new(), body());
    for end in 1..whole.len() {
        let refused = fixture.otlp(Form::Protobuf, &whole[..end]).map(drop).unwrap_err().to_string();
        assert!(refused.contains("ExportMetricsServiceRequest: byte "), "{end}: {refused}");
    }
    mutate(&whole, |raw| drop(fixture.otlp(Form::Protobuf, raw)));
    mutate(json().to_string().as_bytes(), |raw| drop(fixture.otlp(Form::Json, raw)));
}

#[test]
fn gzip_is_read_as_far_as_there_is_room() {
    let fixture = Fixture::new();
    let gzip = |raw: &[u8]| {
        let mut encoder = flate2::read::GzEncoder::new(raw, flate2::Compression::fast());
        let mut out = Vec::new();
        encoder.read_to_end(&mut out).unwrap();
        out
    };
    let large = body().repeat(5_000);
    assert_eq!(fixture.ingest.inflate(&gzip(&large), OTLP_RAW_BYTES_MAX).unwrap().0, large);
    let refused = |body: &[u8], max| fixture.ingest.inflate(body, max).map(drop).unwrap_err();
    assert!(matches!(refused(&gzip(&large), 2 << 20), Refusal::TooLarge(_)));
    assert!(refused(b"no", 100).to_string().contains("gzip") && refused(&gzip(&large)[..1_000], 9 << 20).to_string().contains("gzip"));
    let _all = fixture.ingest.room(keyvigil_common::limits::INGEST_INFLIGHT_BYTES_MAX).unwrap();
    assert!(matches!(refused(&gzip(&large), OTLP_RAW_BYTES_MAX), Refusal::Busy(_)));
}
