//! Joining with a token, and renewal at half of the certificate's life, when the aggregator asks for it, and when the
//! certificate was refused. The pin of the token is compared before the secret is sent. Renewal is live: the uplink sees the
//! new identity, nothing restarts; the old certificate stays good until it ends. What fails leaves everything as it was.

mod renewal;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::backoff::{Backoff, random_u64};
use keyvigil_common::clock::SharedClock;
use keyvigil_common::seal::write_private;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::chain;
use keyvigil_common::tls::{self, TlsError};
use keyvigil_common::token::JoinToken;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use crate::http::{Answer, Connection, Dialer, Fault, HttpError};
use crate::identity::{Identity, IdentityError, NewKey};
use crate::rootfs::RootFs;
use crate::standing::Board;
pub use renewal::Renewal;

/// The one thing that lets a running agent take another name.
pub const RESTART: &str = "restart the agent: `systemctl restart keyvigil-agent`";
/// How often renewal is considered: the wall clock may be set, and a host may sleep.
const CHECK: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Certificates that were of use for longer than this are no sign of a loop.
const SETTLED: Duration = Duration::from_secs(600);

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
pub async fn join(token: &JoinToken, dir: &Path, root: &RootFs, hostname: &str, dialer: &Dialer, clock: &SharedClock) -> Result<Identity, EnrollError> {
    std::fs::create_dir_all(dir).map_err(|e| IdentityError::file(dir, e))?;
    let tasks = Tasks::new(Stop::new());
    let config = Arc::new(tls::pinned_client_config(token.pin, clock)?);
    let mut connection = Connection::open(dialer, &token.address, config, &tasks).await?;
    let key = NewKey::generate()?;
    let body = json!({"id": token.id, "secret": *token.secret, "csr": key.csr, "hostname": hostname, "machine": machine(root, dir)?});
    let answer = connection.post("/v1/join", "application/json", body.to_string().into_bytes()).await?;
    let identity = granted(&answer, key, &token.address, clock)?;
    identity.save(dir)?;
    Ok(identity)
}

/// The identity that an answer gives to `key`. Whether its parts fit is known before it is stored.
fn granted(answer: &Answer, key: NewKey, address: &str, clock: &SharedClock) -> Result<Identity, EnrollError> {
    if !answer.status.is_success() {
        return Err(EnrollError::Refused { code: answer.code().unwrap_or_default(), detail: answer.detail() });
    }
    let granted: Granted = serde_json::from_slice(&answer.body).map_err(|e| EnrollError::Answer(e.to_string()))?;
    let identity = key.into_identity(address.to_owned(), granted.certificate, granted.ca, granted.agent, granted.host);
    identity.tls(clock)?;
    let (from_ms, to_ms) = identity.validity_ms()?;
    if (from_ms..to_ms).contains(&clock.now_ms()) { Ok(identity) } else { Err(EnrollError::Clock) }
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
    /// Wishes to renew sooner.
    pub renewal: Renewal,
    /// How it stands, for those who ask.
    pub board: Board,
    /// How to connect.
    pub dialer: Dialer,
    /// Time.
    pub clock: SharedClock,
    /// For connections.
    pub tasks: Tasks,
}

