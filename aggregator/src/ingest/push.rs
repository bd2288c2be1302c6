//! What agents push: whose it is, whether it was here before, what its clock was worth; then the store, then the ack. Nothing is
//! acknowledged before the commit.

use std::net::SocketAddr;
use std::sync::Arc;

use keyvigil_common::canary::Canaries;
use keyvigil_common::event::EventKind;
use keyvigil_common::limits::{DECODED_BYTES_PER_RAW, PUSH_RAW_BYTES_MAX, TAGS_MAX, TIMESTAMP_MS_MIN};
use keyvigil_common::sample::Series;
use keyvigil_common::sequence::Standing;
use keyvigil_common::tls::Identity;
use keyvigil_common::wire::{self, ACK_STREAMS_MAX, Ack, Base, Batch, Difference, Directive, Elsewhere, Opened, Push, Raw, Sender, WireError};

use super::canary;
use super::clocks::{self, Reading};
use super::dictionary::{Dictionaries, Dictionary};
use super::loss::GapRecord;
use super::{Ingest, Place, Refusal, twins};
use crate::fleet::{self, Agent, News};
use crate::index::TenantId;
use crate::keys::{self, EventRecord, Uses};
use crate::store::{Declared, Settled, StoreError, Stream, Tx};

/// How far ahead of our clock a sample may be and still be stored, ms. Beyond it, partitions of years to come would be made.
const AHEAD_MS_MAX: i64 = 86_400_000;
/// Over how long agents spread their return when all lost the aggregator at once, ms for each: some 500 handshakes a second.
const SPREAD_MS_PER_AGENT: usize = 2;
const SPREAD_MS_MAX: u32 = 60_000;
/// Copies of one agent that are remembered.
const TWINS_MAX: usize = 16;

/// Who pushes.
#[derive(Debug, Clone)]
struct Whose {
    tenant: TenantId,
    agent: String,
    host: String,
    peer: SocketAddr,
    /// How much the agent says it does not see.
    blind: Option<u32>,
    /// What it promises to prove.
    canaries: Option<Canaries>,
}

/// A push, opened.
struct Incoming {
    /// Without its frames.
    push: Push,
    batches: Vec<Coming>,
    /// What the agent's next push may differ from once this one is stored.
    next: Option<Base>,
    /// Room for all of it.
    room: Place,
    /// Whether it came as a difference.
    differs: bool,
}

/// A batch that is looked at.
struct Coming {
    seq: u64,
    /// Complete in itself.
    frame: Vec<u8>,
    raw: Raw,
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

/// What became of a push.
struct Done {
    standing: Standing,
    /// Batches that were new.
    fresh: u64,
    /// The agent's other streams.
    others: Vec<Elsewhere>,
    /// Canaries that are stored now.
    proven: Vec<u64>,
}

impl Ingest {
    /// Takes what an agent pushes; the ack speaks of what is on disk. With it goes the version that the agent speaks.
    ///
    /// # Errors
    /// Why it was not taken, and what the agent should do.
    pub async fn push(&self, place: &Place, peer: SocketAddr, body: &[u8]) -> Result<(Ack, u8), Refusal> {
        let result = self.try_push(place, peer, body).await;
        self.note(&place.identity().agent, result)
    }

