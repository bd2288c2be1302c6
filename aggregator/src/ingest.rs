//! The one door: who delivers, within which limits, whether it was here before; then the store, then the ack. Foreign
//! protocols become a batch in `ingest/` and come through here too. Nothing is acknowledged before the commit.

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
mod refusal;
pub mod remote;
mod sink;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use keyvigil_common::clock::SharedClock;
use keyvigil_common::limits::{DECODED_BYTES_PER_RAW, INGEST_INFLIGHT_BYTES_MAX, PUSH_RAW_BYTES_MAX, TAGS_MAX, TIMESTAMP_MS_MIN};
use keyvigil_common::sample::Series;
use keyvigil_common::sequence::Standing;
use keyvigil_common::telemetry::{Number, Registry};
use keyvigil_common::tls::Identity;
use keyvigil_common::wire::{self, Ack, Batch, WireError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use dictionary::{Dictionaries, Dictionary};
use intake::{Intake, Names, Taken};
use limited::Outcome;
pub use loss::GapRecord;
use loss::Losses;
pub use refusal::Refusal;

use crate::fleet::{self, Agent, Fleet, News};
use crate::index::TenantId;
use crate::keys::{self, EventRecord, Inventory};
use crate::orders::Orders;
use crate::store::{Declared, Limit, Settled, Store, StoreError, Stream, Tx};

/// How far ahead of our clock a sample may be and still be stored, ms. Beyond it, partitions of years to come would be made.
const AHEAD_MS_MAX: i64 = 86_400_000;

/// The door.
#[derive(Debug, Clone)]
pub struct Ingest {
    store: Store,
    fleet: Arc<Fleet>,
    inventory: Arc<Inventory>,
    names: Arc<Names>,
    dictionaries: Arc<Dictionaries>,
    losses: Arc<Losses>,
    orders: Arc<Orders>,
    tenants: Arc<RwLock<HashMap<String, TenantId>>>,
    clock: SharedClock,
    /// Bytes that may be worked on at once.
    room: Arc<Semaphore>,
    metrics: Metrics,
    pace: Arc<Mutex<Pace>>,
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
            memory: ["level0", "recent", "read", "index", "names", "dictionaries"].map(memory).into(),
            batches: registry.counter("keyvigil.ingest.batches_total", "Batches stored."),
            repeats: registry.counter("keyvigil.ingest.repeats_total", "Batches that were stored before and acknowledged again."),
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

/// A batch as it arrived, decoded.
struct Arrived {
    seq: u64,
    hash: [u8; 32],
    /// As it goes into level 0.
    body: Vec<u8>,
    /// Without its dictionary where it is `resolved`, or where the batch before it has the same.
    batch: Batch,
    /// Hash of the dictionary's bytes.
    dictionary: u128,
    /// Whether it was left out.
    known: bool,
    resolved: Option<Dictionary>,
}

impl Ingest {
    /// A door to `store`.
    #[must_use]
    pub fn new(store: Store, fleet: Arc<Fleet>, inventory: Arc<Inventory>, orders: Arc<Orders>, clock: SharedClock, registry: &Registry) -> Self {
        let room = Arc::new(Semaphore::new(INGEST_INFLIGHT_BYTES_MAX));
        Self {
            store,
            fleet,
            inventory,
            names: Arc::default(),
            dictionaries: Arc::default(),
            losses: Arc::default(),
            orders,
            tenants: Arc::default(),
            clock,
            room,
            metrics: Metrics::new(registry),
            pace: Arc::default(),
        }
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
        let own = [("names", self.names.bytes()), ("dictionaries", self.dictionaries.bytes())];
        for (part, bytes) in self.store.memory().into_iter().chain(own) {
            self.metrics.memory.iter().filter(|(name, _)| *name == part).for_each(|(_, number)| number.set(bytes as u64));
        }
    }

    /// Takes what an agent pushes; the ack speaks of what is on disk. With it goes the version that the agent speaks.
    ///
    /// # Errors
    /// Why it was not taken, and what the agent should do.
    pub async fn push(&self, identity: &Identity, body: &[u8]) -> Result<(Ack, u8), Refusal> {
        let result = self.try_push(identity, body).await;
        self.note(&identity.agent, result)
    }

    /// Counts what was refused, and logs it with whom.
    fn note<T>(&self, whom: &str, result: Result<T, Refusal>) -> Result<T, Refusal> {
        match &result {
            Ok(_) => {}
            Err(Refusal::Busy(_)) => self.metrics.busy.inc(),
            Err(refusal) => {
                self.metrics.refused.inc();
                tracing::warn!(from = whom, reason = %refusal, "push refused");
            }
        }
        result
    }

    async fn try_push(&self, identity: &Identity, body: &[u8]) -> Result<(Ack, u8), Refusal> {
        let (tenant, agent) = self.admit(identity).await?;
        self.store.has_room()?;
        let push = wire::decode_push(body)?;
        let version = push.version();
        let claimed: usize = push.frames.iter().map(|(_, frame)| wire::claimed_bytes(frame)).sum();
        if claimed > PUSH_RAW_BYTES_MAX {
            return Err(Refusal::TooLarge(WireError::TooLarge { bytes: claimed, max: PUSH_RAW_BYTES_MAX }));
        }
        let room = self.room(claimed * DECODED_BYTES_PER_RAW)?;
        let stream = Stream { tenant, agent: agent.id.clone(), epoch: push.epoch };
        let mut decoded = None;
        let arrived = push.frames.into_iter().map(|(seq, frame)| self.arrive(seq, &frame, tenant, &agent.host, &mut decoded)).collect::<Result<Vec<_>, _>>()?;
        let declared = Declared { dropped: push.dropped.into_iter().collect(), waiting: push.waiting.into_iter().collect() };
        let (this, host) = (self.clone(), agent.host.clone());
        let settle = move |tx: &Tx<'_>| {
            // Whoever hangs up leaves the work behind, and the room that it takes.
            tx.after_commit(move || drop(room));
            this.settle(tx, &stream, &host, arrived, &declared)
        };
        let standing = self.store.write(settle).await?;
        let beyond = standing.beyond.as_slice().to_vec();
        let now_ms = self.clock.now_ms();
        let directives = self.orders.of(tenant, &agent, push.sender.as_ref(), now_ms);
        let ack = Ack { epoch: push.epoch, cursor: standing.cursor, beyond, now_ms, spread_ms: 0, directives };
        Ok((ack, version))
    }

    /// Room for `bytes` of memory, held until the permit is dropped.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: there is none now.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(size).map_err(|_| Refusal::Busy("too much is being ingested at once".into()))
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

    /// The tenant and agent of a certificate, if it may deliver.
    async fn admit(&self, identity: &Identity) -> Result<(TenantId, Agent), Refusal> {
        let tenant = self.tenant(&identity.tenant).await?;
        let agent = tenant.and_then(|tenant| self.fleet.get(tenant, &identity.agent).map(|agent| (tenant, agent)));
        match agent {
            Some((_, agent)) if agent.revoked => Err(Refusal::Forbidden("this agent was revoked: join it again with a new token".into())),
            Some(found) => Ok(found),
            None => Err(Refusal::Forbidden("this aggregator does not know the agent: join it again with a new token".into())),
        }
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

    /// Decodes and checks one batch. `decoded`: the dictionary of the batch before it in this push.
    fn arrive(&self, seq: u64, frame: &[u8], tenant: TenantId, host: &str, decoded: &mut Option<u128>) -> Result<Arrived, Refusal> {
        let (mut dictionary, mut resolved, mut known) = (0, None, false);
        let generation = self.store.generation();
        let batch = wire::decode_batch_unless(frame, |bytes| {
            dictionary = Dictionaries::hash(&self.names, tenant, host, bytes);
            resolved = self.dictionaries.get(dictionary, generation);
            known = resolved.is_some() || decoded.replace(dictionary) == Some(dictionary);
            known
        });
        let batch = batch.map_err(|fault| Refusal::of_frame(seq, fault))?;
        check(seq, &batch, self.clock.now_ms())?;
        let (hash, body) = (keyvigil_common::sha256(frame), self.store.seal_batch(tenant, host, frame)?);
        Ok(Arrived { seq, hash, body, batch, dictionary, known, resolved })
    }

    /// Stores what is new of a push, in its transaction. Returns how its stream stands.
    fn settle(&self, tx: &Tx<'_>, stream: &Stream, host: &str, arrived: Vec<Arrived>, declared: &Declared) -> Result<Standing, StoreError> {
        let mut settling = tx.settling(stream, declared)?;
        let mut news = News::default();
        let (mut samples, mut events, mut fresh, mut repeats) = (0, 0, 0, 0);
        let (mut series, mut before) = (Vec::new(), None);
        for Arrived { seq, hash, body, mut batch, dictionary, known, resolved } in arrived {
            // Taken from a repeat too: the batch after it may lean on it.
            if !known {
                series = std::mem::take(&mut batch.series);
            }
            if settling.settle(seq, &hash, batch.items())? == Settled::Repeat {
                repeats += 1;
                continue;
            }
            fresh += 1;
            samples += batch.samples() as u64;
            events += batch.events.len() as u64;
            news.last_sample_ms = news.last_sample_ms.max(batch.span_ms().map(|(_, last)| last));
            news.interval_ms = batch.groups.iter().map(|g| g.interval_ms).max().or(news.interval_ms);
            let resolved = match (resolved, &before) {
                (Some(resolved), _) => resolved,
                (None, Some((hash, resolved))) if *hash == dictionary => Dictionary::clone(resolved),
                (None, _) => self.resolve(tx, stream.tenant, host, dictionary, &series)?,
            };
            let refused = tx.append_batch(stream.tenant, &mut batch, &resolved.resolved, &body)?;
            if !refused.is_empty() {
                let (items, why) = (refused.values().sum(), resolved.refusal.as_deref().unwrap_or_default());
                self.losses.refused(tx, stream.tenant, &GapRecord::refused(host, seq, items, why, self.clock.now_ms()))?;
                samples -= items;
                let metrics = self.metrics.clone();
                tx.after_commit(move || refused.into_iter().for_each(|(limit, samples)| metrics.refuse(limit, samples)));
            }
            before = Some((dictionary, resolved));
            news.facts = batch.host.clone().or(news.facts);
            self.record(tx, stream.tenant, host, batch)?;
        }
        let now_ms = self.clock.now_ms();
        let standing = settling.close(now_ms)?;
        let (agent, persist) =
            self.fleet.heard(stream.tenant, &stream.agent, &news, standing.cursor, now_ms).ok_or_else(|| StoreError::Missing(stream.agent.clone()))?;
        if persist {
            fleet::put(tx, stream.tenant, &agent)?;
        }
        let metrics = self.metrics.clone();
        tx.after_commit(move || {
            metrics.samples.add(samples);
            metrics.events.add(events);
            metrics.batches.add(fresh);
            metrics.repeats.add(repeats);
        });
        Ok(standing)
    }

    /// Ids of a dictionary, remembered once they are on disk.
    fn resolve(&self, tx: &Tx<'_>, tenant: TenantId, host: &str, hash: u128, series: &[Series]) -> Result<Dictionary, StoreError> {
        let resolved = tx.resolve(tenant, Some(host), series)?;
        let refusal = resolved.refused.first().and_then(|(place, limit)| {
            let mut first = series.get(*place as usize)?.clone();
            first.tags.set("host", host);
            Some(format!("{}; the first: {first}", self.store.limits().reason(*limit, &first)).into())
        });
        let dictionary = Dictionary { resolved, refusal };
        let (dictionaries, found) = (Arc::clone(&self.dictionaries), dictionary.clone());
        tx.after_commit(move || dictionaries.remember(hash, found));
        Ok(dictionary)
    }

    /// Stores the keys, events and losses that a batch tells of.
    fn record(&self, tx: &Tx<'_>, tenant: TenantId, host: &str, batch: Batch) -> Result<(), StoreError> {
        let mut changed = Vec::new();
        let now_ms = self.clock.now_ms();
        for mut sighting in batch.sightings {
            sighting.at_ms = plausible(sighting.at_ms, now_ms);
            changed.extend(keys::sight(tx, tenant, host, sighting)?);
        }
        for mut event in batch.events {
            let told = event.at_ms;
            event.at_ms = plausible(told, now_ms);
            if event.at_ms != told {
                event.evidence.push(("host_clock_ms".into(), told.to_string()));
            }
            let record = EventRecord::new(host, event);
            tx.add_event(tenant, record.at_ms, record.kind.as_str(), &record)?;
        }
        for gap in batch.gaps {
            let at_ms = plausible(gap.at_ms, now_ms);
            let record = GapRecord::declared(host, gap, at_ms);
            record.put(tx, tenant, format!("{} {} items were given up: {}", record.items, record.class, record.cause))?;
        }
        let inventory = Arc::clone(&self.inventory);
        tx.after_commit(move || changed.into_iter().for_each(|record| inventory.put(tenant, record)));
        Ok(())
    }
}

fn check(seq: u64, batch: &Batch, now_ms: i64) -> Result<(), Refusal> {
    if batch.series.iter().any(|series| series.tags.get("host").is_none() && series.tags.len() >= TAGS_MAX) {
        return Err(Refusal::of_frame(seq, WireError::Shape("a series without room for the tag `host`")));
    }
    match batch.span_ms() {
        Some((first, _)) if first < TIMESTAMP_MS_MIN => {
            Err(Refusal::Clock(format!("batch {seq} has samples from before the year 2000: set the clock of the host")))
        }
        Some((_, last)) if last > now_ms + AHEAD_MS_MAX => Err(Refusal::Clock(format!(
            "batch {seq} has samples {} h ahead of the aggregator's clock: set the clock of the host or of the aggregator",
            (last - now_ms) / 3_600_000
        ))),
        _ => Ok(()),
    }
}

/// The time that a host tells, or ours where its clock is plainly not set: what happened is kept, and found, either way.
fn plausible(at_ms: i64, now_ms: i64) -> i64 {
    if (TIMESTAMP_MS_MIN..=now_ms + AHEAD_MS_MAX).contains(&at_ms) { at_ms } else { now_ms }
}
