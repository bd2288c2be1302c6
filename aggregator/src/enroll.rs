//! How a host becomes an agent: join tokens (one secret, stored as a hash, with uses and an end), first certificates, and
//! renewal. A join is safe to repeat: the same key with the same token within ten minutes gets its identity again.

use std::sync::Arc;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::tls::Identity;
use keyvigil_common::token::JoinToken;
use keyvigil_common::wire::HostFacts;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, AuthorityError};
use crate::fleet::{self, Agent, Fleet};
use crate::index::TenantId;
use crate::store::{Store, StoreError, Tx, ledger};
use crate::tenant;

/// A join may be repeated for this long, ms.
const REPEAT_MS: i64 = 600_000;
/// Longest life of a token, ms.
const TOKEN_LIFE_MS_MAX: i64 = 24 * 3_600_000;
/// Bytes of a host name.
const HOST_BYTES_MAX: usize = 255;

/// A join token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Hash of the secret.
    pub secret_hash: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Unix ms.
    pub expires_ms: i64,
    /// How often it may be used.
    pub uses: u32,
    /// Who used it: SHA-256 of the request's key, agent, and when.
    pub used: Vec<Use>,
}

/// One use of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// SHA-256 of the CSR's public key.
    pub key: String,
    /// The agent that came of it.
    pub agent: String,
    /// Unix ms.
    pub at_ms: i64,
}

/// What a joining host sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Token id.
    pub id: String,
    /// Token secret.
    pub secret: String,
    /// Certificate request, PEM.
    pub csr: String,
    /// Host name.
    pub hostname: String,
    /// Hash of the machine's id.
    pub machine: String,
}

/// What it gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// Its certificate, PEM.
    pub certificate: String,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// Its identity.
    pub agent: String,
    /// The value of its `host` tag.
    pub host: String,
}

/// The desk where hosts join.
#[derive(Debug, Clone)]
pub struct Enroll {
    store: Store,
    fleet: Arc<Fleet>,
    authority: Arc<Authority>,
    clock: SharedClock,
    life_ms: i64,
}

impl Enroll {
    /// A desk that signs certificates of `life_ms`.
    #[must_use]
    pub fn new(store: Store, fleet: Arc<Fleet>, authority: Arc<Authority>, clock: SharedClock, life_ms: i64) -> Self {
        Self { store, fleet, authority, clock, life_ms }
    }

    /// Makes a token for agents that reach this aggregator at `address`.
    ///
    /// # Errors
    /// A life or number of uses that is not allowed, or the store's.
    pub async fn create_token(&self, tenant: TenantId, address: &str, uses: u32, life_ms: i64) -> Result<(JoinToken, TokenRecord), EnrollError> {
        if !(1..=10_000).contains(&uses) || !(1_000..=TOKEN_LIFE_MS_MAX).contains(&life_ms) {
            return Err(EnrollError::Invalid("a token has 1 to 10000 uses and lives 1 s to 24 h".into()));
        }
        let token = JoinToken::generate(address, self.authority.pin());
        let now_ms = self.clock.now_ms();
        let secret_hash = JoinToken::secret_hash(&token.secret);
        let record = TokenRecord { secret_hash, created_ms: now_ms, expires_ms: now_ms + life_ms, uses, used: Vec::new() };
        let (id, stored) = (token.id.clone(), record.clone());
        self.store.write(move |tx| tx.put_token(tenant, &id, &stored)).await?;
        Ok((token, record))
    }

    /// All tokens of a tenant.
    ///
    /// # Errors
    /// The store's.
    pub async fn tokens(&self, tenant: TenantId) -> Result<Vec<(String, TokenRecord)>, StoreError> {
        let all = self.store.read(ledger::tokens::<TokenRecord>).await?;
        Ok(all.into_iter().filter(|(at, _, _)| *at == tenant).map(|(_, id, record)| (id, record)).collect())
    }