impl Renewer {
    /// Renews when half of the certificate's life is over, give or take a tenth, or sooner if that is wished, until stopped.
    pub async fn run(self) {
        let stop = self.tasks.stop().clone();
        let jitter = 0.45 + 0.1 * (random_u64() as f64 / u64::MAX as f64);
        let (mut wishes, mut backoff, mut pause) = (self.renewal.wishes(), Backoff::new(RETRY_FIRST, CHECK), Pause::default());
        loop {
            let identity = self.identity.borrow().clone();
            match self.joined(&identity) {
                Ok(Some(joined)) => {
                    tracing::info!("the host has joined again");
                    self.replace(joined);
                    continue;
                }
                Err(EnrollError::Renamed(host)) => self.renamed(host),
                Ok(None) => {
                    self.board.rejoined(None);
                }
                // Renewal will say what is wrong with the disk.
                Err(_) => {}
            }
            let wait = self.until_due(&identity, jitter, &pause);
            if wait > Duration::ZERO {
                let woken = async {
                    tokio::select! {
                        _ = wishes.changed() => {}
                        () = self.clock.sleep(wait) => {}
                    }
                };
                match stop.or(woken).await {
                    None => return,
                    Some(()) => continue,
                }
            }
            let delay = match stop.or(self.renewed(&identity)).await {
                None => return,
                Some(Ok(renewed)) => {
                    tracing::info!("certificate renewed");
                    backoff.reset();
                    let left_ms = renewed.validity_ms().map_or(0, |(_, to_ms)| u64::try_from(to_ms - self.clock.now_ms()).unwrap_or(0));
                    pause.renewed(self.clock.monotonic(), Duration::from_millis(left_ms), jitter);
                    self.replace(renewed);
                    continue;
                }
                Some(Err(e)) => {
                    let delay = backoff.delay(random_u64(), None);
                    self.board.renewal(self.clock.now_ms(), Some((chain(&e), e.remedy())));
                    if backoff.failures().is_power_of_two() || backoff.failures() < 4 {
                        tracing::warn!(
                            error = chain(&e),
                            remedy = e.remedy(),
                            retry_in_ms = delay.as_millis(),
                            "certificate not renewed; the one there is stays"
                        );
                    }
                    delay
                }
            };
            if stop.or(self.clock.sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    fn replace(&self, identity: Identity) {
        self.renewal.done();
        self.board.renewal(self.clock.now_ms(), None);
        self.identity.send_replace(identity);
    }

    /// Tells once that `keyvigil-agent join` gave this host another name: what is sampled bears the old one until a restart.
    fn renamed(&self, host: String) {
        if self.board.rejoined(Some(host.clone())) {
            tracing::warn!(host, remedy = RESTART, "this host was joined again under another name, and this process goes on under the old one");
        }
    }

    /// Time until the renewal is due; looked at again each minute.
    fn until_due(&self, identity: &Identity, share: f64, pause: &Pause) -> Duration {
        let now = self.clock.monotonic();
        let wished = self.renewal.due().map(|due| due.max(pause.any).saturating_sub(now));
        // One that does not parse can only be replaced by joining.
        let by_age = identity.validity_ms().map_or(CHECK, |(from_ms, to_ms)| {
            let due = from_ms + ((to_ms - from_ms) as f64 * share) as i64;
            Duration::from_millis(u64::try_from(due - self.clock.now_ms()).unwrap_or(0))
        });
        by_age.max(pause.by_age.max(pause.any).saturating_sub(now)).min(CHECK).min(wished.unwrap_or(CHECK))
    }

    /// A new identity, by the newest certificate or the one before it.
    async fn renewed(&self, held: &Identity) -> Result<Identity, EnrollError> {
        let failure = match self.renew(held).await {
            Ok(renewed) => return self.store(held, renewed),
            Err(failure) => failure,
        };
        // Should the newest certificate be of no use, the one before it may be: a CA that was taken back, an aggregator that
        // was restored from a backup.
        let Some(previous) = held.previous().filter(|_| failure.is_of_certificate()) else { return Err(failure) };
        match self.renew(previous).await {
            Ok(renewed) => self.store(held, renewed),
            Err(_) => Err(failure),
        }
    }

    async fn renew(&self, identity: &Identity) -> Result<Identity, EnrollError> {
        let key = NewKey::generate()?;
        let mut connection = Connection::open(&self.dialer, &identity.address, identity.tls(&self.clock)?, &self.tasks).await?;
        let answer = connection.post("/v1/renew", "application/json", json!({"csr": key.csr}).to_string().into_bytes()).await?;
        let renewed = granted(&answer, key, &identity.address, &self.clock)?;
        if renewed.agent == identity.agent { Ok(renewed.after(identity)) } else { Err(EnrollError::Answer("it is a certificate for another agent".into())) }
    }

    /// Stores it, unless somebody has joined meanwhile.
    fn store(&self, held: &Identity, renewed: Identity) -> Result<Identity, EnrollError> {
        if let Some(joined) = self.joined(held)? {
            return Ok(joined);
        }
        renewed.save(&self.dir)?;
        Ok(renewed)
    }

    /// What lies in the directory, if it is not what this process holds: `keyvigil-agent join` was run beside it.
    fn joined(&self, held: &Identity) -> Result<Option<Identity>, EnrollError> {
        let stored = Identity::load(&self.dir)?.filter(|stored| stored.certificate != held.certificate);
        match stored {
            // The host's name stands in all that is sampled.
            Some(stored) if stored.host != held.host => Err(EnrollError::Renamed(stored.host)),
            stored => Ok(stored),
        }
    }
}

/// When the next renewal may be, whatever asks for it: by a clock that runs days ahead, or with a life shorter than what an
/// aggregator dates its certificates back, each new certificate is past half of its life already.
#[derive(Debug)]
struct Pause {
    /// By age: monotonic; half of what the certificate had left when it came.
    by_age: Duration,
    /// For any cause: monotonic.
    any: Duration,
    last: Option<Duration>,
    backoff: Backoff,
}

impl Default for Pause {
    fn default() -> Self {
        Self { by_age: Duration::ZERO, any: Duration::ZERO, last: None, backoff: Backoff::new(RETRY_FIRST, CHECK) }
    }
}

impl Pause {
    /// A certificate came that is valid for `left` from now on.
    fn renewed(&mut self, now: Duration, left: Duration, share: f64) {
        if self.last.is_none_or(|last| now.saturating_sub(last) > SETTLED) {
            self.backoff.reset();
        }
        self.last = Some(now);
        self.any = now + self.backoff.delay(random_u64(), None);
        self.by_age = now + left.mul_f64(share);
    }
}

/// Why joining or renewing failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The way there.
    #[error("cannot speak with the aggregator")]
    Http(#[from] HttpError),
    /// The aggregator said no.
    #[error("the aggregator refused: {detail}")]
    Refused {
        /// As problem documents call it; empty where it has no name.
        code: String,
        /// Why.
        detail: String,
    },
    /// Clocks that do not agree.
    #[error("the certificate that the aggregator made is not valid by this host's clock: compare the clocks of both; what was there before stays in use")]
    Clock,
    /// Joined under another name.
    #[error("this host was joined again, as {0}: restart the agent")]
    Renamed(String),
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

impl EnrollError {
    /// What the refusal of a certificate means.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        Fault::of(self)
    }

    /// What mends it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Http(e) => e.remedy(),
            Self::Refused { code, .. } if code == "clock" => "compare the clocks of this host and of the aggregator",
            Self::Refused { .. } => "if it stays so, join this host again with a new token; what is buffered is kept",
            Self::Clock => "compare the clocks of both; the agent goes on by itself once they agree",
            Self::Renamed(_) => RESTART,
            Self::Answer(_) | Self::Tls(_) => "nothing is lost by it; if it stays so, look at the aggregator's log",
            Self::Identity(e) => e.remedy(),
        }
    }

    /// Whether another certificate might be taken.
    fn is_of_certificate(&self) -> bool {
        match self {
            Self::Refused { code, .. } => !code.is_empty(),
            Self::Http(_) => self.fault().is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_past_half_of_its_life_when_it_comes_is_not_renewed_at_once_again_and_again() {
        let (mut pause, mut now, mut renewals) = (Pause::default(), Duration::ZERO, 0);
        let day = Duration::from_secs(86_400);
        // By a clock that runs five days ahead, each certificate of seven days has two left.
        while now < day * 2 {
            pause.renewed(now, day * 2, 0.5);
            (now, renewals) = (pause.by_age.max(pause.any), renewals + 1);
        }
        assert_eq!(renewals, 2);
        // Refused as soon as it is there: whatever asks for the next, the waits grow.
        let began = now;
        for _ in 0..20 {
            pause.renewed(now, day * 7, 0.5);
            now = pause.any;
        }
        assert!(now - began > Duration::from_secs(30), "twenty renewals within {:?}", now - began);
    }
}
