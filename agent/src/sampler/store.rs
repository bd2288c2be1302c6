//! What was seen on its way into the buffer: encoded and handed over while sensors go on, for a disk may be slow. The buffer
//! takes whatever it is given, into memory if the disk takes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::telemetry::{Number, Registry, chain};
use keyvigil_common::wire::{self, Batch, Class, Group};
use tokio::sync::Notify;

use crate::buffer::{Buffer, Lost, New, Remember};
use crate::collect::Kept;

/// Name of the counter of batches given up.
pub(crate) const DROPPED: &str = "keyvigil.agent.dropped_batches_total";

/// Where it goes.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) buffer: Buffer,
    filled: Arc<Notify>,
    batches: Number,
    failures: Number,
    dropped: Number,
    /// What neither disk nor memory took, to be declared with what they take next: by class, how many items.
    lost: Arc<Mutex<Vec<(Class, u64)>>>,
}

impl Store {
    pub(super) fn new(buffer: Buffer, filled: Arc<Notify>, registry: &Registry) -> Self {
        Self {
            buffer,
            filled,
            batches: registry.counter("keyvigil.agent.batches_total", "Batches sealed."),
            failures: registry.counter("keyvigil.agent.buffer_failures_total", "Times that the buffer could not be written."),
            dropped: registry.counter(DROPPED, "Batches given up for want of room; each is declared."),
            lost: Arc::default(),
        }
    }
}

impl Store {
    fn lose(&self, items: Vec<(Class, u64)>) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        for (class, items) in items {
            match lost.iter_mut().find(|known| known.0 == class) {
                Some(known) => known.1 += items,
                None => lost.push((class, items)),
            }
        }
    }
}

/// What is stored in one transaction.
pub(super) struct Load {
    seen: Vec<(Class, Batch)>,
    remember: Vec<Remember>,
    /// To be done once it is on disk.
    kept: Vec<Kept>,
    now_ms: i64,
    /// Encoded.
    sealed: Vec<New>,
    /// What could not be encoded.
    lost: Vec<Lost>,
}

impl Load {
    pub(super) fn new(seen: Vec<(Class, Batch)>, remember: Vec<Remember>, now_ms: i64) -> Self {
        Self { seen, remember, kept: Vec::new(), now_ms, sealed: Vec::new(), lost: Vec::new() }
    }

    /// Does this once it is on disk.
    pub(super) fn then(self, kept: Vec<Kept>) -> Self {
        Self { kept, ..self }
    }

    /// Encodes it and hands it to the buffer, with the losses that no batch tells of yet.
    pub(super) async fn put(mut self, store: Store) {
        // One that cannot be read now is told later.
        let (told, gaps): (Vec<i64>, Vec<_>) = store.buffer.gaps(self.now_ms).await.unwrap_or_default().into_iter().unzip();
        let (mut told, mut gaps) = (Some(told), Some(gaps));
        for (class, mut batch) in std::mem::take(&mut self.seen) {
            let mut tells = Vec::new();
            if class == Class::Alert {
                (tells, batch.gaps) = (told.take().unwrap_or_default(), gaps.take().unwrap_or_default());
            }
            if batch.items() > 0 || !batch.gaps.is_empty() || batch.host.is_some() {
                self.enqueue(class, batch, tells, self.now_ms);
            }
        }
        let lost = std::mem::take(&mut *store.lost.lock().unwrap_or_else(PoisonError::into_inner));
        self.lost.extend(lost.into_iter().map(|(class, items)| (class, items, "neither disk nor memory took it")));
        self.append(&store).await;
    }

    /// Encodes a batch; one that is too large is split in halves.
    fn enqueue(&mut self, class: Class, mut batch: Batch, told: Vec<i64>, at_ms: i64) {
        batch.clamp();
        let items = batch.items();
        match wire::encode_batch(&batch) {
            Ok(frame) => self.sealed.push(New { class, items, at_ms, frame, told }),
            Err(e) if items > 1 => {
                tracing::debug!(error = %e, items, "a batch is too large; splitting");
                let second = split(&mut batch);
                self.enqueue(class, batch, told, at_ms);
                self.enqueue(class, second, Vec::new(), at_ms);
            }
            Err(e) => {
                tracing::error!(error = %e, "one item that cannot be encoded was given up");
                self.lost.push((class, items, "it could not be encoded"));
            }
        }
    }

    async fn append(self, store: &Store) {
        if self.sealed.is_empty() && self.remember.is_empty() && self.lost.is_empty() {
            return on_disk(store, self.kept);
        }
        let count = self.sealed.len() as u64;
        let items: Vec<(Class, u64)> = self.sealed.iter().map(|new| (new.class, new.items)).chain(self.lost.iter().map(|lost| (lost.0, lost.1))).collect();
        match store.buffer.append(self.sealed, self.remember, self.lost, self.now_ms).await {
            Ok(appended) => {
                store.batches.add(count);
                store.dropped.add(appended.given_up);
                if store.buffer.level().degraded.is_some() {
                    store.failures.inc();
                }
                store.filled.notify_one();
                on_disk(store, self.kept);
            }
            Err(e) => {
                store.failures.inc();
                store.lose(items);
                tracing::error!(buffer = %store.buffer.path().display(), error = chain(&e), batches = count, "neither disk nor memory took what was sealed; it is lost, and will be declared");
            }
        }
    }
}

/// Does what waits for that; not where it lies in memory only.
fn on_disk(store: &Store, kept: Vec<Kept>) {
    if store.buffer.level().degraded.is_none() {
        kept.into_iter().for_each(|kept| kept.0());
    }
}

/// Moves half of a batch into another one.
fn split(batch: &mut Batch) -> Batch {
    let half = |n: usize| n - n / 2;
    let mut second = Batch { sealed_ms: batch.sealed_ms, sealed: batch.sealed, series: batch.series.clone(), ..Batch::default() };
    second.sightings = batch.sightings.split_off(half(batch.sightings.len()).min(batch.sightings.len()));
    second.events = batch.events.split_off(half(batch.events.len()));
    second.groups = batch.groups.split_off(half(batch.groups.len()));
    if second.items() == 0
        && let Some(group) = batch.groups.first_mut()
    {
        let columns = group.columns.split_off(half(group.columns.len()));
        second.groups.push(Group { columns, ..group.clone() });
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Bounds, Place};
    use keyvigil_common::clock::ManualClock;
    use keyvigil_common::seal::MasterKey;

    #[tokio::test]
    async fn what_neither_disk_nor_memory_took_is_declared_with_what_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::load_or_create(&dir.path().join("key")).unwrap();
        let place = Place { path: dir.path().join("missing/buffer.db"), vfs: None, origin: String::new(), clock: ManualClock::at(1) };
        let buffer = Buffer::open(place, master, Bounds { bytes: 64 << 20, age_ms: 1 << 40, min_free_bytes: 1 }, 1).unwrap();
        let store = Store::new(buffer.clone(), Arc::new(Notify::new()), &Registry::default());
        let large = |_| New { class: Class::Security, items: 3, at_ms: 1, frame: vec![0; 4 << 20], told: Vec::new() };
        let load = Load { sealed: (0..13).map(large).collect(), ..Load::new(Vec::new(), Vec::new(), 1) };
        load.append(&store).await;
        assert_eq!(buffer.level().batches, 0, "the test needs more than memory takes");
        Load::new(Vec::new(), Vec::new(), 2).put(store).await;
        let gaps = buffer.gaps(3).await.unwrap();
        assert_eq!(gaps.iter().map(|(_, gap)| (gap.class, gap.items)).collect::<Vec<_>>(), [(Class::Security, 39)]);
    }
}
