//! Promise: what a TLS port really serves is known, name by name; and a server that goes on with a certificate that was renewed on disk
//! is told of once, and once more when it has been reloaded.

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::Client;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::{certificate, spki_fingerprint};
use keyvigil_tests::nginx::Nginx;
use serde_json::Value;

async fn events(client: &Client, kind: &str) -> Vec<Value> {
    client.events(&[("kind", kind)]).await.expect("events")["events"].as_array().cloned().unwrap_or_default()
}

/// The key with that name that lies, and is not gone, at `path`.
async fn at(client: &Client, search: &str, path: &str) -> Option<Value> {
    let keys = client.keys(&[("search", search)]).await.ok()?;
    let lies = |key: &&Value| key["places"].as_array().is_some_and(|places| places.iter().any(|place| place["path"] == path && place["gone"] == false));
    keys["keys"].as_array()?.iter().find(lies).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_renewed_and_not_reloaded_is_told_once_and_so_is_the_reload() {
    let harness = Harness::start().await;
    let (keys, renewed) = (harness.dir("keys"), harness.dir("renewed"));
    for name in ["shop", "blog"] {
        let _path = certificate(&keys, name, 90);
    }
    let nginx = Nginx::start(&harness.dir("nginx"), &keys, &["shop", "blog"]);
    let mut config = harness.agent_config("agent", &RootFs::host());
    config.keystore.paths = vec![keys.to_string_lossy().into_owned()];
    config.sampling.disabled.retain(|name| name != "served");
    config.served.exclude = vec![format!("1-{}", nginx.port - 1), format!("{}-65535", nginx.port + 1)];
    let agent = harness.agent(&config, Dialer::tcp()).await;
    let client = harness.client();

    let port = format!("tls://127.0.0.1:{}", nginx.port);
    let shop = until("what is served to anyone", || at(&client, "shop.example.org", &port)).await;
    let named = format!("{port}/blog.example.org");
    let blog = until("what is served under the other name", || at(&client, "blog.example.org", &named)).await;
    assert_eq!((shop["status"].as_str(), blog["status"].as_str()), (Some("active"), Some("active")));

    for (turn, days) in [(1, 120), (2, 150)] {
        let old = spki_fingerprint(&keys.join("shop.pem"));
        let file = certificate(&renewed, "shop", days);
        let new = spki_fingerprint(&file);
        for name in ["shop.key", "shop.pem"] {
            std::fs::rename(renewed.join(name), keys.join(name)).expect("renamed");
        }
        let told = until("that it is stale", || async { Some(events(&client, "served_stale").await).filter(|told| told.len() >= turn) }).await;
        let event = &told[0];
        assert_eq!(event["actor"]["pid"].as_u64(), Some(nginx.pid().into()), "{event}");
        assert!(event["actor"]["exe"].as_str().is_some_and(|exe| exe.ends_with("nginx")), "{event}");
        assert_eq!(event["path"].as_str(), keys.join("shop.pem").to_str(), "{event}");
        let text = event["evidence"].to_string();
        assert!(text.contains(&old) && text.contains(&new), "both keys are named: {event}");
        assert!(at(&client, "shop.example.org", &port).await.is_some(), "it is served still");

        nginx.reload();
        until("that it is fresh", || async { Some(events(&client, "served_fresh").await).filter(|told| told.len() == turn) }).await;
        let served = until("the new one is served", || async { at(&client, "shop.example.org", &port).await.filter(|key| key["fingerprint"] == new) }).await;
        assert_ne!(served["id"], shop["id"]);
        assert_eq!(events(&client, "served_stale").await.len(), turn, "each renewal is told of once, and the other site never");
    }
    agent.stop().await.expect("a clean end");
}
