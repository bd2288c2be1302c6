//! Promise: what Prometheus writes to us is stored to the bit before we say so, what is not valid is named, and the rest of
//! it is kept.

use keyvigil_aggregator::index::Selector;
use keyvigil_common::limits::REMOTE_WRITE_BYTES_MAX;
use keyvigil_tests::harness::{Harness, manual_clock};
use keyvigil_tests::protobuf::{bytes, double, number, packed, word};
use serde_json::{Value, json};

const NOW: i64 = 1_763_836_800_000;
const STALE: u64 = 0x7ff0_0000_0000_0002;
const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

fn series(labels: &[(&str, &str)], samples: &[(i64, u64)]) -> Vec<u8> {
    let labels = labels.iter().map(|(name, value)| bytes(1, [bytes(1, name), bytes(2, value)].concat()));
    let samples = samples.iter().map(|(at, bits)| bytes(2, [word(1, *bits), number(2, at.cast_unsigned())].concat()));
    bytes(1, labels.chain(samples).collect::<Vec<_>>().concat())
}

/// Times and bits of the one series of this name, wherever they lie now.
async fn bits(harness: &Harness, name: &str) -> Vec<(i64, u64)> {
    let app = &harness.running().app;
    let found = app.store.index().select(app.tenant, &Selector::parse(name, []).expect("a pattern"), 2);
    assert_eq!(found.len(), 1, "{name}");
    let points = app.store.select(&[found[0].0], 0, i64::MAX, 1_000_000).await.expect("points").remove(0);
    points.into_iter().map(|point| (point.0, point.1.to_bits())).collect()
}

