//! The chore of revocation: fetches the lists that are configured, asks them and those that lie on hosts about every
//! certificate of the fleet, and stores what changed. A list that cannot be fetched stays in force as it was, and is told of.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::crl::{self, Crl, Lines};
use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::limits::{CRL_BYTES_MAX, KEY_FILE_BYTES_MAX};
use keyvigil_common::telemetry::{Number, Registry, chain};
use reqwest::redirect;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::index::TenantId;
use crate::keys::revocation::{CrlSource, RevocationConfig, changed, lists_of};
use crate::keys::{Changed, Inventory, KeyRecord};
use crate::store::ledger::Table;
use crate::store::{Store, StoreError};

/// A server that takes longer is tried again at the next turn.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A list that could not be fetched, or is overdue, is asked for this often.
const RETRY_MS: i64 = 5 * 60_000;
/// Keys changed in one transaction.
const CHUNK: usize = 500;

/// The lists that are fetched, and how they stand.
#[derive(Debug)]
pub struct Revocations {
    store: Store,
    inventory: Arc<Inventory>,
    clock: SharedClock,
    tenant: TenantId,
    interval_ms: i64,
    client: reqwest::Client,
    lists: Mutex<Vec<List>>,
    failing: Number,
}

/// One list.
#[derive(Debug, Clone)]
struct List {
    source: CrlSource,
    state: ListState,
    known: Option<(KeyFacts, Arc<Lines>)>,
}

/// How a list stands, as the API shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListState {
    /// Where it comes from.
    pub url: String,
    /// Who issued it.
    pub issuer: Option<String>,
    /// How many certificates it revokes.
    pub revokes: Option<usize>,
    /// When it was made, Unix ms.
    pub this_update: Option<i64>,
    /// When the next one is due, Unix ms.
    pub next_update: Option<i64>,
    /// When it was last fetched, Unix ms.
    pub fetched: Option<i64>,
    /// When that was last tried, Unix ms.
    pub tried: Option<i64>,
    /// Why it could not be, if the latest try failed.
    pub error: Option<String>,
}