    /// Revokes a token; whether it was there.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoke_token(&self, id: String) -> Result<bool, StoreError> {
        self.store.write(move |tx| tx.delete_token(&id)).await
    }

    /// Makes a host an agent.
    ///
    /// # Errors
    /// A token or request that is not valid; the store's.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinAnswer, EnrollError> {
        let host = request.hostname.trim().to_owned();
        if host.is_empty() || host.len() > HOST_BYTES_MAX || host.chars().any(char::is_control) {
            return Err(EnrollError::Invalid("hostname must have 1 to 255 bytes and no control characters".into()));
        }
        let this = self.clone();
        // A refusal has written nothing; a fault of the store rolls back what it had.
        let decide = move |tx: &Tx<'_>| match this.admit(tx, &request, &host) {
            Err(EnrollError::Store(fault)) => Err(fault),
            outcome => Ok(outcome),
        };
        let outcome = self.store.write(decide).await?;
        let (agent, answer) = outcome?;
        tracing::info!(host = agent.host, agent = agent.id, "host joined");
        Ok(answer)
    }

    /// Decides on a join inside its transaction.
    fn admit(&self, tx: &Tx<'_>, request: &JoinRequest, host: &str) -> Result<(Agent, JoinAnswer), EnrollError> {
        let now_ms = self.clock.now_ms();
        let (tenant_id, mut token) = tx.get_token::<TokenRecord>(&request.id)?.ok_or(EnrollError::Token)?;
        let given = JoinToken::secret_hash(&request.secret);
        if aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), token.secret_hash.as_bytes()).is_err() {
            return Err(EnrollError::Token);
        }
        let key = keyvigil_common::hex(&keyvigil_common::sha256(request.csr.as_bytes()));
        let repeated = token.used.iter().find(|u| u.key == key && now_ms - u.at_ms <= REPEAT_MS).cloned();
        let id = match &repeated {
            Some(before) => before.agent.clone(),
            None if token.expires_ms <= now_ms => return Err(EnrollError::Expired),
            None if token.used.len() >= token.uses as usize => return Err(EnrollError::Used),
            // The same machine stays who it was, so that its stream goes on; one that was revoked does not.
            None => match self.fleet.of_machine(tenant_id, &request.machine) {
                Some(before) => before.id,
                None => keyvigil_common::hex(&keyvigil_common::random::<16>()),
            },
        };
        let identity = Identity { tenant: tenant::DEFAULT.into(), agent: id.clone() };
        let issued = self.authority.sign_agent(&request.csr, &identity, now_ms, self.life_ms)?;
        let agent = match self.fleet.get(tenant_id, &id) {
            Some(before) => Agent { certificate_expires_ms: issued.not_after_ms, ..before },
            None => self.new_agent(tx, tenant_id, &identity, host, &request.machine, issued.not_after_ms)?,
        };
        if repeated.is_none() {
            token.used.push(Use { key, agent: id, at_ms: now_ms });
            tx.put_token(tenant_id, &request.id, &token)?;
        }
        self.put(tx, tenant_id, agent.clone())?;
        let answer = JoinAnswer { certificate: issued.pem, ca: self.authority.pem().to_owned(), agent: agent.id.clone(), host: agent.host.clone() };
        Ok((agent, answer))
    }

    fn new_agent(&self, tx: &Tx<'_>, tenant: TenantId, identity: &Identity, host: &str, machine: &str, expires_ms: i64) -> Result<Agent, EnrollError> {
        let now_ms = self.clock.now_ms();
        let host = self.fleet.claim(tenant, host, &identity.agent, now_ms);
        for before in self.fleet.abandoned(tenant, &host, now_ms) {
            self.put(tx, tenant, Agent { revoked: true, ..before })?;
        }
        Ok(Agent {
            id: identity.agent.clone(),
            tenant: identity.tenant.clone(),
            host,
            machine: machine.chars().take(64).collect(),
            enrolled_ms: now_ms,
            last_seen_ms: None,
            last_sample_ms: None,
            certificate_expires_ms: expires_ms,
            revoked: false,
            interval_ms: 0,
            facts: HostFacts::default(),
            cursor: 0,
            clock_offset_ms: None,
            twins: Vec::new(),
        })
    }

    /// Signs a new certificate for an agent that showed its old one.
    ///
    /// # Errors
    /// An agent that is not known or revoked, a request that is not valid; the store's.
    pub async fn renew(&self, tenant: TenantId, identity: &Identity, csr: String) -> Result<JoinAnswer, EnrollError> {
        let agent = self.fleet.get(tenant, &identity.agent).filter(|a| !a.revoked).ok_or(EnrollError::Unknown)?;
        let issued = self.authority.sign_agent(&csr, identity, self.clock.now_ms(), self.life_ms)?;
        let (this, id, expires_ms) = (self.clone(), identity.agent.clone(), issued.not_after_ms);
        let renew = move |tx: &Tx<'_>| {
            let stored = fleet::get(tx, tenant, &id)?;
            if !stored.revoked {
                this.put(tx, tenant, Agent { certificate_expires_ms: expires_ms, ..stored.clone() })?;
            }
            Ok(stored.revoked)
        };
        if self.store.write(renew).await? {
            return Err(EnrollError::Unknown);
        }
        Ok(JoinAnswer { certificate: issued.pem, ca: self.authority.pem().to_owned(), agent: agent.id, host: agent.host })
    }

    fn put(&self, tx: &Tx<'_>, tenant: TenantId, agent: Agent) -> Result<(), StoreError> {
        fleet::put(tx, tenant, &agent)?;
        let (fleet, now_ms) = (Arc::clone(&self.fleet), self.clock.now_ms());
        tx.after_commit(move || fleet.set(tenant, agent, now_ms));
        Ok(())
    }
}

/// Why a host could not join or renew.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Unknown id or wrong secret: which of them is not said.
    #[error("the join token is not known here: make one with `keyvigil token create`")]
    Token,
    /// Too old.
    #[error("the join token has expired: make a new one with `keyvigil token create`")]
    Expired,
    /// Used up.
    #[error("the join token was used already: make a new one with `keyvigil token create`")]
    Used,
    /// Not enrolled.
    #[error("this agent is not known or was revoked: join it again with a new token")]
    Unknown,
    /// A field that is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The request.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// The store.
    #[error("cannot store")]
    Store(#[from] StoreError),
}
