//! Promise: a sender that makes more and more series is refused by name, what it had goes on being stored, and its neighbours
//! notice nothing.

use keyvigil_agent::enroll;
use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_aggregator::index::Selector;
use keyvigil_aggregator::store::Policy;
use keyvigil_common::client::Query;
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::limits::REJECTED_NAMED_MAX;
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::wire::{Batch, Column, Group, Push, encode_batch, encode_push};
use keyvigil_tests::harness::{Harness, manual_clock};
use keyvigil_tests::protobuf::{bytes, double, number, packed};
use serde_json::{Value, json};

const NOW: i64 = 1_763_836_800_000;
const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// Label values of one push of a sender that explodes.
const EXPLOSION: usize = 10_000;
const LIMIT: usize = 200;

async fn harness(per_agent: usize) -> Harness {
    Harness::with(manual_clock(), |config| config.limits.series_per_agent = per_agent).await
}

fn series(labels: &[(&str, &str)], at_ms: i64, value: f64) -> Vec<u8> {
    let labels = labels.iter().map(|(name, value)| bytes(1, [bytes(1, name), bytes(2, value)].concat()));
    let sample = bytes(2, [double(1, value), number(2, at_ms.cast_unsigned())].concat());
    bytes(1, labels.chain([sample]).collect::<Vec<_>>().concat())
}

/// Requests of `instance` by users `from..to`, each one series.
fn users(instance: &str, users: std::ops::Range<usize>, at_ms: i64) -> Vec<u8> {
    users.flat_map(|n| series(&[("__name__", "http_requests"), ("instance", instance), ("user", &n.to_string())], at_ms, n as f64)).collect()
}

