//! Joining with a token, and renewal at half of the certificate's life. The pin of the token is compared before the secret is
//! sent. Renewal is live: the uplink sees the new identity, nothing restarts; the old certificate stays good until it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::backoff::random_u64;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::seal::write_private;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::chain;
use keyvigil_common::tls::{self, TlsError};
use keyvigil_common::token::JoinToken;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use crate::http::{Connection, Dialer, HttpError};
use crate::identity::{Identity, IdentityError, NewKey};
use crate::rootfs::RootFs;

/// How often renewal is considered.
const CHECK: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
struct Granted {
    certificate: String,
    ca: String,
    agent: String,
    host: String,
}

/// Makes this host an agent and stores its identity in `dir`.
///
/// # Errors
/// What failed, in words.
pub async fn join(token: &JoinToken, dir: &Path, root: &RootFs, hostname: &str, dialer: &Dialer) -> Result<Identity, EnrollError> {
    std::fs::create_dir_all(dir).map_err(|e| IdentityError::file(dir, e))?;
    let tasks = Tasks::new(Stop::new());
    let config = Arc::new(tls::pinned_client_config(token.pin)?);
    let mut connection = Connection::open(dialer, &token.address, config, &tasks).await?;
    let key = NewKey::generate()?;
    let body = json!({"id": token.id, "secret": *token.secret, "csr": key.csr, "hostname": hostname, "machine": machine(root, dir)?});
    let answer = connection.post("/v1/join", "application/json", body.to_string().into_bytes()).await?;
    if !answer.status.is_success() {
        return Err(EnrollError::Refused(answer.detail()));
    }
    let granted: Granted = serde_json::from_slice(&answer.body).map_err(|e| EnrollError::Answer(e.to_string()))?;
    let identity = key.into_identity(token.address.clone(), granted.certificate, granted.ca, granted.agent, granted.host);
    // Whether its parts fit is known before it is stored.
    identity.tls()?;
    identity.save(dir)?;
    Ok(identity)
}

/// A hash that tells this installation from others, and tells nothing else: of the machine's id and of a seed that is made in
/// the state directory, since machines that were copied from one image share their id.
fn machine(root: &RootFs, dir: &Path) -> Result<String, IdentityError> {
    let id = root.read("/etc/machine-id").unwrap_or_default();
    let path = dir.join("machine.seed");
    let fault = |e: std::io::Error| IdentityError::file(&path, e);
    let seed = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let seed = keyvigil_common::hex(&keyvigil_common::random::<16>());
            write_private(&path, seed.as_bytes()).map_err(fault)?;
            seed
        }
        other => other.map_err(fault)?,
    };
    Ok(keyvigil_common::hex(&keyvigil_common::sha256(format!("keyvigil machine {} {}", id.trim(), seed.trim()).as_bytes())))
}

/// Renews the certificate while the agent runs.
#[derive(Debug)]
pub struct Renewer {
    /// Where the identity is stored.
    pub dir: PathBuf,
    /// Who it is, for everyone.
    pub identity: watch::Sender<Identity>,
    /// How to connect.
    pub dialer: Dialer,
    /// Time.
    pub clock: SharedClock,
    /// For connections.
    pub tasks: Tasks,
}

impl Renewer {
    /// Renews when half of the certificate's life is over, give or take a tenth, until stopped.
    pub async fn run(self) {
        let stop = self.tasks.stop().clone();
        let jitter = 0.45 + 0.1 * (random_u64() as f64 / u64::MAX as f64);
        loop {
            let identity = self.identity.borrow().clone();
            let wait = match identity.validity_ms() {
                Ok((from, to)) => self.until(from, to, jitter),
                Err(_) => CHECK,
            };
            if stop.or(self.clock.sleep(wait)).await.is_none() {
                return;
            }
            let Ok((from, to)) = identity.validity_ms() else { continue };
            if self.until(from, to, jitter) > Duration::ZERO {
                continue;
            }
            match self.renew(&identity).await {
                Ok(renewed) => {
                    tracing::info!("certificate renewed");
                    self.identity.send_replace(renewed);
                }
                Err(e) => {
                    tracing::warn!(error = chain(&e), "certificate not renewed; trying again");
                    let pause = CHECK.min(Duration::from_millis(u64::try_from((to - from) / 50).unwrap_or(1_000).max(1_000)));
                    if stop.or(self.clock.sleep(pause)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Time until the renewal is due; looked at again each minute, since the wall clock may be set.
    fn until(&self, from_ms: i64, to_ms: i64, share: f64) -> Duration {
        let due = from_ms + ((to_ms - from_ms) as f64 * share) as i64;
        Duration::from_millis(u64::try_from(due - self.clock.now_ms()).unwrap_or(0)).min(CHECK)
    }

    async fn renew(&self, identity: &Identity) -> Result<Identity, EnrollError> {
        let key = NewKey::generate()?;
        let mut connection = Connection::open(&self.dialer, &identity.address, identity.tls()?, &self.tasks).await?;
        let answer = connection.post("/v1/renew", "application/json", json!({"csr": key.csr}).to_string().into_bytes()).await?;
        if !answer.status.is_success() {
            return Err(EnrollError::Refused(answer.detail()));
        }
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|e| EnrollError::Answer(e.to_string()))?;
        let renewed = key.into_identity(identity.address.clone(), granted.certificate, granted.ca, granted.agent, granted.host);
        renewed.tls()?;
        renewed.save(&self.dir)?;
        Ok(renewed)
    }
}

/// Why joining or renewing failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The way there.
    #[error("cannot speak with the aggregator")]
    Http(#[from] HttpError),
    /// The aggregator said no.
    #[error("the aggregator refused: {0}")]
    Refused(String),
    /// An answer that makes no sense.
    #[error("the aggregator's answer is not understood: {0}")]
    Answer(String),
    /// Identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
}
