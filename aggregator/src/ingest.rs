//! The one door: who delivers, within which limits, whether it was here before; then the store, then the ack. Foreign
//! protocols become a batch in `ingest/` and come through here too. Nothing is acknowledged before the commit.

mod admission;
mod bases;
mod canary;
mod clocks;
mod dictionary;
#[cfg(test)]
mod fixture;
pub mod intake;
pub mod json;
pub mod limited;
mod loss;
pub mod otlp;
mod own;
mod protobuf;
mod push;
mod refusal;
pub mod remote;
mod sink;
mod twins;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::{Number, Registry};
use tokio::sync::{Notify, OwnedSemaphorePermit};

pub use admission::{Admission, Lane, Place};
use bases::Bases;
use clocks::Clocks;
use dictionary::Dictionaries;
use intake::{Intake, Names, Taken};
use limited::Outcome;
pub use loss::GapRecord;
use loss::Losses;
pub use refusal::Refusal;
pub use twins::Twin;
use twins::Twins;

use crate::fleet::Fleet;
use crate::index::TenantId;
use crate::keys::Inventory;
use crate::orders::Orders;
use crate::store::{Limit, Store, StoreError};

/// The door.
#[derive(Debug, Clone)]
pub struct Ingest {
    store: Store,
    fleet: Arc<Fleet>,
    inventory: Arc<Inventory>,
    names: Arc<Names>,
    dictionaries: Arc<Dictionaries>,
    bases: Arc<Bases>,
    losses: Arc<Losses>,
    orders: Arc<Orders>,
    tenants: Arc<RwLock<HashMap<String, TenantId>>>,
    clock: SharedClock,
    /// Memory for what is being read and worked on.
    admission: Admission,
    clocks: Arc<Clocks>,
    twins: Arc<Twins>,
    metrics: Metrics,
    pace: Arc<Mutex<Pace>>,
    /// Poked when what happened may concern a rule.
    happened: Arc<Notify>,
}

/// How fast samples come.
#[derive(Debug, Default)]
struct Pace {
    at_ms: i64,
    samples: u64,
    per_second: f64,
}

#[derive(Debug, Clone)]
struct Metrics {
    batches: Number,
    repeats: Number,
    differences: Number,
    whole: Number,
    samples: Number,
    refused: Number,
    busy: Number,
    events: Number,
    /// By the name of what takes it.
    memory: Vec<(&'static str, Number)>,
    limited: [Number; Limit::ALL.len()],
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let memory = |part: &'static str| (part, registry.gauge_by("keyvigil.memory.bytes", "Memory of the store and of what finds series.", ("part", part)));
        Self {
            memory: ["level0", "recent", "read", "index", "names", "dictionaries", "bases"].map(memory).into(),
            batches: registry.counter("keyvigil.ingest.batches_total", "Batches stored."),
            repeats: registry.counter("keyvigil.ingest.repeats_total", "Batches that were stored before and acknowledged again."),
            differences: registry.counter("keyvigil.ingest.differences_total", "Pushes stored that came as a difference to what was acknowledged before."),
            whole: registry.counter("keyvigil.ingest.asked_whole_total", "Differences to what is not held here any more; each is sent again at once as it is."),
            samples: registry.counter("keyvigil.ingest.samples_total", "Samples stored."),
            refused: registry.counter("keyvigil.ingest.refused_total", "Requests refused."),
            busy: registry.counter("keyvigil.ingest.busy_total", "Requests told to come back later."),
            events: registry.counter("keyvigil.ingest.events_total", "Events stored."),
            limited: Limit::ALL.map(|limit| {
                let help = "Samples refused because their series would have been one too many.";
                registry.counter_by("keyvigil.limits.refused_samples_total", help, ("limit", limit.name()))
            }),
        }
    }

    /// Counts samples that a limit kept out.
    fn refuse(&self, limit: Limit, samples: u64) {
        self.limited[limit as usize].add(samples);
    }
}