    async fn try_push(&self, place: &Place, peer: SocketAddr, body: &[u8]) -> Result<(Ack, u8), Refusal> {
        let (tenant, agent) = self.whose(place.identity()).await?;
        self.store.has_room()?;
        let now_ms = self.clock.now_ms();
        let Incoming { push, batches, next, room, differs } = self.open(place, tenant, &agent.id, body)?;
        let version = push.version();
        if twins::is_kept_out(&agent, push.sender.as_ref()) {
            return Err(Refusal::Cloned);
        }
        let whole = |refusal: Refusal| if differs { refusal.of_difference() } else { refusal };
        let from = Whose {
            tenant,
            agent: agent.id.clone(),
            host: agent.host.clone(),
            peer,
            blind: push.sender.and_then(|sender| sender.blind),
            canaries: push.sender.map(|sender| sender.canaries),
        };
        let reading = push.sender.map(|sender| self.clocks.heard(tenant, &agent.id, &sender, now_ms));
        let stream = Stream { tenant, agent: agent.id.clone(), epoch: push.epoch };
        let mut decoded = None;
        let arrive = |coming: Coming| self.arrive(coming, &from, reading.as_ref(), &mut decoded);
        let arrived = batches.into_iter().map(arrive).collect::<Result<Vec<_>, _>>().map_err(whole)?;
        let declared = Declared { dropped: push.dropped.into_iter().collect(), waiting: push.waiting.into_iter().collect() };
        let (this, told) = (self.clone(), from.clone());
        let settle = move |tx: &Tx<'_>| {
            // Whoever hangs up leaves the work behind, and the room that it takes.
            tx.after_commit(move || drop(room));
            this.settle(tx, &stream, &told, reading, arrived, &declared)
        };
        let settled = self.store.write(settle).await;
        // A store that fails says nothing of who sends.
        let something_new = matches!(settled, Ok(Done { fresh: 1.., .. }) | Err(StoreError::Fork(_)));
        if let Some(sender) = push.sender.filter(|_| something_new) {
            self.look_for_a_twin(&from, &sender, now_ms).await?;
        }
        let Done { standing, others, proven, .. } = settled.map_err(|error| whole(error.into()))?;
        self.metrics.differences.add(u64::from(differs));
        let base = self.bases.keep(tenant, &agent.id, next.as_ref());
        let beyond = standing.beyond.as_slice().to_vec();
        let spread_ms = u32::try_from(self.fleet.len() * SPREAD_MS_PER_AGENT).unwrap_or(u32::MAX).min(SPREAD_MS_MAX);
        let mut directives = self.orders.of(from.tenant, &agent, push.sender.as_ref(), now_ms);
        directives.extend((!proven.is_empty()).then_some(Directive::Proven { nonces: proven }));
        let ack = Ack { epoch: push.epoch, cursor: standing.cursor, beyond, others: Some(others), now_ms, spread_ms, base, directives };
        Ok((ack, version))
    }

    /// Opens a request, whichever way it came, once there is room for what it claims.
    fn open(&self, place: &Place, tenant: TenantId, agent: &str, body: &[u8]) -> Result<Incoming, Refusal> {
        if let Some(difference) = Difference::read(body)? {
            let packed = self.bases.get(tenant, agent, difference.base).ok_or(Refusal::Base)?;
            // Beside what is decoded: the raw bytes, frames made of them, the base and the one after it.
            let room = place.more(difference.claimed * (DECODED_BYTES_PER_RAW + 3) + 2 * packed.len())?;
            let Opened { push, batches, next } = difference.open(&packed.unpack()?).map_err(|fault| Refusal::from(fault).of_difference())?;
            let batches = batches.into_iter().map(|(seq, raw)| Ok(Coming { seq, frame: raw.seal()?, raw })).collect::<Result<_, WireError>>();
            return Ok(Incoming { push, batches: batches.map_err(|_| Refusal::Base)?, next: Some(next), room, differs: true });
        }
        let mut push = wire::decode_push(body)?;
        let claimed: usize = push.frames.iter().map(|(_, frame)| wire::claimed_bytes(frame)).sum();
        if claimed > PUSH_RAW_BYTES_MAX {
            return Err(Refusal::TooLarge(WireError::TooLarge { bytes: claimed, max: PUSH_RAW_BYTES_MAX }));
        }
        let room = place.more(claimed * DECODED_BYTES_PER_RAW)?;
        let open = |(seq, frame): (u64, Vec<u8>)| match Raw::open(&frame) {
            Ok(raw) => Ok(Coming { seq, frame, raw }),
            Err(fault) => Err(Refusal::of_frame(seq, fault)),
        };
        let batches = std::mem::take(&mut push.frames).into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let next = Base::after_whole(&push, batches.iter().map(|coming| (coming.seq, &coming.raw)))?;
        Ok(Incoming { push, batches, next, room, differs: false })
    }

