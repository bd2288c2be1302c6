//! The way between agent and aggregator: cut in both directions or one, flapping, resetting, slow and late.

use std::collections::BTreeSet;
use std::time::Duration;

use keyvigil_agent::buffer::New;
use keyvigil_common::client::Query;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::wire::{Batch, Class, Column, Group, encode_batch};
use keyvigil_tests::harness::until;
use keyvigil_tests::link::Link;
use keyvigil_tests::oracle::Stored;
use keyvigil_tests::proxy::{Flow, Weather};

use super::stage::{HOST, Stage, drained, judge, own};
use super::world::sized;

const CUT: Flow = Flow { cut: true, late: Duration::ZERO, bytes_per_second: 0 };
const OPEN: Flow = Flow { cut: false, late: Duration::ZERO, bytes_per_second: 0 };

fn weather(there: Flow, back: Flow) -> Weather {
    Weather { there, back, ..Weather::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_a_way_that_is_cut_in_either_direction_or_flaps_loses_and_doubles_nothing() {
    let mut stage = Stage::hasty().await;
    stage.commit(5).await;
    drained(stage.sender()).await;
    for _ in 0..sized(2, 20) {
        for cut in [weather(CUT, CUT), weather(CUT, OPEN), weather(OPEN, CUT)] {
            let before = stage.client().hosts().await.expect("hosts")["hosts"][0]["cursor"].as_u64().unwrap_or(0);
            stage.proxy.turn(cut);
            stage.commit(20).await;
            if cut.back.cut && !cut.there.cut {
                // It is stored, and the ack is lost with its connection.
                let client = stage.client();
                until("it is stored", || async { (client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64()? > before).then_some(()) }).await;
            }
            assert!(!stage.sender().is_drained(), "nobody told it");
            let failures = own(stage.sender(), "push_failures_total");
            stage.reset();
            until("the connection breaks", || async { (own(stage.sender(), "push_failures_total") > failures).then_some(()) }).await;
            stage.fair();
            drained(stage.sender()).await;
        }
    }
    let again = stage.aggregator().metric("keyvigil_ingest_repeats_total").await;
    assert!(again > 0.0, "no ack was ever lost: the experiment tests nothing");
    // A link that comes and goes, and breaks what it carries after more and more bytes.
    for bytes in (0..sized(12, 120)).map(|n| 2_000 + n * 1_500) {
        stage.proxy.turn(Weather { refuse: true, reset_after: 1, ..Weather::default() });
        stage.commit(10).await;
        let failures = own(stage.sender(), "push_failures_total");
        until("it fails", || async { (own(stage.sender(), "push_failures_total") > failures).then_some(()) }).await;
        stage.proxy.turn(Weather { reset_after: bytes, ..Weather::default() });
        stage.commit(10).await;
        until("it tries", || async { (stage.sender().is_drained() || own(stage.sender(), "push_failures_total") > failures + 2).then_some(()) }).await;
    }
    let stored = stage.judge(&format!("F11 partitions of both ways and of one, flapping, resets ({again} repeats)")).await;
    assert_eq!((stored.gaps.len(), stage.wire.strays()), (0, 0), "never two requests at once");
    stage.stop_sender().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_retries_are_spread_by_chance_and_grow_rare() {
    let mut stage = Stage::with(SystemClock::shared(), |_| {}).await;
    stage.commit(5).await;
    drained(stage.sender()).await;
    let before = stage.wire.waits().len();
    stage.kill();
    stage.commit(5).await;
    let tries = usize::try_from(sized(4, 12)).expect("few");
    let waits = || stage.wire.waits().split_off(before);
    until("it has tried again and again", || async { (waits().len() > tries).then_some(()) }).await;
    let waits = waits();
    let different: BTreeSet<u128> = waits.iter().map(Duration::as_millis).collect();
    assert!(different.len() > 2, "by chance, not in step: {waits:?}");
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(35)), "{waits:?}");
    stage.start();
    let stored = stage.judge(&format!("F11 aggregator away, {} tries", waits.len())).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}

/// A batch that does not get smaller by compression.
fn bulky(bytes: u64, at_ms: i64) -> Vec<u8> {
    let random = Link::new(7, "");
    let count = bytes / 8;
    let series = Series::new("bulk.value", MetricType::Gauge, Tags::default()).expect("valid");
    let values = (0..count).map(|_| f64::from_bits(random.random() >> 2)).collect();
    let times = (0..count).map(|n| at_ms + n.cast_signed()).collect();
    let group = Group { sensor: "bulk".into(), interval_ms: 1_000, times, columns: vec![Column { series: 0, start_ms: 0, values }] };
    encode_batch(&Batch { sealed_ms: at_ms, series: vec![series], groups: vec![group], ..Batch::default() }).expect("it fits")
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_link_of_64_kbit_and_half_a_second_carries_a_large_batch_and_what_is_fresh() {
    let bytes = sized(60_000, 200_000);
    let mut stage = Stage::with(SystemClock::shared(), |_| {}).await;
    stage.commit(5).await;
    drained(stage.sender()).await;
    // A piece of 4 KiB takes half a second by its length: the delay of the link comes once with each.
    let slow = Flow { bytes_per_second: 16_000, late: Duration::from_millis(256), ..Flow::default() };
    stage.proxy.turn(weather(slow, Flow { late: Duration::from_millis(250), ..slow }));
    let frame = bulky(bytes, stage.base_ms);
    assert!(frame.len() as u64 > bytes * 7 / 8, "{} bytes", frame.len());
    let at_ms = SystemClock::shared().now_ms();
    let new = New { class: Class::Sample, items: bytes / 8, at_ms, frame, told: Vec::new() };
    stage.sender().buffer.append(vec![new], Vec::new(), Vec::new(), at_ms).await.expect("committed");
    let (client, base_ms) = (stage.client(), stage.base_ms);
    let newest = async |n: u64| Stored::ask(&client, HOST, base_ms).await.ok().filter(|stored| stored.samples.contains(&n)).map(|_| ());
    // Fresh numbers go on coming while it is on its way and after it.
    let mut connections = 0;
    for round in 0..3 {
        let n = stage.issued.committed.len() as u64 + 1;
        stage.commit(1).await;
        until("what is fresh arrives", || newest(n)).await;
        connections = if round == 0 { stage.wire.waits().len() } else { connections };
    }
    drained(stage.sender()).await;
    let query = Query { metric_pattern: "bulk.value".into(), start_time: Some(stage.base_ms.to_string()), ..Query::default() };
    let answer = client.query_metrics(&query).await.expect("an answer");
    let points: usize = answer.series.iter().map(|series| series.points.len()).sum();
    assert_eq!(points as u64, bytes / 8, "the large batch is there, whole");
    assert_eq!((own(stage.sender(), "push_failures_total"), stage.wire.waits().len()), (0, connections), "no request was given up");
    let stored = judge("F12 64 kbit/s, 500 ms", &client, HOST, stage.base_ms, &stage.issued).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}
