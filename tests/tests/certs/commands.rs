//! The commands as an operator types them, from the token to the retired CA.

use keyvigil_agent::enroll::{self, EnrollError};
use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_tests::process;
use serde_json::Value;

use super::host::World;

/// Runs `keyvigil`, its answer as JSON; exit code and what it said where it failed.
async fn keyvigil(world: &World, args: &[&str]) -> Result<Value, (Option<i32>, String)> {
    let at = &world.harness.running().endpoints;
    let (url, token) = (at.url.clone(), at.admin_token.clone());
    let args: Vec<String> = ["--url", &url, "--output", "json"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    let run = move || process::run("keyvigil", &args.iter().map(String::as_str).collect::<Vec<_>>(), &[("KEYVIGIL_TOKEN", &token)]);
    let out = tokio::task::spawn_blocking(run).await.expect("it ends");
    if !out.status.success() {
        return Err((out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stdout))))
}

async fn said(world: &World, args: &[&str]) -> Value {
    keyvigil(world, args).await.unwrap_or_else(|(_, says)| panic!("{args:?}: {says}"))
}

async fn join(world: &World, dir: &str, token: &str) -> Result<String, String> {
    let dir = world.harness.dir(dir);
    let token = token.parse().expect("a token");
    match enroll::join(&token, &dir, &RootFs::new(&dir), "web-1", &Dialer::tcp(), &world.clock.shared()).await {
        Ok(identity) => Ok(identity.agent),
        Err(EnrollError::Refused { code, .. }) => Err(code),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_listed_used_once_and_revoked() {
    let world = World::start(|_| {}).await;
    let token = said(&world, &["token", "create", "--ttl", "10m"]).await;
    let text = token["token"].as_str().expect("text").to_owned();
    let list = said(&world, &["token", "list"]).await;
    assert_eq!((&list["tokens"][0]["id"], &list["tokens"][0]["used"]), (&token["id"], &0.into()), "{list}");
    let secret = text.split('_').nth(4).expect("a secret");
    assert!(!list.to_string().contains(secret), "its secret is told once");
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(world.harness.running().endpoints.dir.join("store")).expect("the store") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            stored.extend(std::fs::read(path).expect("a file"));
        }
    }
    assert!(!stored.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "and kept by nobody");

    join(&world, "first", &text).await.expect("it joins");
    assert_eq!(join(&world, "second", &text).await, Err("token_used".into()));
    assert_eq!(said(&world, &["token", "list"]).await["tokens"][0]["used"], 1);
    let late = said(&world, &["token", "create", "--ttl", "1m"]).await;
    world.advance(std::time::Duration::from_secs(61));
    assert_eq!(join(&world, "third", late["token"].as_str().expect("text")).await, Err("token_expired".into()));
    let gone = said(&world, &["token", "create"]).await;
    said(&world, &["token", "revoke", gone["id"].as_str().expect("text")]).await;
    assert_eq!(join(&world, "fourth", gone["token"].as_str().expect("text")).await, Err("token_unknown".into()));
    let (code, says) = keyvigil(&world, &["token", "create", "--ttl", "2d"]).await.expect_err("too long");
    assert!(code == Some(2) && says.contains("24 h"), "{code:?} {says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_revoked_watched_closely_and_given_a_new_ca_from_the_command_line() {
    let world = World::start(|_| {}).await;
    let agent = join(&world, "web-1", &world.token().await).await.expect("it joins");
    let list = said(&world, &["agents", "list"]).await;
    assert_eq!((list["agents"][0]["agent"].as_str(), list["agents"][0]["host"].as_str()), (Some(&agent[..]), Some("web-1")));
    let until = said(&world, &["enhance", "web-1", "--minutes", "5", "--sensor", "cpu", "--sensor", "load"]).await;
    assert_eq!((&until["until"], &until["sensors"]), (&(world.clock.now() + 300_000).into(), &serde_json::json!(["cpu", "load"])));
    assert_eq!(said(&world, &["agents", "list"]).await["agents"][0]["enhanced_until"], until["until"]);
    said(&world, &["enhance", "web-1", "--end"]).await;
    assert_eq!(said(&world, &["agents", "list"]).await["agents"][0]["enhanced_until"], Value::Null);

    assert_eq!(said(&world, &["ca", "status"]).await["phase"], "stable");
    assert_eq!(said(&world, &["ca", "announce"]).await["agents"]["waiting"], 1, "one has not confirmed");
    assert_eq!(said(&world, &["ca", "rollback"]).await["phase"], "stable");
    said(&world, &["ca", "announce"]).await;
    said(&world, &["ca", "issue"]).await;
    let (code, says) = keyvigil(&world, &["ca", "retire"]).await.expect_err("one has not followed");
    assert!(code == Some(1) && says.contains("web-1") && says.contains("force"), "{code:?} {says}");
    // Who was revoked is not waited for.
    let revoked = said(&world, &["agents", "revoke", &agent]).await;
    assert_eq!(revoked["revoked"][0]["host"], "web-1");
    let again = join(&world, "web-1", &world.token().await).await.expect("it joins");
    assert_ne!(again, agent, "one that was revoked does not come back as who it was");
    let status = said(&world, &["ca", "status"]).await;
    assert_eq!((&status["agents"]["living"], &status["agents"]["waiting"]), (&1.into(), &0.into()), "{status}");
    assert_eq!(said(&world, &["ca", "retire"]).await["cas"].as_array().map(Vec::len), Some(1));

    // Whoever must, can lock out who does not follow.
    said(&world, &["ca", "announce"]).await;
    said(&world, &["ca", "issue"]).await;
    assert_eq!(said(&world, &["ca", "retire", "--force"]).await["phase"], "stable");
    let (code, _) = keyvigil(&world, &["agents", "revoke", "nobody"]).await.expect_err("nobody");
    assert_eq!(code, Some(1));
}