impl Ingest {
    /// A door to `store`.
    #[must_use]
    pub fn new(store: Store, fleet: Arc<Fleet>, inventory: Arc<Inventory>, orders: Arc<Orders>, clock: SharedClock, registry: &Registry) -> Self {
        Self {
            store,
            fleet,
            inventory,
            names: Arc::default(),
            dictionaries: Arc::default(),
            bases: Arc::default(),
            losses: Arc::default(),
            orders,
            tenants: Arc::default(),
            clock,
            admission: Admission::default(),
            clocks: Arc::default(),
            twins: Arc::default(),
            metrics: Metrics::new(registry),
            pace: Arc::default(),
            happened: Arc::default(),
        }
    }

    /// Poked whenever events were stored that are more than everyday use of keys.
    #[must_use]
    pub fn happened(&self) -> Arc<Notify> {
        Arc::clone(&self.happened)
    }

    /// Samples stored since the start.
    #[must_use]
    pub fn samples_stored(&self) -> u64 {
        self.metrics.samples.get()
    }

    /// Samples a second, between the last two calls of [`Ingest::measure`].
    #[must_use]
    pub fn samples_per_second(&self) -> f64 {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).per_second
    }

    /// Measures pace and memory anew.
    pub fn measure(&self) {
        let (now_ms, samples) = (self.clock.now_ms(), self.samples_stored());
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.at_ms > 0 && now_ms > pace.at_ms {
            pace.per_second = (samples - pace.samples) as f64 * 1_000.0 / (now_ms - pace.at_ms) as f64;
        }
        (pace.at_ms, pace.samples) = (now_ms, samples);
        drop(pace);
        let own = [("names", self.names.bytes()), ("dictionaries", self.dictionaries.bytes()), ("bases", self.bases.bytes())];
        for (part, bytes) in self.store.memory().into_iter().chain(own) {
            self.metrics.memory.iter().filter(|(name, _)| *name == part).for_each(|(_, number)| number.set(bytes as u64));
        }
    }

    /// Forgets what agents may tell differences to; they send the next push whole.
    pub fn forget_bases(&self) {
        self.bases.clear();
    }

    /// Counts what was refused, and logs it with whom.
    fn note<T>(&self, whom: &str, result: Result<T, Refusal>) -> Result<T, Refusal> {
        match &result {
            Ok(_) => {}
            Err(Refusal::Base) => self.metrics.whole.inc(),
            Err(Refusal::Busy(_) | Refusal::Wait { .. }) => self.metrics.busy.inc(),
            Err(refusal) => {
                self.metrics.refused.inc();
                tracing::warn!(from = whom, reason = %refusal, "push refused");
            }
        }
        result
    }

    /// Who may send now.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Room for `bytes` of a foreign sender's request, held until the permit is dropped.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: there is none now.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        self.admission.room(bytes)
    }

    /// A tenant by name; asked of the database once.
    async fn tenant(&self, name: &str) -> Result<Option<TenantId>, StoreError> {
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if known.is_some() {
            return Ok(known);
        }
        let asked = name.to_owned();
        let found = self.store.read(move |connection, _| crate::tenant::find(connection, &asked)).await?;
        if let Some(id) = found {
            self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), id);
        }
        Ok(found)
    }

    /// Stores what a foreign protocol brought, as far as limits of series allow; returns once it is on disk.
    ///
    /// # Errors
    /// A store that cannot write.
    async fn store(&self, taken: Taken) -> Result<Outcome, Refusal> {
        let Taken { tenant, rows, fresh, hashes, generation, room, .. } = taken;
        if rows.is_empty() {
            return Ok(Outcome::default());
        }
        self.store.has_room()?;
        let samples = rows.len();
        let appended = self.store.append(tenant, rows, fresh, generation, room).await?;
        self.names.remember(appended.resolved.generation, hashes.into_iter().zip(appended.resolved.ids.iter().copied()));
        let outcome = Outcome::new(appended, self.store.limits());
        self.losses.log(&outcome.limited, self.clock.now_ms());
        outcome.limited.limits.iter().for_each(|(limit, (_, samples))| self.metrics.refuse(*limit, *samples as u64));
        self.metrics.samples.add((samples - outcome.limited.samples) as u64);
        Ok(outcome)
    }

    /// Begins to take the samples of a request.
    #[must_use]
    pub fn begin(&self, tenant: TenantId) -> Intake<'_> {
        self.names.begin(tenant, self.clock.now_ms(), self.store.generation())
    }
}
