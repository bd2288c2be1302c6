//! Promise: a real Prometheus writes to us. By itself: a child that is just being made holds the locks of the other tests'
//! aggregators for a moment, and those that restart then would find them locked.

use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::prometheus::Prometheus;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_us_and_writes_what_it_saw() {
    let harness = Harness::start().await;
    for message in Prometheus::messages() {
        let job = message.rsplit('.').next().expect("a name");
        let _prometheus = Prometheus::start(&harness.dir(job), &harness.running().endpoints, job, message);
        let of_job = format!("job={job:?}");
        let arrived = until("what Prometheus scraped arrives", || async {
            let mut found = harness.samples("{up,keyvigil_ingest_samples_total,scrape_duration_seconds}").await;
            found.retain(|(name, points)| name.contains(&of_job) && points.len() >= 3);
            (found.len() == 3).then_some(found)
        })
        .await;
        let (up, own) = (&arrived[2], &arrived[0]);
        assert!(up.0.starts_with("gauge up{instance=\"127.0.0.1:") && up.1.iter().all(|point| point.1 == json!(1.0)), "{up:?}");
        let grown = own.1.windows(2).all(|pair| pair[0].1.as_f64() <= pair[1].1.as_f64());
        assert!(own.0.starts_with("counter ") && grown && own.1[2].1.as_f64() > Some(0.0), "{own:?}");
    }
}
