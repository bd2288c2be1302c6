//! Joining with one token, many at once: each with a key and a connection of its own, as hosts do that are set up together.

use std::sync::Arc;
use std::time::Duration;

use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::{Identity, NewKey};
use keyvigil_common::client::Client;
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::token::JoinToken;
use keyvigil_common::{sha256, tls};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Joins that go on at once.
const SIDE_BY_SIDE: usize = 64;
/// Uses that one token may have.
const USES_MAX: usize = 10_000;

/// A name for each host.
#[must_use]
pub fn named(n: usize) -> String {
    format!("host-{n:05}")
}

/// Makes `agents` hosts of these names agents. Returns who they are, and how long each took.
///
/// # Panics
/// Where one is refused.
pub async fn join(client: &Client, agents: usize, name: fn(usize) -> String) -> (Vec<Identity>, Vec<Duration>) {
    let mut tokens: Vec<JoinToken> = Vec::new();
    for from in (0..agents).step_by(USES_MAX) {
        let uses = u32::try_from(USES_MAX.min(agents - from)).expect("at most 10,000");
        let token = client.create_token(uses, "1h").await.expect("a token");
        tokens.push(token["token"].as_str().expect("text").parse().expect("a token"));
    }
    let (tokens, clock, mut desks) = (Arc::new(tokens), SystemClock::shared(), JoinSet::new());
    for desk in 0..SIDE_BY_SIDE {
        let (tokens, clock) = (Arc::clone(&tokens), SharedClock::clone(&clock));
        desks.spawn(async move {
            let mut joined = Vec::new();
            for n in (desk..agents).step_by(SIDE_BY_SIDE) {
                let began = clock.monotonic();
                let identity = one(&tokens[n / USES_MAX], n, name(n), &clock).await;
                joined.push((identity, clock.monotonic() - began));
            }
            joined
        });
    }
    let joined = desks.join_all().await;
    joined.into_iter().flatten().unzip()
}

async fn one(token: &JoinToken, n: usize, name: String, clock: &SharedClock) -> Identity {
    let tasks = Tasks::new(Stop::new());
    let config = Arc::new(tls::pinned_client_config(token.pin, clock).expect("TLS"));
    let mut connection = Connection::open(&Dialer::tcp(), &token.address, config, &tasks).await.expect("a connection");
    let key = NewKey::generate().expect("a key");
    let machine = keyvigil_common::hex(&sha256(format!("simulated machine {n}").as_bytes()));
    let body = json!({"id": token.id, "secret": *token.secret, "csr": key.csr, "hostname": name, "machine": machine});
    let answer = connection.post("/v1/join", "application/json", body.to_string().into_bytes()).await.expect("an answer");
    assert!(answer.status.is_success(), "{}", answer.detail());
    let granted: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let text = |name: &str| granted[name].as_str().expect("text").to_owned();
    key.into_identity(token.address.clone(), text("certificate"), text("ca"), text("agent"), text("host"))
}
