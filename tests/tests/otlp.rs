//! Promise: metrics of OpenTelemetry come in by protobuf and by JSON alike, what cannot be stored is counted and named, and
//! errors are in the form of the request.

use std::io::Read;

use keyvigil_tests::harness::{Harness, manual_clock};
use keyvigil_tests::protobuf::{bytes, double, number, word};
use serde_json::{Value, json};

const NOW: i64 = 1_763_836_800_000;
const PATH: &str = "/otlp/v1/metrics";
const PROTOBUF: [(&str, &str); 1] = [("content-type", "application/x-protobuf")];
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn request(scope_metrics: Value) -> String {
    let resource = json!({"attributes": [{"key": "host.name", "value": {"stringValue": "web-1"}}]});
    json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": scope_metrics}]}]}).to_string()
}

fn point(more: Value) -> Value {
    let mut point = json!({"startTimeUnixNano": ((NOW - 60_000) * 1_000_000).to_string(), "timeUnixNano": (NOW * 1_000_000).to_string()});
    point.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!([point])
}

async fn answered(response: reqwest::Response) -> (u16, String, Vec<u8>) {
    let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
    (response.status().as_u16(), kind, response.bytes().await.expect("a body").to_vec())
}

fn last(samples: &[(String, Vec<(i64, Value)>)]) -> Vec<(&str, f64)> {
    samples.iter().map(|(name, points)| (name.as_str(), points.last().and_then(|point| point.1.as_f64()).unwrap_or(f64::NAN))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_metric_is_stored_and_found_by_its_dotted_name() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let metrics = json!([
        {"name": "app.temperature", "gauge": {"dataPoints": point(json!({"asDouble": 21.5, "attributes": [{"key": "room", "value": {"intValue": 7}}]}))}},
        {"name": "app.requests", "sum": {"isMonotonic": true, "aggregationTemporality": 2, "dataPoints": point(json!({"asInt": "7"}))}},
        {"name": "app.open", "sum": {"aggregationTemporality": 2, "dataPoints": point(json!({"asInt": 3}))}},
        {"name": "app.latency", "histogram": {"aggregationTemporality": 2,
            "dataPoints": point(json!({"count": 3, "sum": 4.5, "bucketCounts": [1, 2], "explicitBounds": [0.5]}))}},
        {"name": "app.size", "exponentialHistogram": {"aggregationTemporality": 2,
            "dataPoints": point(json!({"count": 4, "scale": -1, "positive": {"offset": 1, "bucketCounts": [4]}}))}},
        {"name": "app.pause", "summary": {"dataPoints": point(json!({"count": 2, "sum": 1.0, "quantileValues": [{"quantile": 0.5, "value": 0.25}]}))}},
    ]);
    let (status, kind, body) = answered(harness.post(PATH, &JSON, request(metrics)).await).await;
    assert_eq!((status, kind.as_str(), body.as_slice()), (200, "application/json", &b"{}"[..]));
    let found = harness.samples("app.*").await;
    let expected = [
        ("histogram app.latency_bucket{host=\"web-1\",le=\"+Inf\"}", 3.0),
        ("histogram app.latency_bucket{host=\"web-1\",le=\"0.5\"}", 1.0),
        ("counter app.latency_count{host=\"web-1\"}", 3.0),
        ("counter app.latency_sum{host=\"web-1\"}", 4.5),
        ("gauge app.open{host=\"web-1\"}", 3.0),
        ("gauge app.pause{host=\"web-1\",quantile=\"0.5\"}", 0.25),
        ("counter app.pause_count{host=\"web-1\"}", 2.0),
        ("counter app.pause_sum{host=\"web-1\"}", 1.0),
        ("counter app.requests{host=\"web-1\"}", 7.0),
        ("histogram app.size_bucket{host=\"web-1\",le=\"+Inf\"}", 4.0),
        ("histogram app.size_bucket{host=\"web-1\",le=\"0\"}", 0.0),
        ("histogram app.size_bucket{host=\"web-1\",le=\"16\"}", 4.0),
        ("histogram app.size_bucket{host=\"web-1\",le=\"4\"}", 0.0),
        ("counter app.size_count{host=\"web-1\"}", 4.0),
        ("gauge app.temperature{host=\"web-1\",room=\"7\"}", 21.5),
    ];
    assert_eq!(last(&found), expected);
    let requests = &found.iter().find(|(name, _)| name.contains("requests")).expect("found above").1;
    assert_eq!(requests, &[(NOW - 60_000, json!(0.0)), (NOW, json!(7.0))], "a counter's start is known");
}

/// A gauge of one data point in protobuf.
fn protobuf(name: &str, value: f64) -> Vec<u8> {
    let point = [word(3, NOW.cast_unsigned() * 1_000_000), double(4, value)].concat();
    let metric = [bytes(1, name), bytes(5, bytes(1, point))].concat();
    bytes(1, bytes(2, bytes(2, metric)))
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_is_taken_plain_and_compressed_and_partial_success_is_told() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let (status, kind, body) = answered(harness.post(PATH, &PROTOBUF, protobuf("plain", 1.0)).await).await;
    assert_eq!((status, kind.as_str(), body.as_slice()), (200, "application/x-protobuf", &b""[..]));
    let mut gzip = Vec::new();
    let raw = protobuf("packed", 2.0);
    flate2::read::GzEncoder::new(raw.as_slice(), flate2::Compression::fast()).read_to_end(&mut gzip).expect("compressed");
    let response = harness.post(PATH, &[PROTOBUF[0], ("content-encoding", "gzip")], gzip).await;
    assert_eq!(response.status(), 200);
    assert_eq!(last(&harness.samples("{plain,packed}").await), [("gauge packed{}", 2.0), ("gauge plain{}", 1.0)]);

    let both = [protobuf("good", 3.0), protobuf("", 1.0)].concat();
    let (status, _, body) = answered(harness.post(PATH, &PROTOBUF, both).await).await;
    let why = String::from_utf8_lossy(&body).into_owned();
    assert_eq!((status, &body[..1], &body[2..4]), (200, &[0x0a][..], &number(1, 1)[..]), "{why}");
    assert!(why.contains("metric_id"), "{why}");
    assert_eq!(harness.samples("good").await.len(), 1);

    let delta = json!([{"name": "delta", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": point(json!({"asInt": 1}))}}]);
    let (status, _, body) = answered(harness.post(PATH, &JSON, request(delta)).await).await;
    let said: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, said["partialSuccess"]["rejectedDataPoints"].as_str()), (200, Some("1")), "{said}");
    assert!(said["partialSuccess"]["errorMessage"].as_str().unwrap_or_default().contains("sent as cumulative"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_in_the_form_of_the_request() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let (status, kind, body) = answered(harness.post(PATH, &JSON, "{\"resourceMetrics\":7}").await).await;
    let said: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, kind.as_str(), said["code"].as_u64()), (400, "application/json", Some(3)));
    assert!(said["message"].as_str().unwrap_or_default().contains(".resourceMetrics: not a list"), "{said}");
    let (status, kind, body) = answered(harness.post(PATH, &PROTOBUF, vec![0x0a, 0x7f]).await).await;
    assert_eq!((status, kind.as_str(), &body[..3]), (400, "application/x-protobuf", &[0x08, 0x03, 0x12][..]));
    assert!(String::from_utf8_lossy(&body).contains("byte 1: a field is longer than what holds it"));
    let (status, _, body) = answered(harness.post(PATH, &JSON, vec![b' '; keyvigil_common::limits::OTLP_BYTES_MAX + 1]).await).await;
    assert_eq!((status, serde_json::from_slice::<Value>(&body).expect("JSON")["code"].as_u64()), (413, Some(8)));
    for headers in [[("content-type", "text/plain"), ("content-encoding", "gzip")], [("content-type", "application/json"), ("content-encoding", "br")]] {
        assert_eq!(harness.post(PATH, &headers, "{}").await.status(), 415);
    }
    let all = harness.running().app.ingest.room(keyvigil_common::limits::INGEST_INFLIGHT_BYTES_MAX).expect("all room");
    let busy = harness.post(PATH, &JSON, "{}").await;
    assert!(busy.headers().contains_key("retry-after"));
    let (status, _, body) = answered(busy).await;
    assert_eq!((status, serde_json::from_slice::<Value>(&body).expect("JSON")["code"].as_u64()), (503, Some(14)));
    drop(all);
    let nobody = reqwest::Client::new().post(format!("{}{PATH}", harness.running().endpoints.url)).body("{}").send().await.expect("an answer");
    assert_eq!(nobody.status(), 401);
}