async fn answered(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// An agent whose batches the test makes.
struct Agent {
    identity: Identity,
    seq: u64,
}

impl Agent {
    async fn join(harness: &Harness, host: &str) -> Self {
        let dir = harness.dir(host);
        let token = harness.token().await.parse().expect("a token");
        let identity = enroll::join(&token, &dir, &RootFs::new(&dir), host, &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
        Self { identity, seq: 0 }
    }

    /// Pushes one sample of `app.requests` of each of `users` as the next batch; it is acknowledged.
    async fn push(&mut self, harness: &Harness, users: std::ops::Range<usize>, at_ms: i64) {
        let named = |n: usize| Series::new("app.requests", MetricType::Gauge, Tags::new([("user", n.to_string())]).expect("valid")).expect("valid");
        let columns = users.clone().zip(0..).map(|(n, series)| Column { series, start_ms: 0, values: vec![n as f64] }).collect();
        let groups = vec![Group { sensor: "app".into(), interval_ms: 1_000, times: vec![at_ms], columns }];
        let batch = Batch { sealed_ms: at_ms, series: users.map(named).collect(), groups, ..Batch::default() };
        self.seq += 1;
        let frames = vec![(self.seq, encode_batch(&batch).expect("valid"))];
        let body = encode_push(&Push { epoch: [1; 16], frames, ..Push::default() }).expect("valid");
        let tasks = Tasks::new(Stop::new());
        let tls = self.identity.tls(&SystemClock::shared()).expect("TLS");
        let mut connection = Connection::open(&Dialer::tcp(), &harness.ingest_address(), tls, &tasks).await.expect("a connection");
        let answer = connection.post("/v1/push", "application/octet-stream", body).await.expect("an answer");
        assert!(answer.status.is_success(), "batch {}: {}", self.seq, answer.detail());
    }
}

/// Series of `name` with the tag, and samples of all of them together.
async fn stored(harness: &Harness, name: &str, tag: &str) -> (usize, usize) {
    let app = &harness.running().app;
    let found = app.store.index().select(app.tenant, &Selector::parse(name, [tag]).expect("a pattern"), 1_000_000);
    let points = app.store.select(&found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), 0, i64::MAX, 10_000_000).await.expect("points");
    (found.len(), points.iter().map(Vec::len).sum())
}

/// Samples that the aggregator says it refused because of a limit.
fn refused(harness: &Harness, limit: &str) -> u64 {
    let all = harness.running().app.registry.all();
    all.iter().find(|own| own.metric_id == "keyvigil.limits.refused_samples_total" && own.tag == Some(("limit", limit))).expect("it is there").value.get()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_explosion_is_refused_by_name_and_its_neighbours_notice_nothing() {
    let mut harness = Harness::with(SystemClock::shared(), |config| config.limits.series_per_agent = LIMIT).await;
    let (mut good, mut bad) = (Agent::join(&harness, "good").await, Agent::join(&harness, "bad").await);
    let base_ms = harness.running().app.clock.now_ms() - 60_000;
    for round in 0..6 {
        if round == 3 {
            harness.restart().await;
        }
        let at_ms = base_ms + round as i64 * 1_000;
        let new = round * EXPLOSION..(round + 1) * EXPLOSION;
        // What it had first comes with each of its pushes.
        let exploding = [users("bad:80", 0..50, at_ms), users("bad:80", new.start.max(50)..new.end, at_ms)].concat();
        let fine = [users("good:80", 0..LIMIT, at_ms), series(&[("__name__", "nobodys")], at_ms, 1.0)].concat();
        let (refused, accepted, (), ()) = tokio::join!(
            harness.remote_write(V1, &exploding),
            harness.remote_write(V1, &fine),
            good.push(&harness, 0..LIMIT, at_ms),
            bad.push(&harness, new, at_ms)
        );
        assert_eq!(accepted.status(), 204, "round {round}");
        assert_eq!(refused.headers()["retry-after"].to_str().expect("text"), "60");
        let (status, said) = answered(refused).await;
        assert_eq!(status, 429, "round {round}: {said}");
        let why = said["detail"].as_str().unwrap_or_default();
        assert!(why.contains("instance=\"bad:80\" has 200 series, its limit (limits.series_per_agent)"), "{why}");
        assert!(why.contains(&format!("http_requests{{instance=\"bad:80\",user=\"{}\"}}", if round == 0 { LIMIT } else { round * EXPLOSION })), "{why}");
        let expected = if round == 0 { EXPLOSION - LIMIT } else { EXPLOSION };
        assert_eq!((said["rejected"].as_u64(), said["reasons"].as_array().map(Vec::len)), (Some(expected as u64), Some(REJECTED_NAMED_MAX)), "{said}");
        assert_eq!(said["limits"], json!([{"limit": "agent", "max": LIMIT, "samples": expected}]));
        let rounds = round + 1;
        assert_eq!(stored(&harness, "http_requests", "instance:good:80").await, (LIMIT, rounds * LIMIT), "round {round}");
        assert_eq!(stored(&harness, "nobodys", "host:").await, (1, rounds), "round {round}");
        assert_eq!(stored(&harness, "app.requests", "host:good").await, (LIMIT, rounds * LIMIT), "round {round}");
        assert_eq!(stored(&harness, "http_requests", "instance:bad:80").await, (LIMIT, LIMIT + round * 50), "what it had is stored on, round {round}");
        assert_eq!(stored(&harness, "app.requests", "host:bad").await, (LIMIT, LIMIT), "round {round}");
    }
    let answer = harness.client().query_metrics(&Query { metric_pattern: "http_requests".into(), ..Query::default() }).await.expect("an answer");
    assert_eq!(answer.series.len(), 2 * LIMIT);
    assert_eq!(refused(&harness, "agent"), 6 * EXPLOSION as u64, "since the restart");
    assert_eq!((refused(&harness, "tenant"), refused(&harness, "all")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_loses_to_a_limit_is_counted_and_told_once_an_hour() {
    let clock = manual_clock();
    clock.step_wall_ms(SystemClock::shared().now_ms() - NOW);
    let shared: SharedClock = clock.clone();
    let mut harness = Harness::with(shared, |config| config.limits.series_per_agent = LIMIT).await;
    let mut bad = Agent::join(&harness, "bad").await;
    let start_ms = harness.running().app.clock.now_ms();
    let told = async |harness: &Harness| {
        let gaps = harness.client().gaps(&[]).await.expect("gaps")["gaps"].clone();
        let events = harness.client().call(keyvigil_common::client::Method::GET, "/events", &[("kind", "data_lost")], None).await.expect("events");
        (gaps.as_array().cloned().expect("a list"), events["events"].as_array().cloned().expect("a list"))
    };
    for round in 0..5 {
        bad.push(&harness, 0..1_000, start_ms + round * 1_000).await;
    }
    let (gaps, events) = told(&harness).await;
    assert_eq!((gaps.len(), events.len()), (1, 1), "{gaps:?} {events:?}");
    let cause = "host=\"bad\" has 200 series, its limit (limits.series_per_agent): remove a tag that has many values, or raise the limit; \
                 the first: app.requests{host=\"bad\",user=\"200\"}";
    let expected = json!({"host": "bad", "class": "sample", "cause": cause, "first_seq": 1, "last_seq": 5, "items": 5 * 800, "time": start_ms, "epoch": null});
    assert_eq!(gaps[0], expected);
    assert_eq!(
        (events[0]["message"].as_str(), events[0]["host"].as_str()),
        (Some(format!("samples of new series are not kept: {cause}").as_str()), Some("bad"))
    );
    // In the next hour there is the next record; after a start, too.
    clock.step_wall_ms(3_600_000);
    bad.push(&harness, 0..1_000, start_ms).await;
    harness.restart().await;
    bad.push(&harness, 0..200, start_ms + 9_000).await;
    assert_eq!(told(&harness).await.0.len(), 2, "nothing is lost of series that are there");
    bad.push(&harness, 150..300, start_ms + 10_000).await;
    let (gaps, events) = told(&harness).await;
    let items: Vec<u64> = gaps.iter().filter_map(|gap| gap["items"].as_u64()).collect();
    assert_eq!((items.as_slice(), events.len()), (&[100, 800, 4_000][..], 3));
    assert_eq!(stored(&harness, "app.requests", "host:bad").await, (LIMIT, LIMIT * 6 + 50));
    assert_eq!(refused(&harness, "agent"), 100, "since the restart");
}

/// A request of 2.0: one sample and one native histogram (four series) for each queue, and a series without a name.
fn queues(names: &[&str]) -> Vec<u8> {
    let symbols = ["", "__name__", "jobs", "delay", "host", "a", "queue"].into_iter().chain(names.iter().copied()).flat_map(|symbol| bytes(4, symbol));
    let at = number(2, NOW.cast_unsigned());
    let of_queue = |queue: u64| {
        let sample = [packed(1, &[1, 2, 4, 5, 6, queue]), bytes(2, [double(1, 5.0), at.clone()].concat())].concat();
        let native = bytes(3, [number(1, 3), double(3, 4.5), double(5, 0.5), number(6, 3), number(15, NOW.cast_unsigned())].concat());
        [bytes(5, sample), bytes(5, [packed(1, &[1, 3, 4, 5, 6, queue]), native].concat())].concat()
    };
    let unnamed = bytes(5, [packed(1, &[4, 5]), bytes(2, [double(1, 1.0), at.clone()].concat())].concat());
    let all = (7..).zip(names).flat_map(|(queue, _)| of_queue(queue)).collect::<Vec<_>>();
    symbols.chain(all).chain(unnamed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_version_counts_what_was_written_and_the_limit_is_told_before_what_is_not_valid() {
    let harness = harness(7).await;
    let written = |answer: &reqwest::Response| {
        ["samples", "histograms"].map(|kind| answer.headers()[format!("x-prometheus-remote-write-{kind}-written")].to_str().expect("text").to_owned())
    };
    // Five series fit, and of the second queue its sample and one of four of its histogram.
    let answer = harness.remote_write(V2, &queues(&["mail", "sms"])).await;
    assert_eq!(written(&answer), ["2", "1"]);
    assert_eq!(answer.headers()["retry-after"].to_str().expect("text"), "60");
    let (status, said) = answered(answer).await;
    let why = said["detail"].as_str().unwrap_or_default();
    assert!(status == 429 && why.starts_with("3 samples of 3 new series were not stored") && why.contains("host=\"a\" has 7 series"), "{said}");
    assert!(why.contains("1 more are not valid, the first: {host=\"a\"}: no label __name__"), "{why}");
    assert_eq!((said["rejected"].as_u64(), said["reasons"].as_array().map(Vec::len)), (Some(4), Some(4)), "{said}");
    assert_eq!(stored(&harness, "**", "host:a").await, (7, 7));
    let answer = harness.remote_write(V2, &queues(&["mail"])).await;
    assert_eq!((answer.status().as_u16(), written(&answer)), (400, ["1", "1"].map(str::to_owned)), "no limit is in the way of what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_says_for_each_metric_what_became_of_it() {
    let harness = harness(2).await;
    let metric = |name: &str, host: &str| json!({"metric_id": name, "value": 1, "timestamp": NOW, "tags": {"host": host}});
    let late = json!({"metric_id": "late", "value": 1, "timestamp": 5});
    let push = json!({"metrics": [metric("a", "h"), late, metric("b", "h"), metric("c", "h"), metric("a", "h"), metric("c", "other"), metric("c", "h")]});
    let post = async |push: &Value| harness.post("/api/v1/metrics", &[("content-type", "application/json")], push.to_string()).await;
    let answer = post(&push).await;
    assert_eq!(answer.headers()["retry-after"].to_str().expect("text"), "60");
    let (status, said) = answered(answer).await;
    assert_eq!((status, said["accepted"].as_u64()), (429, Some(4)), "{said}");
    let reasons: Vec<(u64, &str)> = said["rejected"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["index"].as_u64().expect("a number"), one["reason"].as_str().expect("text")))
        .collect();
    assert_eq!(reasons.iter().map(|one| one.0).collect::<Vec<_>>(), [1, 3, 6]);
    assert!(reasons[0].1.contains("timestamp 5 ms") && reasons[1].1.starts_with("c{host=\"h\"}: host=\"h\" has 2 series, its limit"), "{reasons:?}");
    assert!(said["detail"].as_str().is_some_and(|why| why.contains("2 samples of 1 new series were not stored")), "{said}");
    let (status, said) = answered(post(&json!({"metrics": [metric("a", "h"), metric("c", "other")]})).await).await;
    assert_eq!((status, said), (200, json!({"accepted": 2, "rejected": []})));
    let many: Vec<Value> = (0..100).map(|n| metric(&format!("m{n}"), "h")).collect();
    let (status, said) = answered(post(&json!({"metrics": many})).await).await;
    assert_eq!((status, said["accepted"].as_u64(), said["rejected"].as_array().map(Vec::len)), (429, Some(0), Some(100)), "{said}");
    assert_eq!(said["rejected"][99], json!({"index": 99, "reason": "as the others, one series too many (limit: agent)"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_is_told_in_its_own_form() {
    let harness = harness(3).await;
    let point =
        |room: usize| json!({"timeUnixNano": (NOW * 1_000_000).to_string(), "asDouble": 1.5, "attributes": [{"key": "room", "value": {"intValue": room}}]});
    let request = |rooms: std::ops::Range<usize>| {
        let resource = json!({"attributes": [{"key": "host.name", "value": {"stringValue": "web-1"}}]});
        let metrics = json!([{"name": "app.temperature", "gauge": {"dataPoints": rooms.map(point).collect::<Vec<_>>()}}]);
        json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}]}).to_string()
    };
    let post = async |rooms| harness.post("/otlp/v1/metrics", &[("content-type", "application/json")], request(rooms)).await;
    let answer = post(0..5).await;
    assert_eq!(answer.headers()["retry-after"].to_str().expect("text"), "60");
    let (status, said) = answered(answer).await;
    let why = said["message"].as_str().unwrap_or_default();
    assert_eq!((status, said["code"].as_u64()), (429, Some(8)), "{said}");
    assert!(why.contains("2 samples of 2 new series") && why.contains("app.temperature{host=\"web-1\",room=\"3\"}: host=\"web-1\" has 3 series"), "{why}");
    assert_eq!(stored(&harness, "app.temperature", "host:web-1").await, (3, 3));
    assert_eq!(answered(post(0..3).await).await, (200, json!({})), "what is there is stored on");
    assert_eq!(answered(post(5..6).await).await.0, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_tenant_holds_for_all_its_senders_together() {
    let harness = Harness::with(manual_clock(), |config| config.limits.series_per_tenant = 500).await;
    let (status, said) = answered(harness.remote_write(V1, &users("a:80", 0..600, NOW)).await).await;
    assert!(
        status == 429 && said["detail"].as_str().is_some_and(|why| why.contains("the tenant has 500 series, its limit (limits.series_per_tenant)")),
        "{said}"
    );
    let (status, _) = answered(harness.remote_write(V1, &series(&[("__name__", "other")], NOW, 1.0)).await).await;
    assert_eq!(status, 429);
    assert_eq!(harness.remote_write(V1, &users("a:80", 0..100, NOW + 1_000)).await.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_that_left_comes_back_from_a_sender_that_never_stopped() {
    let mut harness = harness(2).await;
    let old_ms = NOW - 40 * 86_400_000;
    assert_eq!(harness.remote_write(V1, &users("a:80", 0..2, old_ms)).await.status(), 204);
    assert_eq!(harness.remote_write(V1, &users("a:80", 2..3, old_ms)).await.status(), 429);
    let app = &harness.running().app;
    let ids = |users: &str| -> Vec<u32> {
        let found = harness.running().app.store.index().select(app.tenant, &Selector::parse("http_requests", [users]).expect("a pattern"), 10);
        found.into_iter().map(|(id, _)| id).collect()
    };
    app.store.flush().await.expect("blocks");
    let first = ids("user:1");
    let gone = app.store.retain(NOW, &Policy::days(30)).await.expect("the day is dropped");
    assert_eq!((gone.dropped.len(), gone.series, ids("user:1")), (1, 2, Vec::new()));
    // The same bytes as before: whoever remembers them from then must not use the id of then.
    assert_eq!(harness.remote_write(V1, &users("a:80", 1..2, NOW)).await.status(), 204);
    let again = ids("user:1");
    assert!(again[0] > first[0], "{again:?} {first:?}");
    assert_eq!(harness.remote_write(V1, &users("a:80", 2..3, NOW)).await.status(), 204, "there is a place for another");
    assert_eq!(harness.remote_write(V1, &users("a:80", 0..1, NOW)).await.status(), 429, "all places are taken again");
    harness.restart().await;
    assert_eq!(stored(&harness, "http_requests", "user:1").await, (1, 1));
    assert_eq!(harness.remote_write(V1, &users("a:80", 1..3, NOW + 1_000)).await.status(), 204);
    assert_eq!(stored(&harness, "http_requests", "instance:a:80").await, (2, 4));
}
