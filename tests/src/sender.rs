//! An agent of which all is real but its sensors: identity, buffer and uplink are the agent's own, what it sends is the
//! oracle's. Runs in a test, or in a process of its own (`fault-sender`) that experiments kill and starve.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_agent::buffer::{Bounds, Buffer, BufferError, New, Place};
use keyvigil_agent::enhanced::Enhanced;
use keyvigil_agent::enroll::{self, Renewal};
use keyvigil_agent::http::Dialer;
use keyvigil_agent::identity::Identity;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::sampler::Shown;
use keyvigil_agent::sender::Itself;
use keyvigil_agent::standing::Board;
use keyvigil_agent::uplink::courier::Courier;
use keyvigil_agent::uplink::{Metrics, Uplink};
use keyvigil_common::client::Client;
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::Registry;
use keyvigil_common::wire::{Class, encode_batch};
use tokio::sync::{Notify, watch};

use crate::oracle::{self, ITEMS};
use crate::random::Random;

/// Of padding, so many characters in one piece.
const PART: usize = 1_024;

/// How a sender works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its state: identity, key, buffer.
    pub dir: PathBuf,
    /// What its buffer may hold.
    pub bounds: Bounds,
    /// Its time.
    pub clock: SharedClock,
    /// Its way to the aggregator.
    pub dialer: Dialer,
    /// Instant of number 0, Unix ms.
    pub base_ms: i64,
    /// Class of its batches.
    pub class: Class,
    /// Characters that no compression shortens much, added to each batch.
    pub padding: usize,
}

impl Options {
    /// One that works in `dir` and has room for everything.
    #[must_use]
    pub fn of(dir: &Path, base_ms: i64) -> Self {
        let bounds = Bounds { bytes: 1 << 30, age_ms: 1 << 40, min_free_bytes: 1 };
        Self { dir: dir.to_owned(), bounds, clock: SystemClock::shared(), dialer: Dialer::tcp(), base_ms, class: Class::Sample, padding: 0 }
    }
}

/// A running sender.
#[derive(Debug)]
pub struct Sender {
    /// What waits.
    pub buffer: Buffer,
    /// How delivery stands.
    pub board: Board,
    /// Its own numbers.
    pub registry: Registry,
    options: Options,
    filled: Arc<Notify>,
    tasks: Tasks,
    _identity: watch::Sender<Identity>,
}

/// Makes a host `name` of `dir` an agent.
///
/// # Panics
/// Where it cannot join.
pub async fn join(client: &Client, dir: &Path, name: &str) {
    keyvigil_common::tls::install_provider();
    let token = client.create_token(1, "5m").await.expect("a token");
    let token = token["token"].as_str().expect("text").parse().expect("a token");
    enroll::join(&token, dir, &RootFs::new(dir), name, &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
}

impl Sender {
    /// Starts one that has joined.
    ///
    /// # Panics
    /// Where its state cannot be opened.
    #[must_use]
    pub fn start(options: Options) -> Self {
        keyvigil_common::tls::install_provider();
        let Options { dir, bounds, clock, dialer, .. } = &options;
        let identity = Identity::load(dir).expect("an identity").expect("it has joined");
        let master = MasterKey::load_or_create(&dir.join("buffer.key")).expect("a key");
        let itself = Itself::starting(&RootFs::new(dir), dir, Arc::clone(clock));
        let place = Place { path: dir.join("buffer.db"), vfs: None, origin: itself.machine().to_owned(), clock: Arc::clone(clock) };
        let buffer = Buffer::open(place, master, *bounds, clock.now_ms()).expect("a buffer");
        let (filled, tasks, registry, board) = (Arc::new(Notify::new()), Tasks::new(Stop::new()), Registry::default(), Board::default());
        let (_identity, seen) = watch::channel(identity);
        let uplink = Uplink {
            buffer: buffer.clone(),
            itself,
            identity: seen,
            dialer: dialer.clone(),
            clock: Arc::clone(clock),
            filled: Arc::clone(&filled),
            enhanced: watch::channel(Enhanced::default()).0,
            renewal: Renewal::default(),
            tasks: tasks.clone(),
            metrics: Metrics::new(&registry),
            board: board.clone(),
            courier: Courier::default(),
            shown: Shown::default(),
            canary: keyvigil_agent::canary::Canary::none(),
        };
        tasks.spawn("uplink", uplink.run());
        Self { buffer, board, registry, options, filled, tasks, _identity }
    }

    /// Commits batch number `n`, and tells of losses that no batch has told of yet.
    ///
    /// # Errors
    /// The buffer's: then it is not committed.
    ///
    /// # Panics
    /// Never in practice.
    pub async fn send(&self, n: u64) -> Result<(), BufferError> {
        self.send_as(n, self.options.class).await
    }

    /// The same, as one of another class.
    ///
    /// # Errors
    /// The buffer's: then it is not committed.
    ///
    /// # Panics
    /// Never in practice.
    pub async fn send_as(&self, n: u64, class: Class) -> Result<(), BufferError> {
        let now_ms = self.options.clock.now_ms();
        let (told, gaps) = self.buffer.gaps(now_ms).await?.into_iter().unzip();
        let mut batch = oracle::batch(n, self.options.base_ms);
        batch.gaps = gaps;
        if self.options.padding > 0 {
            let mut random = Random::new(n);
            let mut text = |bytes: usize| (0..bytes.div_ceil(16)).map(|_| format!("{:016x}", random.number())).collect();
            let parts = (0..self.options.padding).step_by(PART).enumerate();
            batch.events[0].evidence = parts.map(|(part, from)| (format!("padding{part}"), text(PART.min(self.options.padding - from)))).collect();
        }
        let frame = encode_batch(&batch).expect("it fits");
        let new = New { class, items: ITEMS, at_ms: now_ms, frame, told };
        self.buffer.append(vec![new], Vec::new(), Vec::new(), now_ms).await?;
        self.filled.notify_one();
        Ok(())
    }

    /// Whether nothing waits any more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.buffer.level().batches == 0
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// Where a task hangs.
    pub async fn stop(self) {
        self.tasks.drain(Duration::from_secs(30)).await.expect("a clean end");
        self.buffer.close(self.options.clock.now_ms()).await.expect("closed");
    }
}
