//! Promise: what a host's files say is what the query answers, name, tags, time and value, in memory, in blocks, after a
//! restart; and the exposition shows it too.

use keyvigil_agent::http::Dialer;
use keyvigil_common::client::Query;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::small_host;
use serde_json::json;

fn query(pattern: &str) -> Query {
    Query { metric_pattern: pattern.into(), ..Query::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sample_travels_from_proc_to_the_querys_json() {
    let mut harness = Harness::start().await;
    let root = small_host(&harness.dir("host"));
    let config = harness.agent_config("agent", &root);
    let agent = harness.agent(&config, Dialer::tcp()).await;
    let client = harness.client();
    let memory = until("memory samples arrive", || async {
        let answer = client.query_metrics(&query("system.memory.usage_percent")).await.ok()?;
        answer.series.into_iter().next().filter(|s| s.points.len() >= 3)
    })
    .await;
    assert_eq!(memory.metric_type, "gauge");
    assert_eq!(memory.tags.get("host").map(String::as_str), Some("test-host"));
    // The fixture: MemTotal 4096000 kB, MemAvailable 3072000 kB.
    assert!(memory.points.iter().all(|(_, value)| *value == json!(25.0)), "{:?}", memory.points);
    let times: Vec<i64> = memory.points.iter().map(|p| p.0).collect();
    assert!(times.windows(2).all(|w| w[0] < w[1]), "times ascend: {times:?}");

    // One scrape is one time stamp: another sensor of the same instant has it too.
    let load = client.query_metrics(&query("system.load.1m")).await.expect("an answer").series.remove(0);
    assert!(load.points.iter().filter(|p| times.contains(&p.0)).count() >= 2, "{times:?} against {:?}", load.points);

    agent.stop().await.expect("a clean end");
    let before = client.query_metrics(&query("system.memory.usage_percent")).await.expect("an answer");
    harness.running().app.store.flush().await.expect("blocks");
    assert_eq!(client.query_metrics(&query("system.memory.usage_percent")).await.expect("an answer"), before, "blocks say what memory said");
    harness.restart().await;
    let client = harness.client();
    assert_eq!(client.query_metrics(&query("system.memory.usage_percent")).await.expect("an answer"), before, "and after a restart");

    let hosts = client.hosts().await.expect("hosts");
    assert_eq!((hosts["hosts"][0]["host"].as_str(), hosts["hosts"][0]["os"].as_str()), (Some("test-host"), Some("Smallix 4.2 (Twig)")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_metric_is_stored_queried_and_exposed() {
    let harness = Harness::start().await;
    let client = harness.client();
    client.collect_metric("app.queue.depth", 7.5, &[("host", "web-1"), ("queue", "a \"b\"")]).await.expect("stored");
    let answer = client.query_metrics(&query("app.**")).await.expect("an answer");
    assert_eq!((answer.series.len(), &answer.series[0].points[0].1), (1, &json!(7.5)));
    let refused = client.collect_metric("", 1.0, &[]).await.expect_err("no name");
    assert!(refused.to_string().contains("metric_id"), "{refused}");
    let text = reqwest::get(&harness.running().endpoints.metrics_url).await.expect("metrics").text().await.expect("text");
    assert!(text.contains("app_queue_depth{host=\"web-1\",queue=\"a \\\"b\\\"\"} 7.5 "), "{text}");
    let health = reqwest::get(&harness.running().endpoints.health_url).await.expect("health");
    assert!(health.status().is_success());
}
