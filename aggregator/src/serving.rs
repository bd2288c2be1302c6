//! The certificates that the aggregator's own listeners show, and whom they trust: watched values that are made anew at
//! half of their life, and at each step in the replacement of the CA. Connections that come then get the new ones.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::stop::Stop;
use keyvigil_common::tls::{self, TlsError};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::authority::{Authority, AuthorityError, SERVER_DAYS};

const LOOK: Duration = Duration::from_secs(60);

type Watched = Arc<ArcSwap<ServerConfig>>;

/// TLS of all listeners.
#[derive(Debug)]
pub struct Serving {
    authority: Arc<Authority>,
    names: Vec<String>,
    grace: Duration,
    clock: SharedClock,
    issued_ms: i64,
    steps: watch::Receiver<u64>,
    ingest: Watched,
    web: Watched,
}

impl Serving {
    /// Certificates for `names`; agents whose certificate ended no longer than `grace` ago are let in to renew.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn new(authority: Arc<Authority>, names: Vec<String>, grace: Duration, clock: SharedClock) -> Result<Self, ServingError> {
        // A step between the making of the first ones and the first look is not to be missed.
        let (issued_ms, steps) = (clock.now_ms(), authority.steps());
        let (ingest, web) = make(&authority, &names, grace, &clock)?;
        let watched = |config| Arc::new(ArcSwap::from_pointee(config));
        Ok(Self { authority, names, grace, clock, issued_ms, steps, ingest: watched(ingest), web: watched(web) })
    }

    /// For the listener of agents.
    #[must_use]
    pub fn ingest(&self) -> Watched {
        Arc::clone(&self.ingest)
    }

    /// For the others.
    #[must_use]
    pub fn web(&self) -> Watched {
        Arc::clone(&self.web)
    }

    /// Renews until stopped.
    pub async fn renew(mut self, stop: Stop) {
        let half_ms = SERVER_DAYS * 86_400_000 / 2;
        let mut steps = self.steps.clone();
        loop {
            let stepped = stop.or(async {
                tokio::select! {
                    changed = steps.changed() => changed.is_ok(),
                    // By the wall clock: a host that slept, or whose clock was set, must not serve an ended one.
                    () = self.clock.sleep(LOOK) => false,
                }
            });
            let Some(stepped) = stepped.await else { return };
            let now_ms = self.clock.now_ms();
            if !stepped && (now_ms - self.issued_ms).abs() < half_ms {
                continue;
            }
            match make(&self.authority, &self.names, self.grace, &self.clock) {
                Ok((ingest, web)) => {
                    self.ingest.store(Arc::new(ingest));
                    self.web.store(Arc::new(web));
                    self.issued_ms = now_ms;
                    tracing::info!("the aggregator's certificates were renewed");
                }
                Err(e) => tracing::error!(error = %e, "the aggregator's certificates were not renewed"),
            }
        }
    }
}

fn make(authority: &Authority, names: &[String], grace: Duration, clock: &SharedClock) -> Result<(ServerConfig, ServerConfig), ServingError> {
    let now_ms = clock.now_ms();
    let agents = authority.server_identity(names, now_ms)?;
    let ingest = tls::server_config(agents.chain, agents.key, &authority.certificates(), grace, clock)?;
    let others = authority.server_identity(names, now_ms)?;
    Ok((ingest, tls::web_config(others.chain, others.key)?))
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// CA.
    #[error("certificate authority")]
    Authority(#[from] AuthorityError),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
}
