//! Promise: a threshold that is passed for its duration brings one mail and one Slack message, and one of each when it is
//! over; also over a restart, and never sooner.

use std::sync::Arc;
use std::time::Duration;

use keyvigil_aggregator::notify::TlsMode;
use keyvigil_common::clock::{Clock, ManualClock};
use keyvigil_tests::harness::{Harness, manual_clock, until};
use keyvigil_tests::slack::SlackServer;
use keyvigil_tests::smtp::SmtpServer;
use serde_json::json;

struct Scene {
    harness: Harness,
    clock: Arc<ManualClock>,
    mail: SmtpServer,
    slack: SlackServer,
}

impl Scene {
    async fn new() -> Self {
        let (clock, mail, slack) = (manual_clock(), SmtpServer::start(&["--tls", "none"]), SlackServer::start(Vec::new()));
        let (port, url) = (mail.port, slack.url());
        let harness = Harness::with(clock.clone(), move |config| {
            config.smtp.host = "127.0.0.1".into();
            config.smtp.port = port;
            config.smtp.tls = TlsMode::None;
            config.smtp.from = "keyvigil@example.org".into();
            config.smtp.to = vec!["ops@example.org".into()];
            config.slack.webhook_url = url.as_str().into();
        })
        .await;
        Self { harness, clock, mail, slack }
    }

    /// Ten seconds pass in which the CPU is at `value`; then the rules are evaluated.
    async fn step(&self, value: f64) {
        self.clock.advance(Duration::from_secs(10));
        let body = json!({"metrics": [{"metric_id": "system.cpu.usage_total", "timestamp": self.clock.now_ms(), "value": value, "tags": {"host": "web-1"}}]});
        self.harness.client().call(keyvigil_common::client::Method::POST, "/metrics", &[], Some(&body)).await.expect("stored");
        self.harness.running().app.alerts.evaluate().await.expect("evaluated");
    }

    async fn state(&self) -> Option<String> {
        let alerts = self.harness.client().alerts(&[("state", "pending,firing,acknowledged,resolved")]).await.expect("alerts");
        let alert = alerts["alerts"].as_array()?.iter().find(|a| a["rule_id"] == "high-cpu")?.clone();
        alert["state"].as_str().map(str::to_owned)
    }

    async fn told(&self, mails: usize) {
        until("mail and Slack heard of it", || async { (self.mail.mails().len() >= mails && self.slack.messages().len() >= mails).then_some(()) }).await;
        assert_eq!((self.mail.mails().len(), self.slack.messages().len()), (mails, mails), "once each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_threshold_held_for_its_duration_brings_one_of_each_and_one_resolved() {
    let mut scene = Scene::new().await;
    for _ in 0..30 {
        scene.step(97.0).await;
    }
    assert_eq!(scene.state().await.as_deref(), Some("pending"), "290 s are not 300");
    assert_eq!(scene.mail.mails().len(), 0);
    // A restart in between is not the end of it, nor the beginning.
    scene.harness.restart().await;
    for _ in 0..8 {
        scene.step(97.0).await;
    }
    assert_eq!(scene.state().await.as_deref(), Some("firing"));
    scene.told(1).await;
    let mail = scene.mail.mails().remove(0);
    assert!(mail.header("subject").contains("High CPU") && mail.text.contains("web-1"), "{mail:?}");
    for _ in 0..40 {
        scene.step(12.0).await;
    }
    assert_eq!(scene.state().await.as_deref(), Some("resolved"));
    scene.told(2).await;
    assert!(scene.mail.mails()[1].header("subject").to_lowercase().contains("resolved"));
    for message in scene.slack.messages() {
        keyvigil_tests::slack::check(&message, message.to_string().len()).expect("Slack takes it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_stops_coming_resolves_nothing() {
    let scene = Scene::new().await;
    for _ in 0..40 {
        scene.step(97.0).await;
    }
    scene.told(1).await;
    for _ in 0..60 {
        scene.clock.advance(Duration::from_secs(10));
        scene.harness.running().app.alerts.evaluate().await.expect("evaluated");
    }
    let alerts = scene.harness.client().alerts(&[]).await.expect("alerts");
    let alert = alerts["alerts"].as_array().expect("a list").iter().find(|a| a["rule_id"] == "high-cpu").expect("it stays").clone();
    assert_eq!((alert["state"].as_str(), alert["stale"].as_bool()), (Some("firing"), Some(true)));
    let acknowledged = scene.harness.client().acknowledge(alert["id"].as_str().expect("an id"), "ana", Some("looking")).await.expect("acknowledged");
    assert_eq!((acknowledged["state"].as_str(), acknowledged["acknowledged_by"].as_str()), (Some("acknowledged"), Some("ana")));
}