    /// Whether this start of an agent and another take turns; the copy is kept out from then on, and that is told.
    async fn look_for_a_twin(&self, from: &Whose, sender: &Sender, now_ms: i64) -> Result<(), Refusal> {
        let Some(twin) = self.twins.delivered(from.tenant, &from.agent, sender, now_ms) else { return Ok(()) };
        tracing::error!(host = from.host, peer = %from.peer, "two machines deliver with the identity of one host; the one that came later is kept out");
        let (this, from) = (self.clone(), from.clone());
        let keep_out = move |tx: &Tx<'_>| {
            let message = format!("two machines deliver with the identity of {}; the one that came later is kept out until it has joined anew", from.host);
            let evidence = [("instance", twin.instance.clone()), ("original", twin.original.clone()), ("last_peer", from.peer.to_string())];
            tell(tx, &from, EventKind::IdentityCloned, now_ms, message, &evidence)?;
            let remember = move |agent: &mut Agent| {
                agent.twins.retain(|known| known.instance != twin.instance);
                agent.twins.push(twin.clone());
                let excess = agent.twins.len().saturating_sub(TWINS_MAX);
                agent.twins.drain(..excess);
            };
            fleet::change(&this.fleet, tx, from.tenant, &from.agent, remember).map(|_| ())
        };
        Ok(self.store.write(keep_out).await?)
    }

    /// How the agent of a certificate stands here.
    ///
    /// # Errors
    /// As for what it would deliver.
    pub async fn standing(&self, identity: &Identity) -> Result<Agent, Refusal> {
        self.whose(identity).await.map(|(_, agent)| agent)
    }

    /// The tenant and agent of a certificate, if it may deliver.
    async fn whose(&self, identity: &Identity) -> Result<(TenantId, Agent), Refusal> {
        let tenant = self.tenant(&identity.tenant).await?;
        let agent = tenant.and_then(|tenant| self.fleet.get(tenant, &identity.agent).map(|agent| (tenant, agent)));
        match agent {
            Some((_, agent)) if agent.revoked => Err(Refusal::Forbidden("this agent was revoked: join it again with a new token".into())),
            Some(found) => Ok(found),
            None => Err(Refusal::Forbidden("this aggregator does not know the agent: join it again with a new token".into())),
        }
    }

    /// Decodes and checks one batch. `decoded`: the dictionary of the batch before it in this push.
    fn arrive(&self, Coming { seq, frame, raw }: Coming, from: &Whose, reading: Option<&Reading>, decoded: &mut Option<u128>) -> Result<Arrived, Refusal> {
        let Whose { tenant, host, .. } = from;
        let tenant = *tenant;
        let (mut dictionary, mut resolved, mut known) = (0, None, false);
        let generation = self.store.generation();
        let batch = raw.decode_unless(|bytes| {
            dictionary = Dictionaries::hash(&self.names, tenant, host, bytes);
            resolved = self.dictionaries.get(dictionary, generation);
            known = resolved.is_some() || decoded.replace(dictionary) == Some(dictionary);
            known
        });
        let mut batch = batch.map_err(|fault| Refusal::of_frame(seq, fault))?;
        let shift_ms = reading.map_or(0, |reading| reading.shift_ms(&batch));
        let moved = (shift_ms != 0).then(|| moved(&raw, shift_ms)).transpose().map_err(|fault| Refusal::of_frame(seq, fault))?;
        clocks::shift(&mut batch, shift_ms);
        check(seq, &batch, reading, self.clock.now_ms())?;
        // The hash tells what the agent sent, whatever is stored of it.
        let (hash, body) = (raw.hash(&frame), self.store.seal_batch(tenant, host, moved.as_deref().unwrap_or(&frame))?);
        Ok(Arrived { seq, hash, body, batch, dictionary, known, resolved })
    }

    /// Stores what is new of a push, in its transaction. Returns how its streams stand.
    fn settle(
        &self,
        tx: &Tx<'_>,
        stream: &Stream,
        from: &Whose,
        reading: Option<Reading>,
        arrived: Vec<Arrived>,
        declared: &Declared,
    ) -> Result<Done, StoreError> {
        let host = &from.host;
        let mut settling = tx.settling(stream, declared)?;
        let mut news = News { clock_offset_ms: reading.map(|reading| reading.offset_ms), blind: from.blind, canaries: from.canaries, ..News::default() };
        let mut proven = Vec::new();
        let (mut samples, mut events, mut fresh, mut repeats) = (0, 0, 0, 0);
        let (mut series, mut before) = (Vec::new(), None);
        for Arrived { seq, hash, body, mut batch, dictionary, known, resolved } in arrived {
            // Taken from a repeat too: the batch after it may lean on it.
            if !known {
                series = std::mem::take(&mut batch.series);
            }
            let settled = settling.settle(seq, &hash, batch.items())?;
            // Of a repeat too: it is stored, and its first ack was lost.
            proven.extend(canary::take(&mut batch, self.clock.now_ms()));
            if settled == Settled::Repeat {
                repeats += 1;
                continue;
            }
            fresh += 1;
            samples += batch.samples() as u64;
            events += batch.events.len() as u64;
            news.last_sample_ms = news.last_sample_ms.max(batch.span_ms().map(|(_, last)| last));
            news.interval_ms = batch.groups.iter().map(|g| g.interval_ms).chain(news.interval_ms).min();
            let resolved = match (resolved, &before) {
                (Some(resolved), _) => resolved,
                (None, Some((hash, resolved))) if *hash == dictionary => Dictionary::clone(resolved),
                (None, _) => self.resolve(tx, stream.tenant, host, dictionary, &series)?,
            };
            let mut uses = Uses::default();
            uses.samples(&self.store, host, &batch.groups, &resolved.resolved.ids, &series);
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
            news.uses.push(self.record(tx, stream, host, batch, uses)?);
        }
        let tells_of_sight = news.uses.iter().any(Uses::tells_of_sight);
        let now_ms = self.clock.now_ms();
        news.proven = proven.iter().map(|seen| (seen.path, seen.at_ms)).collect();
        let standing = settling.close(now_ms)?;
        let (agent, persist) =
            self.fleet.heard(stream.tenant, &stream.agent, &news, standing.cursor, now_ms).ok_or_else(|| StoreError::Missing(stream.agent.clone()))?;
        if persist {
            fleet::put(tx, stream.tenant, &agent)?;
        }
        if tells_of_sight {
            self.observe(tx, stream.tenant, host);
        }
        self.tell_clock(tx, from, reading.as_ref(), now_ms)?;
        self.count(tx, samples, events, (fresh, repeats));
        Ok(Done { standing, fresh, others: tx.other_streams(stream, ACK_STREAMS_MAX)?, proven: canary::confirmed(&proven) })
    }

    /// Counts what came, once it is stored.
    fn count(&self, tx: &Tx<'_>, samples: u64, events: u64, (fresh, repeats): (u64, u64)) {
        let metrics = self.metrics.clone();
        tx.after_commit(move || {
            metrics.samples.add(samples);
            metrics.events.add(events);
            metrics.batches.add(fresh);
            metrics.repeats.add(repeats);
        });
    }

    /// Has the inventory know what is observed of the use of keys on a host.
    fn observe(&self, tx: &Tx<'_>, tenant: TenantId, host: &str) {
        let (fleet, inventory, host) = (Arc::clone(&self.fleet), Arc::clone(&self.inventory), host.to_owned());
        tx.after_commit(move || inventory.observe(tenant, &host, fleet.observed(tenant, &host)));
    }

    /// Says, once, that a host's clock is wrong.
    fn tell_clock(&self, tx: &Tx<'_>, from: &Whose, reading: Option<&Reading>, now_ms: i64) -> Result<(), StoreError> {
        let Some(reading) = reading.filter(|reading| reading.news) else { return Ok(()) };
        let message = format!(
            "the clock of {} and the aggregator's are {} s apart; what it seals is put to its time by the aggregator's",
            from.host,
            reading.offset_ms / 1_000
        );
        tell(tx, from, EventKind::ClockWrong, now_ms, message, &[("offset_ms", reading.offset_ms.to_string())])?;
        let (clocks, tenant, agent) = (Arc::clone(&self.clocks), from.tenant, from.agent.clone());
        tx.after_commit(move || clocks.told(tenant, &agent));
        Ok(())
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
    fn record(&self, tx: &Tx<'_>, stream: &Stream, host: &str, batch: Batch, mut uses: Uses) -> Result<Uses, StoreError> {
        let tenant = stream.tenant;
        let now_ms = self.clock.now_ms();
        let mut sightings = batch.sightings;
        for sighting in &mut sightings {
            sighting.at_ms = plausible(sighting.at_ms, now_ms);
        }
        let changed = keys::sight(tx, tenant, host, sightings)?;
        if batch.events.iter().any(|event| event.kind != EventKind::Accessed) {
            let happened = self.happened();
            tx.after_commit(move || happened.notify_one());
        }
        for mut event in batch.events {
            let told = event.at_ms;
            event.at_ms = plausible(told, now_ms);
            if event.at_ms != told {
                event.evidence.push(("host_clock_ms".into(), told.to_string()));
            }
            uses.event(host, &event);
            let record = EventRecord::new(host, event);
            tx.add_event(tenant, record.at_ms, record.kind.as_str(), &record)?;
        }
        for mut gap in batch.gaps {
            // An agent that was cut off may give up what had arrived: stored is stored, and not lost.
            let counted = Stream { epoch: gap.epoch.unwrap_or(stream.epoch), ..stream.clone() };
            let (stored, items) = tx.stored_of(&counted, gap.range)?;
            if stored == gap.range.count() {
                continue;
            }
            // It may tell a loss again, of which the first telling had arrived.
            let Some((range, items)) = tx.declare_lost(&counted, gap.range, gap.items.saturating_sub(items), now_ms)? else { continue };
            (gap.range, gap.items) = (range, items);
            let at_ms = plausible(gap.at_ms, now_ms);
            let record = GapRecord::declared(host, gap, at_ms);
            let many = record.known_items().map_or("an unknown number of".to_owned(), |items| items.to_string());
            record.put(tx, tenant, format!("{many} {} items were given up: {}", record.class, record.cause))?;
        }
        let told = changed.iter().map(|changed| changed.key.facts.id.clone()).collect();
        let used = uses.write(tx, &self.inventory, tenant, &told)?;
        let inventory = Arc::clone(&self.inventory);
        tx.after_commit(move || {
            changed.into_iter().for_each(|record| inventory.put(tenant, record));
            if !used.is_empty() {
                inventory.used(tenant, used);
            }
        });
        Ok(uses)
    }
}

