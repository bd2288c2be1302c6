//! What the store is made to do while it is killed: four agents that deliver at once, flushes, merges, retention, shrinking,
//! checkpoints and restarts; and the witness of what was sent and promised. Never checks anything but that no work fails.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use keyvigil_aggregator::store::{Declared, Policy, Progress, Settled, Store, StoreError, Stream, Tx};
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::wire::{Batch, Column, Group, encode_batch};
use keyvigil_tests::random::Random;

pub(crate) const DAY_MS: i64 = 86_400_000;
/// A midnight.
const T0: i64 = 1_763_769_600_000;
/// Steps of one life; each moves on by this.
const STEP_MS: i64 = 75 * 60_000;
pub(crate) const STREAMS: usize = 4;
pub(crate) const SERIES: usize = 3;
const MEMORY_BYTES: usize = 64 << 20;

static MASTER: LazyLock<MasterKey> = LazyLock::new(MasterKey::generate);

/// Of each stream, how many batches were begun to be sent, and how many were acknowledged; and what may be gone by now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness {
    pub(crate) streams: [Said; STREAMS],
    /// Days that ended before may have been dropped.
    pub(crate) dropped_before_ms: i64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said {
    pub(crate) sent: usize,
    pub(crate) acknowledged: usize,
}

/// A batch as it was sent, sequence number 1 and up.
#[derive(Debug)]
pub(crate) struct Sent {
    frame: Vec<u8>,
    hash: [u8; 32],
    batch: Batch,
}

impl Sent {
    /// Series by its place, instant and bits, in the order in which the last one of an instant counts.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (usize, i64, u64)> {
        let columns = self.batch.groups.iter().flat_map(|group| group.columns.iter().map(move |column| (group, column)));
        columns.flat_map(|(group, column)| group.times.iter().zip(&column.values).map(|(at_ms, value)| (column.series as usize, *at_ms, value.to_bits())))
    }
}

pub(crate) fn open(dir: &Path, now_ms: i64) -> Result<Store, StoreError> {
    Store::open(dir, &MASTER, now_ms, MEMORY_BYTES)
}

pub(crate) fn stream(at: usize) -> Stream {
    Stream { tenant: 1, agent: format!("agent-{at}"), epoch: [at as u8; 16] }
}

fn host(at: usize) -> String {
    format!("host-{at}")
}

/// A series as it is stored.
pub(crate) fn series(stream: usize, at: usize) -> Series {
    let mut series = bare(at);
    series.tags.set("host", &host(stream));
    series
}

fn bare(at: usize) -> Series {
    Series::new(format!("metric_{}", at % 2), MetricType::Gauge, Tags::new([("item", at.to_string())]).expect("valid")).expect("valid")
}

/// Delivers `batches`, the first of which has number `first`, in one transaction, as the door does it. `done` runs with the commit.
pub(crate) async fn deliver(
    store: &Store,
    at: usize,
    first: usize,
    batches: Vec<Arc<Sent>>,
    done: impl FnOnce() + Send + 'static,
) -> Result<Vec<Settled>, StoreError> {
    let (stream, host) = (stream(at), host(at));
    let bodies = batches.iter().map(|sent| store.seal_batch(1, &host, &sent.frame)).collect::<Result<Vec<_>, _>>()?;
    let work = move |tx: &Tx<'_>| {
        let tenant = tx.tenant("default")?;
        let (mut settled, declared) = (Vec::new(), Declared::default());
        let mut settling = tx.settling(&stream, &declared)?;
        for (n, (sent, body)) in batches.iter().zip(&bodies).enumerate() {
            settled.push(settling.settle((first + n) as u64, &sent.hash, sent.batch.items())?);
            if settled[n] == Settled::New {
                let ids = tx.resolve(tenant, Some(&host), &sent.batch.series)?;
                tx.append_batch(tenant, &mut sent.batch.clone(), &ids, body)?;
            }
        }
        settling.close(1)?;
        tx.after_commit(done);
        Ok(settled)
    };
    store.write(work).await
}

/// One life of a store, from nothing, through crashes.
pub(crate) struct Life {
    store: Option<Store>,
    dir: PathBuf,
    /// There was a crash: what was sent since is not known to be stored.
    unsure: bool,
    random: Random,
    step: i64,
    pub(crate) sent: [Vec<Arc<Sent>>; STREAMS],
    witness: Arc<Mutex<Witness>>,
}

impl Life {
    pub(crate) fn new(dir: &Path, random: Random, witness: Arc<Mutex<Witness>>) -> Self {
        Self { store: None, dir: dir.to_owned(), unsure: false, random, step: 0, sent: Default::default(), witness }
    }

    /// Dies, and goes on with what a crash left in `dir`, knowing what was known then.
    pub(crate) fn die(&mut self, dir: &Path, then: Witness) {
        self.store = None;
        self.unsure = true;
        dir.clone_into(&mut self.dir);
        for (sent, said) in self.sent.iter_mut().zip(&then.streams) {
            sent.truncate(said.sent);
        }
        *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = then;
    }

    fn now_ms(&self) -> i64 {
        T0 + self.step * STEP_MS
    }

