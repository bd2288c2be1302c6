//! How a host becomes an agent: join tokens (one secret, stored as a hash, with uses and an end), first certificates, and
//! renewal. A join is safe to repeat: the same key with the same token within ten minutes gets its identity again.

use std::sync::Arc;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::tls::{Identity, Shown, Validity};
use keyvigil_common::token::JoinToken;
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, AuthorityError};
use crate::fleet::{self, Agent, Credentials, Fleet, Joined, Used};
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
    /// Who used it, by versions that noted it here: SHA-256 of the request's key, agent, and when. Now an agent's own record
    /// tells how it joined.
    pub used: Vec<Use>,
    /// How often it was used since.
    #[serde(default)]
    pub count: u32,
}

impl TokenRecord {
    /// Whether `secret` is the one that it was made with; takes as long whatever it is.
    fn is_proved_by(&self, secret: &str) -> bool {
        let given = JoinToken::secret_hash(secret);
        aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), self.secret_hash.as_bytes()).is_ok()
    }

    /// How often it was used.
    #[must_use]
    pub fn times_used(&self) -> u32 {
        self.count.saturating_add(u32::try_from(self.used.len()).unwrap_or(u32::MAX))
    }
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
        let record = TokenRecord { secret_hash, created_ms: now_ms, expires_ms: now_ms + life_ms, uses, used: Vec::new(), count: 0 };
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
        // Who shows no token is refused before the one writer of all has work by it.
        let id = request.id.clone();
        let token = self.store.read(move |connection, ring| ledger::token::<TokenRecord>(connection, ring, &id)).await?;
        if !token.is_some_and(|(_, token)| token.is_proved_by(&request.secret)) {
            return Err(EnrollError::Token);
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
        if !token.is_proved_by(&request.secret) {
            return Err(EnrollError::Token);
        }
        let key = keyvigil_common::hex(&keyvigil_common::sha256(request.csr.as_bytes()));
        let noted = token.used.iter().find(|u| u.key == key && now_ms - u.at_ms <= REPEAT_MS).map(|before| before.agent.clone());
        let repeated = noted.or_else(|| self.fleet.of_join(tenant_id, &request.id, &key, now_ms - REPEAT_MS).map(|before| before.id));
        let id = match &repeated {
            Some(before) => before.clone(),
            None if token.expires_ms <= now_ms => return Err(EnrollError::Expired),
            None if token.times_used() >= token.uses => return Err(EnrollError::Used),
            // The same machine stays who it was, so that its stream goes on; one that was revoked does not.
            None => match self.fleet.of_machine(tenant_id, &request.machine) {
                // Its revocation may be part of this very commit.
                Some(before) if !tx.get::<Agent>(ledger::Table::Agent, tenant_id, &before.id)?.is_some_and(|stored| stored.revoked) => before.id,
                _ => keyvigil_common::hex(&keyvigil_common::random::<16>()),
            },
        };
        let identity = Identity { tenant: tenant::DEFAULT.into(), agent: id.clone() };
        let issued = self.authority.sign_agent(&request.csr, &identity, now_ms, self.life_ms)?;
        let before = match self.fleet.decided(tenant_id, &id) {
            Some(before) => before,
            None => {
                // What it delivered as another is not taken for new when its buffer sends it again.
                for before in self.fleet.earlier_of_machine(tenant_id, &request.machine) {
                    tx.inherit_streams(tenant_id, &before, &id)?;
                }
                self.new_agent(tx, tenant_id, &identity, host, &request.machine)?
            }
        };
        // Whatever certificate it had, this one counts.
        let credentials = Credentials { granted_by: issued.issuer, granted_trusts: issued.trusts, used: None, trusts: None };
        let mut agent = Agent { certificate_expires_ms: issued.not_after_ms, credentials, ..before };
        if repeated.is_none() {
            agent.joined = Some(Joined { token: request.id.clone(), key, at_ms: now_ms });
            token.count += 1;
            tx.put_token(tenant_id, &request.id, &token)?;
        }
        self.put(tx, tenant_id, agent.clone())?;
        let answer = JoinAnswer { certificate: issued.pem, ca: issued.ca, agent: agent.id.clone(), host: agent.host.clone() };
        Ok((agent, answer))
    }

    fn new_agent(&self, tx: &Tx<'_>, tenant: TenantId, identity: &Identity, host: &str, machine: &str) -> Result<Agent, EnrollError> {
        let now_ms = self.clock.now_ms();
        let host = self.fleet.claim(tenant, host, &identity.agent, now_ms);
        for before in self.fleet.abandoned(tenant, &host, now_ms) {
            self.put(tx, tenant, Agent { revoked: true, ..before })?;
        }
        Ok(Agent::joining(identity, host, machine, now_ms))
    }

    /// Whether an agent with this certificate may do what every agent may; notes what it showed.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, tenant: TenantId, shown: &Shown) -> Result<(), EnrollError> {
        let agent = self.known(tenant, shown)?;
        match shown.validity(self.clock.now_ms()) {
            Validity::Current => {}
            Validity::Ended => return Err(EnrollError::Ended),
            Validity::Early => return Err(EnrollError::Early),
        }
        if agent.credentials.used.as_ref().is_none_or(|used| used.serial != shown.serial) {
            let used = Used { serial: shown.serial.clone(), issuer: shown.issuer.clone(), not_before_ms: shown.not_before_ms };
            self.fleet.note(tenant, &agent.id, |credentials| credentials.used = Some(used));
        }
        Ok(())
    }

    fn known(&self, tenant: TenantId, shown: &Shown) -> Result<Agent, EnrollError> {
        let agent = self.fleet.get(tenant, &shown.identity.agent).filter(|agent| agent.tenant == shown.identity.tenant).ok_or(EnrollError::Unknown)?;
        if agent.revoked {
            return Err(EnrollError::Revoked);
        }
        // The connection may be older than the step that dropped its CA.
        if self.authority.accepts(&shown.issuer) { Ok(agent) } else { Err(EnrollError::Retired) }
    }

    /// Signs a new certificate for an agent that showed its old one, which may have ended. One that ended counts only while
    /// no newer one was used: a copied key is worth nothing once the certificate that was copied with it has ended.
    ///
    /// # Errors
    /// An agent that is not known or revoked, a request that is not valid; the store's.
    pub async fn renew(&self, tenant: TenantId, shown: &Shown, csr: String) -> Result<JoinAnswer, EnrollError> {
        let agent = self.known(tenant, shown)?;
        let now_ms = self.clock.now_ms();
        let validity = shown.validity(now_ms);
        let newer = |used: &Used| used.serial != shown.serial && used.not_before_ms > shown.not_before_ms;
        if validity == Validity::Ended && agent.credentials.used.as_ref().is_some_and(newer) {
            return Err(EnrollError::Duplicate);
        }
        let issued = self.authority.sign_agent(&csr, &shown.identity, now_ms, self.life_ms)?;
        let (fleet, id, expires_ms) = (Arc::clone(&self.fleet), agent.id.clone(), issued.not_after_ms);
        let (issuer, trusts) = (issued.issuer, issued.trusts);
        let grant = move |agent: &mut Agent| {
            agent.certificate_expires_ms = expires_ms;
            (agent.credentials.granted_by, agent.credentials.granted_trusts) = (issuer.clone(), trusts.clone());
            if validity == Validity::Early {
                // Made by a clock that ran ahead: it must not outrank those that come now.
                agent.credentials.used = None;
            }
        };
        let renew = move |tx: &Tx<'_>| {
            if fleet::get(tx, tenant, &id)?.revoked {
                return Ok(false);
            }
            fleet::change(&fleet, tx, tenant, &id, grant).map(|_| true)
        };
        if !self.store.write(renew).await? {
            return Err(EnrollError::Revoked);
        }
        if validity != Validity::Current {
            tracing::info!(host = agent.host, agent = agent.id, ?validity, "renewed a certificate that was out of its time");
        }
        Ok(JoinAnswer { certificate: issued.pem, ca: issued.ca, agent: agent.id, host: agent.host })
    }

    /// Revokes agents, by id, or by host name: the ones that may deliver under it.
    ///
    /// # Errors
    /// There is none; the store's.
    pub async fn revoke(&self, tenant: TenantId, wanted: String) -> Result<Vec<Agent>, StoreError> {
        let (fleet, now_ms) = (Arc::clone(&self.fleet), self.clock.now_ms());
        let revoke = move |tx: &Tx<'_>| {
            let mut meant: Vec<Agent> = fleet.list(tenant).into_iter().filter(|a| a.id == wanted || a.host == wanted).collect();
            // Of those that had the name, the ones that may deliver; where there is none, what was asked for is so already.
            if meant.iter().any(|a| !a.revoked) {
                meant.retain(|a| !a.revoked || a.id == wanted);
            }
            let revoked = meant.into_iter().map(|a| fleet::change(&fleet, tx, tenant, &a.id, |agent| agent.revoked = true)).collect::<Result<Vec<_>, _>>()?;
            if revoked.is_empty() { Err(StoreError::Missing("this agent".into())) } else { Ok(revoked) }
        };
        let revoked = self.store.write(revoke).await?;
        for agent in &revoked {
            tracing::warn!(host = agent.host, agent = agent.id, at_ms = now_ms, "agent revoked");
        }
        Ok(revoked)
    }

    fn put(&self, tx: &Tx<'_>, tenant: TenantId, agent: Agent) -> Result<(), StoreError> {
        fleet::enter(tx, tenant, &agent)?;
        let (fleet, now_ms, expected) = (Arc::clone(&self.fleet), self.clock.now_ms(), self.fleet.expect(tenant, &agent));
        tx.after_commit(move || {
            fleet.set(tenant, agent, now_ms);
            drop(expected);
        });
        Ok(())
    }
}