async fn detail(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("text");
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, body["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_keep_their_bits_in_memory_in_blocks_and_after_restarts() {
    let mut harness = Harness::with(manual_clock(), |_| {}).await;
    let written = [(NOW - 2_000, 1.5f64.to_bits()), (NOW - 1_000, (-0.0f64).to_bits()), (NOW, STALE)];
    let body =
        [series(&[("__name__", "http_requests_total"), ("code", "200"), ("instance", "web-1:80")], &written), series(&[("__name__", "up")], &[(NOW, STALE)])];
    let answer = harness.remote_write(V1, &body.concat()).await;
    assert_eq!((answer.status().as_u16(), answer.text().await.expect("text").as_str()), (204, ""));
    for step in ["in memory", "after a restart", "in blocks", "in blocks after a restart"] {
        match step {
            "in blocks" => drop(harness.running().app.store.flush().await.expect("blocks")),
            "in memory" => {}
            _ => harness.restart().await,
        }
        assert_eq!(bits(&harness, "http_requests_total").await, written, "{step}");
        assert_eq!(bits(&harness, "up").await, [(NOW, STALE)], "{step}");
        let found = harness.samples("http_requests_total").await;
        let points = vec![(NOW - 2_000, json!(1.5)), (NOW - 1_000, json!(-0.0)), (NOW, Value::Null)];
        assert_eq!(found, [(r#"counter http_requests_total{code="200",instance="web-1:80"}"#.to_owned(), points)], "{step}");
    }
    // The series are known by their labels' bytes now, and known again after the restart.
    let more = series(&[("__name__", "up")], &[(NOW + 1_000, 1.0f64.to_bits())]);
    assert_eq!(harness.remote_write(V1, &more).await.status(), 204);
    assert_eq!(bits(&harness, "up").await, [(NOW, STALE), (NOW + 1_000, 1.0f64.to_bits())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_is_stored_whole() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let times: Vec<(i64, u64)> = (0..100).map(|n| (NOW - n * 1_000, (n as f64).to_bits())).collect();
    let body: Vec<u8> = (0..1_000).flat_map(|n| series(&[("__name__", "large"), ("n", &n.to_string())], &times)).collect();
    assert!(body.len() > 1 << 20);
    assert_eq!(harness.remote_write(V1, &body).await.status(), 204);
    let found = harness.samples("large").await;
    assert_eq!((found.len(), found.iter().map(|(_, points)| points.len()).sum::<usize>()), (1_000, 100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_write_names_the_series_and_stores_the_rest() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let one = 1.0f64.to_bits();
    let bad = series(&[("__name__", "bad"), ("z", "1"), ("a", "1")], &[(NOW, one), (NOW + 1, one)]);
    let body = [series(&[("__name__", "first")], &[(NOW, one)]), bad, series(&[("__name__", "last")], &[(NOW, one)])].concat();
    let (status, why) = detail(harness.remote_write(V1, &body).await).await;
    assert_eq!(status, 400, "{why}");
    assert!(why.contains("2 samples were not stored") && why.contains(r#"bad{z="1",a="1"}: labels must be sorted: "a""#), "{why}");
    assert_eq!(harness.samples("{first,last,bad}").await.len(), 2);
}

/// A request of 2.0 with a counter that began a minute ago, a native histogram, and a series without a name.
fn symbols_and_series() -> Vec<u8> {
    let symbols = ["", "__name__", "jobs_total", "queue", "mail", "delay"].iter().flat_map(|symbol| bytes(4, symbol));
    let at = number(2, NOW.cast_unsigned());
    let samples = [bytes(2, [double(1, 5.0), at.clone()].concat()), bytes(5, number(1, 1)), number(6, (NOW - 60_000).cast_unsigned())];
    let counter = [&[packed(1, &[1, 2, 3, 4])][..], &samples].concat().concat();
    let native = bytes(3, [number(1, 3), double(3, 4.5), double(5, 0.5), number(6, 3), number(15, NOW.cast_unsigned())].concat());
    let histogram = [packed(1, &[1, 5]), native, bytes(5, number(1, 3))].concat();
    let unnamed = [packed(1, &[3, 4]), bytes(2, [double(1, 1.0), at].concat())].concat();
    symbols.chain([counter, histogram, unnamed].iter().flat_map(|series| bytes(5, series))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_version_answers_with_what_it_wrote() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let written = |answer: &reqwest::Response| {
        ["samples", "histograms", "exemplars"]
            .map(|kind| answer.headers()[format!("x-prometheus-remote-write-{kind}-written")].to_str().expect("text").to_owned())
    };
    let answer = harness.remote_write(V2, &symbols_and_series()).await;
    assert_eq!(written(&answer), ["1", "1", "0"], "of a partial write");
    let (status, why) = detail(answer).await;
    assert!(status == 400 && why.contains(r#"{queue="mail"}: no label __name__"#), "{status} {why}");
    let one = |name: &str, value: f64| (name.to_owned(), vec![(NOW, json!(value))]);
    let expected = [
        one("histogram delay_bucket{le=\"+Inf\"}", 3.0),
        one("histogram delay_bucket{le=\"0.5\"}", 3.0),
        one("counter delay_count{}", 3.0),
        one("counter delay_sum{}", 4.5),
        ("counter jobs_total{queue=\"mail\"}".to_owned(), vec![(NOW - 60_000, json!(0.0)), (NOW, json!(5.0))]),
    ];
    assert_eq!(harness.samples("*").await, expected);
    let good: Vec<u8> = ["", "__name__", "up"].iter().flat_map(|symbol| bytes(4, symbol)).collect();
    let good = [good, bytes(5, [packed(1, &[1, 2]), bytes(2, [double(1, 1.0), number(2, NOW.cast_unsigned())].concat())].concat())].concat();
    let answer = harness.remote_write(V2, &good).await;
    assert_eq!((answer.status().as_u16(), written(&answer)), (204, ["1", "0", "0"].map(str::to_owned)));
    let answer = harness.remote_write(V2, &[0x2a]).await;
    assert_eq!((answer.status().as_u16(), written(&answer)), (400, ["0", "0", "0"].map(str::to_owned)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_is_not_is_told_and_nothing_is_stored() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let path = "/prometheus/api/v1/write";
    let body = || snap::raw::Encoder::new().compress_vec(&series(&[("__name__", "up")], &[(NOW, 0)])).expect("short");
    let url = format!("{}{path}", harness.running().endpoints.url);
    let nobody = reqwest::Client::new().post(url).header("content-type", V1).header("content-encoding", "snappy").body(body()).send().await.expect("an answer");
    assert_eq!((nobody.status().as_u16(), nobody.headers()["www-authenticate"].to_str().expect("text")), (401, "Bearer"));
    let gzip = [("content-type", V1), ("content-encoding", "gzip")];
    let json = [("content-type", "application/json"), ("content-encoding", "snappy")];
    let other = [("content-type", "application/x-protobuf;proto=prometheus.Other"), ("content-encoding", "snappy")];
    for (headers, words) in [
        (&gzip[..], "Content-Encoding is \"gzip\""),
        (&gzip[..1], "Content-Encoding is none"),
        (&json, "Content-Type is \"application/json\""),
        (&other, "Other"),
    ] {
        let (status, why) = detail(harness.post(path, headers, body()).await).await;
        assert!(status == 415 && why.contains(words) && why.contains("this takes Content-Type application/x-protobuf"), "{status} {why}");
    }
    let fine = [("content-type", V1), ("content-encoding", "snappy")];
    let (status, why) = detail(harness.post(path, &fine, vec![0; REMOTE_WRITE_BYTES_MAX + 1]).await).await;
    assert_eq!(status, 413, "{why}");
    let (status, why) = detail(harness.post(path, &fine, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]).await).await;
    assert!(status == 413 && why.contains("4294967295"), "a bomb's header: {status} {why}");
    let (status, why) = detail(harness.remote_write(V1, &bytes(1, double(2, 1.0))).await).await;
    assert!(status == 400 && why.contains("prometheus.WriteRequest: byte 2: a field of another type"), "{status} {why}");
    assert_eq!(harness.samples("up").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_says_when_to_come_back() {
    let harness = Harness::with(manual_clock(), |_| {}).await;
    let all = harness.running().app.ingest.room(keyvigil_common::limits::INGEST_INFLIGHT_BYTES_MAX).expect("all room");
    let body = series(&[("__name__", "up")], &[(NOW, 0)]);
    let busy = harness.remote_write(V1, &body).await;
    let after = busy.headers()["retry-after"].to_str().expect("text").parse::<u64>().expect("seconds");
    assert!(busy.status() == 503 && (1..=60).contains(&after), "{} {after}", busy.status());
    drop(all);
    assert_eq!(harness.remote_write(V1, &body).await.status(), 204);
}