    /// Something that a store is asked for, at random.
    pub(crate) async fn step(&mut self) -> Result<(), StoreError> {
        self.step += 1;
        let Some(store) = self.store.clone() else {
            self.store = Some(open(&self.dir, self.now_ms())?);
            return Ok(());
        };
        if std::mem::take(&mut self.unsure) {
            if self.random.once_in(3) {
                // Days whose logs are as the crash left them.
                self.retain(&store).await?;
            }
            return self.repeat(&store).await;
        }
        let (now_ms, border) = (self.now_ms(), self.now_ms() - STEP_MS * self.random.below(30) as i64);
        match self.random.below(20) {
            0..=7 => self.append(&store).await?,
            8..=10 => both(self.append(&store), store.flush()).await?,
            11 => both(self.append(&store), store.merge(now_ms, border)).await?,
            12..=14 => drop(store.flush().await?),
            15 => drop(store.merge(now_ms, border).await?),
            16 => drop(store.compact(&Progress::silent()).await?),
            17 => self.retain(&store).await?,
            18 => checkpoint(&self.dir, &mut self.random)?,
            _ => {
                // The last handle ends the writing thread and closes the files.
                drop(store);
                self.store = None;
                self.store = Some(open(&self.dir, now_ms)?);
            }
        }
        Ok(())
    }

    /// All agents at once: what waits together is committed together.
    async fn append(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut work = Vec::new();
        for at in 0..STREAMS {
            let first = self.sent[at].len() + 1;
            let (count, now_ms) = (self.random.below(4), self.now_ms());
            let batches: Vec<Arc<Sent>> = (0..count).map(|_| Arc::new(batch(&mut self.random, now_ms))).collect();
            self.sent[at].extend(batches.iter().cloned());
            let again = self.random.once_in(4);
            work.push(Self::send(store, at, first, batches, again, Arc::clone(&self.witness)));
        }
        let mut work = work.into_iter();
        let mut next = || work.next().expect("one for each stream");
        let (a, b, c, d) = tokio::join!(next(), next(), next(), next());
        a.and(b).and(c).and(d)
    }

    async fn send(store: &Store, at: usize, first: usize, batches: Vec<Arc<Sent>>, again: bool, witness: Arc<Mutex<Witness>>) -> Result<(), StoreError> {
        let last = first + batches.len() - 1;
        if batches.is_empty() {
            return Ok(());
        }
        said(&witness, at, |said| said.sent = last);
        let promised = Arc::clone(&witness);
        let settled = deliver(store, at, first, batches.clone(), move || said(&promised, at, |said| said.acknowledged = last)).await?;
        assert!(settled.iter().all(|settled| *settled == Settled::New), "the first delivery of {first}..={last} of stream {at}: {settled:?}");
        said(&witness, at, |said| said.acknowledged = last);
        if again {
            let settled = deliver(store, at, first, batches, || ()).await?;
            assert!(settled.iter().all(|settled| *settled == Settled::Repeat), "again {first}..={last} of stream {at}: {settled:?}");
        }
        Ok(())
    }

    /// Sends again, from the last that was acknowledged on.
    async fn repeat(&mut self, store: &Store) -> Result<(), StoreError> {
        for (at, sent) in self.sent.iter().enumerate() {
            let (first, last) = (self.witness.lock().unwrap_or_else(PoisonError::into_inner).streams[at].acknowledged.max(1), sent.len());
            if first <= last {
                let promised = Arc::clone(&self.witness);
                deliver(store, at, first, sent[first - 1..].to_vec(), move || said(&promised, at, |said| said.acknowledged = last)).await?;
            }
        }
        Ok(())
    }

    async fn retain(&mut self, store: &Store) -> Result<(), StoreError> {
        let before_ms = self.now_ms() - self.random.below(2) as i64 * DAY_MS;
        {
            let mut witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
            witness.dropped_before_ms = witness.dropped_before_ms.max(before_ms);
        }
        store.retain(before_ms + DAY_MS, &Policy::days(1)).await.map(drop)
    }
}

fn said(witness: &Mutex<Witness>, at: usize, change: impl FnOnce(&mut Said)) {
    change(&mut witness.lock().unwrap_or_else(PoisonError::into_inner).streams[at]);
}

async fn both<T>(one: impl Future<Output = Result<(), StoreError>>, other: impl Future<Output = Result<T, StoreError>>) -> Result<(), StoreError> {
    let (one, other) = tokio::join!(one, other);
    one.and(other.map(drop))
}

/// What SQLite does by itself once its log is long: here it is short, so that there are more lives.
fn checkpoint(dir: &Path, random: &mut Random) -> Result<(), StoreError> {
    let mode = random.pick(&["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
    let connection = rusqlite::Connection::open(dir.join("main.db"))?;
    Ok(connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?)
}

/// A few samples of the last hours, some of them late, some of an instant that was told before.
fn batch(random: &mut Random, now_ms: i64) -> Sent {
    let groups = (0..1 + usize::from(random.once_in(3))).map(|_| {
        let late_ms = if random.once_in(6) { random.below(40) as i64 * STEP_MS } else { 0 };
        // On a coarse grid, so that the same instants come again, and series share them.
        let from = (now_ms - late_ms).div_euclid(STEP_MS) * STEP_MS + random.below(2) as i64 * 10_000;
        let times: Vec<i64> = (0..*random.pick(&[1, 3, 3, 5])).map(|n| from + n * 10_000).collect();
        let columns =
            (0..=random.below(3)).map(|_| Column { series: random.below(SERIES) as u32, start_ms: 0, values: times.iter().map(|_| value(random)).collect() });
        Group { sensor: "kills".into(), interval_ms: 10_000, columns: columns.collect(), times }
    });
    let groups = groups.collect();
    let batch = Batch { sealed_ms: now_ms, series: (0..SERIES).map(bare).collect(), groups, ..Batch::default() };
    let frame = encode_batch(&batch).expect("valid");
    Sent { hash: keyvigil_common::sha256(&frame), frame, batch }
}

fn value(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => f64::from_bits(*random.pick(&[0x7ff0_0000_0000_0002, 0xfff8_0000_dead_beef, 0x8000_0000_0000_0000, 0x7ff0_0000_0000_0000])),
        1 => f64::from_bits(random.number()),
        2..=4 => random.below(10_000) as f64 / 100.0,
        _ => random.below(100) as f64,
    }
}