impl EnrollError {
    /// What a program goes by.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Token => Some("token_unknown"),
            Self::Expired => Some("token_expired"),
            Self::Used => Some("token_used"),
            Self::Unknown => Some("unknown"),
            Self::Revoked => Some("revoked"),
            Self::Ended => Some("expired"),
            Self::Early => Some("clock"),
            Self::Retired => Some("retired"),
            Self::Duplicate => Some("duplicate"),
            Self::Invalid(_) | Self::Authority(_) | Self::Store(_) => None,
        }
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
    #[error("this aggregator does not know the agent: join it again with a new token")]
    Unknown,
    /// Revoked.
    #[error("this agent was revoked: if that was not meant, join it again with a new token; its data is kept until then")]
    Revoked,
    /// Its certificate is over.
    #[error("the agent's certificate has ended: renew it first, this is all that may be done with it")]
    Ended,
    /// Its certificate is not valid yet.
    #[error("the agent's certificate is not valid yet by the aggregator's clock: renew it, and compare the clocks of both")]
    Early,
    /// Of a CA that is not trusted any more.
    #[error("the agent's certificate is of a CA that was retired: join it again with a new token")]
    Retired,
    /// A newer certificate of the agent was used.
    #[error("the certificate has ended, and a newer one of this agent was used: this is a copy of it, or comes from an old backup; join it with a new token")]
    Duplicate,
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