/// Stores an event that the aggregator itself has noticed of a host.
fn tell(tx: &Tx<'_>, from: &Whose, kind: EventKind, at_ms: i64, message: String, evidence: &[(&str, String)]) -> Result<(), StoreError> {
    let evidence = evidence.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let record = EventRecord { kind, at_ms, host: from.host.clone(), key: None, path: None, actor: None, message, evidence };
    tx.add_event(from.tenant, at_ms, kind.as_str(), &record)
}

/// A batch with all its times moved, as a frame.
fn moved(raw: &Raw, by_ms: i64) -> Result<Vec<u8>, WireError> {
    let mut batch = raw.decode()?;
    clocks::shift(&mut batch, by_ms);
    wire::encode_batch(&batch)
}

fn check(seq: u64, batch: &Batch, reading: Option<&Reading>, now_ms: i64) -> Result<(), Refusal> {
    if batch.series.iter().any(|series| series.tags.get("host").is_none() && series.tags.len() >= TAGS_MAX) {
        return Err(Refusal::of_frame(seq, WireError::Shape("a series without room for the tag `host`")));
    }
    let span = batch.span_ms();
    let off = span.is_some_and(|(first, last)| first < TIMESTAMP_MS_MIN || last > now_ms + AHEAD_MS_MAX);
    if off && reading.is_some_and(|reading| reading.is_timeless(batch)) {
        let why = WireError::Shape("samples of a clock that was wrong, from before the host was started anew: when they were taken cannot be known");
        return Err(Refusal::Permanent { seq, why });
    }
    match span {
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

#[cfg(test)]
mod tests;