impl Revocations {
    /// The lists of `config`.
    ///
    /// # Errors
    /// No TLS to be had.
    pub fn new(
        config: &RevocationConfig,
        store: Store,
        inventory: Arc<Inventory>,
        clock: SharedClock,
        tenant: TenantId,
        registry: &Registry,
    ) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::limited(3))
            .timeout(TIMEOUT)
            .user_agent(concat!("keyvigil/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| format!("revocation: {}", chain(&e)))?;
        let list = |source: &CrlSource| List { source: source.clone(), state: ListState { url: source.url.clone(), ..ListState::default() }, known: None };
        Ok(Self {
            store,
            inventory,
            clock,
            tenant,
            interval_ms: config.interval.as_ms(),
            client,
            lists: Mutex::new(config.crls.iter().map(list).collect()),
            failing: registry.gauge("keyvigil.revocation.lists_failing", "Configured revocation lists whose latest fetch failed, or that are overdue."),
        })
    }

    /// How the configured lists stand.
    #[must_use]
    pub fn states(&self) -> Vec<ListState> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|list| list.state.clone()).collect()
    }

    /// Fetches what is due and stores what became of the keys.
    ///
    /// # Errors
    /// The store's; lists that could not be fetched.
    pub async fn run(&self) -> Result<String, String> {
        let now_ms = self.clock.now_ms();
        let mut faults = Vec::new();
        let due: Vec<(usize, CrlSource)> = self.with(|lists| {
            let due = lists.iter().enumerate().filter(|(_, list)| list.state.is_due(now_ms, self.interval_ms));
            due.map(|(n, list)| (n, list.source.clone())).collect()
        });
        for (n, source) in due {
            let fetched = fetch(&self.client, &source).await;
            let now_ms = self.clock.now_ms();
            faults.extend(self.with(|lists| lists.get_mut(n).and_then(|list| list.take(fetched, now_ms))));
        }
        self.failing.set(self.with(|lists| lists.iter().filter(|list| list.state.is_failing(now_ms)).count() as u64));
        let changed = self.apply().await.map_err(|e| chain(&e))?;
        match (faults.is_empty(), changed) {
            (false, _) => Err(faults.join("; ")),
            (true, 0) => Ok(String::new()),
            (true, changed) => Ok(format!("{changed} keys are revoked, or are no longer")),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<List>) -> T) -> T {
        work(&mut self.lists.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks all lists about all keys; how many changed.
    async fn apply(&self) -> Result<usize, StoreError> {
        let mut lists = lists_of(&self.inventory, self.tenant);
        for List { source, known, .. } in self.with(|lists| lists.clone()) {
            if let Some((facts, lines)) = known {
                lists.add(source.url, &facts, &lines);
            }
        }
        if lists.is_empty() {
            return Ok(0);
        }
        let (tenant, now_ms) = (self.tenant, self.clock.now_ms());
        let ids = changed(&self.inventory, tenant, &lists, now_ms);
        let lists = Arc::new(lists);
        let mut count = 0;
        for chunk in ids.chunks(CHUNK).map(<[String]>::to_vec) {
            let (lists, inventory) = (Arc::clone(&lists), Arc::clone(&self.inventory));
            count += self
                .store
                .write(move |tx| {
                    let mut records = Vec::new();
                    for id in &chunk {
                        // As it is stored now: a sighting may have come between.
                        let Some(before) = tx.get::<KeyRecord>(Table::Key, tenant, id)? else { continue };
                        let Some(key) = before.judged(&lists, now_ms) else { continue };
                        tx.put(Table::Key, tenant, id, &key)?;
                        if let Some(event) = key.revocation_event(&before, &inventory.places(tenant, id), now_ms) {
                            tx.add_event(tenant, now_ms, event.kind.as_str(), &event)?;
                        }
                        records.push(Changed { key, dropped: Vec::new() });
                    }
                    let changed = records.len();
                    tx.after_commit(move || records.into_iter().for_each(|record| inventory.put(tenant, record)));
                    Ok(changed)
                })
                .await?;
        }
        Ok(count)
    }
}

impl ListState {
    fn is_due(&self, now_ms: i64, interval_ms: i64) -> bool {
        let Some(tried) = self.tried else { return true };
        let wait = if self.is_failing(now_ms) { interval_ms.min(RETRY_MS) } else { interval_ms };
        now_ms >= tried.saturating_add(wait)
    }

    fn is_failing(&self, now_ms: i64) -> bool {
        self.error.is_some() || self.next_update.is_some_and(|next| next <= now_ms)
    }
}

impl List {
    /// Takes in what came of a fetch; what is wrong, if something is.
    fn take(&mut self, fetched: Result<(KeyFacts, Arc<Lines>), String>, now_ms: i64) -> Option<String> {
        self.state.tried = Some(now_ms);
        let fault = match fetched {
            // Somebody may play an old list to hide what was revoked since.
            Ok((facts, _)) if facts.not_before_ms < self.state.this_update => "is older than the one that was fetched before".to_owned(),
            Ok((facts, lines)) => {
                let ListState { issuer, revokes, this_update, next_update, fetched, error, .. } = &mut self.state;
                (*issuer, *revokes) = (facts.issuer.clone(), Some(lines.len()));
                (*this_update, *next_update, *fetched, *error) = (facts.not_before_ms, facts.not_after_ms, Some(now_ms), None);
                self.known = Some((facts, lines));
                return None;
            }
            Err(fault) => fault,
        };
        self.state.error = Some(fault.clone());
        Some(format!("the revocation list {}: {fault}", self.source.url))
    }
}

/// Fetches, checks and reads a list.
async fn fetch(client: &reqwest::Client, source: &CrlSource) -> Result<(KeyFacts, Arc<Lines>), String> {
    let words = |e: reqwest::Error| chain(&e.without_url());
    let mut response = client.get(&source.url).send().await.map_err(words)?.error_for_status().map_err(words)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(words)? {
        if body.len() + chunk.len() > CRL_BYTES_MAX {
            return Err(format!("has more than {CRL_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let issuer = source.issuer.clone();
    tokio::task::spawn_blocking(move || read(&body, issuer.as_deref())).await.map_err(|e| e.to_string())?
}

fn read(body: &[u8], issuer: Option<&std::path::Path>) -> Result<(KeyFacts, Arc<Lines>), String> {
    let der = match rustls_pki_types::CertificateRevocationListDer::from_pem_slice(body) {
        Ok(der) => der.as_ref().to_vec(),
        Err(_) => body.to_vec(),
    };
    let crl = Crl::read(&der)?;
    if let Some(path) = issuer {
        check(&der, path).map_err(|fault| format!("its signature is not accepted: {fault}"))?;
    }
    let mut facts = KeyFacts::bare(KeyKind::Crl, crl.id.clone(), crl.id.clone(), "none");
    (facts.issuer, facts.authority_key_id) = (Some(crl.issuer.clone()), crl.authority_key_id.clone());
    (facts.not_before_ms, facts.not_after_ms) = (Some(crl.this_update_ms), crl.next_update_ms);
    Ok((facts, Arc::new(crl.into_lines())))
}

fn check(der: &[u8], issuer: &std::path::Path) -> Result<(), String> {
    let mut bytes = Vec::new();
    let read = File::open(issuer).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|e| format!("{}: {e}", issuer.display()))?;
    let certificate = CertificateDer::from_pem_slice(&bytes).map_or(bytes, |der| der.as_ref().to_vec());
    let (_, certificate) = X509Certificate::from_der(&certificate).map_err(|e| format!("{} is no certificate: {e}", issuer.display()))?;
    crl::check_signature(der, certificate.public_key().raw)
}
