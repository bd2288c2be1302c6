//! The wiring of the agent: buffer, sampler, uplink, renewer. The only file that makes channels and spawns tasks. Clock,
//! dialer and configuration come in as arguments, so that a test owns them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::canary::CanaryPath;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::process;
use keyvigil_common::seal::{MasterKey, SealError};
use keyvigil_common::stop::{Stop, StopError, Tasks};
use keyvigil_common::telemetry::Registry;
use tokio::sync::{Notify, watch};

use crate::buffer::{Bounds, Buffer, BufferError, Place};
use crate::canary::{Canary, Trials};
use crate::collect::own;
use crate::collect::{AccessRules, AskWaiting, COLLECTORS, Context, KeystoreConfig, KnownKeys, Link, Row, Waiting};
use crate::config::Config;
use crate::control::{self, Report, Reporting};
use crate::enhanced::Enhanced;
use crate::enroll::{Renewal, Renewer};
use crate::http::Dialer;
use crate::identity::{Identity, IdentityError};
use crate::rootfs::RootFs;
use crate::sampler::{DROPPED, Parts, Sampler, Shown};
use crate::sender::Itself;
use crate::standing::Board;
use crate::uplink::courier::Courier;
use crate::uplink::{Metrics, Uplink};

/// Shorter than systemd's patience.
const DRAIN: Duration = Duration::from_secs(15);

/// A running agent.
#[derive(Debug)]
pub struct Running {
    /// Its queue.
    pub buffer: Buffer,
    /// How it stands.
    pub board: Board,
    /// Its own numbers.
    pub registry: Registry,
    /// Who may open which key, as it is in force.
    pub access: AccessRules,
    clock: SharedClock,
    sampling: Tasks,
    delivery: Tasks,
    _lock: File,
}

impl Running {
    /// Waits until it is told to stop, or a task dies.
    pub async fn stopped(&self) {
        tokio::select! {
            () = self.sampling.stop().stopped() => {}
            () = self.delivery.stop().stopped() => {}
        }
    }

    /// Stops in the direction of the data: sensors, then what they saw last is sealed, then it is delivered if it can be.
    ///
    /// # Errors
    /// Who was late, or which task died.
    pub async fn stop(self) -> Result<(), StopError> {
        let sampled = self.sampling.drain(DRAIN).await;
        let delivered = self.delivery.drain(DRAIN).await;
        if let Err(e) = self.buffer.close(self.clock.now_ms()).await {
            tracing::warn!(error = %e, "the last acks are not stored; what they were for is sent again");
        }
        sampled.and(delivered)
    }
}

/// Starts an agent that has joined.
///
/// # Errors
/// No identity, or a buffer that cannot be opened.
pub fn start(config: &Config, clock: SharedClock, dialer: Dialer, stop: &Stop) -> Result<Running, StartError> {
    let dir = &config.state_dir;
    let lock = match process::lock(dir) {
        Ok(lock) => lock.ok_or_else(|| StartError::Locked(dir.display().to_string()))?,
        Err(e) => return Err(IdentityError::file(dir, e).into()),
    };
    let identity = Identity::load(dir)?.ok_or_else(|| StartError::NotJoined(dir.display().to_string()))?;
    identity.tls(&clock)?;
    let (root, board) = (RootFs::new(&config.root), Board::default());
    let itself = Itself::starting(&root, dir, Arc::clone(&clock));
    let buffer = buffer(config, &itself, &clock)?;
    let (registry, filled) = (Registry::default(), Arc::new(Notify::new()));
    let (sampling, delivery) = (Tasks::new(stop.child()), Tasks::new(Stop::new()));
    let (enhanced, enhanced_seen) = watch::channel(Enhanced::default());
    let host = identity.host.clone();
    let (identity, identity_seen) = watch::channel(identity);
    let (identity_told, shown) = (identity_seen.clone(), Shown::default());
    let renewal = Renewal::default();
    let canary = canary(config, &clock);
    let uplink = Uplink {
        buffer: buffer.clone(),
        identity: identity_seen,
        dialer: dialer.clone(),
        clock: Arc::clone(&clock),
        filled: Arc::clone(&filled),
        enhanced,
        renewal: renewal.clone(),
        itself: itself.clone(),
        board: board.clone(),
        courier: Courier::default(),
        shown: shown.clone(),
        canary: canary.clone(),
        tasks: delivery.clone(),
        metrics: Metrics::new(&registry),
    };
    let renewer = Renewer { dir: dir.clone(), identity, renewal, board: board.clone(), dialer, clock: Arc::clone(&clock), tasks: delivery.clone() };
    let (access, own_clock) = (AccessRules::new(config.access.clone()), Arc::clone(&clock));
    let context = Context { access: access.clone(), ..context(config, &canary, &registry, &buffer, clock.now_ms()) };
    let sampler = Sampler::new(Parts {
        rows: rows(config),
        context,
        adaptive: config.sampling.adaptive,
        cpu_budget_percent: config.sampling.cpu_budget_percent,
        buffer: buffer.clone(),
        itself,
        shown: shown.clone(),
        clock,
        host,
        filled,
        enhanced: enhanced_seen,
        registry: registry.clone(),
    });
    let reporting = reporting(
        buffer.clone(),
        config.buffer.max_bytes,
        identity_told,
        &board,
        (shown, canary.clone()),
        (Arc::clone(&own_clock), own_clock.now_ms()),
        &registry,
    );
    answer(dir, reporting, &delivery);
    if let Some(trials) = Trials::new(&canary, &config.canary) {
        sampling.spawn("canary", trials.run(sampling.stop().clone()));
    }
    sampling.spawn("sampler", sampler.run(sampling.stop().clone()));
    delivery.spawn("uplink", uplink.run());
    delivery.spawn("renewer", renewer.run());
    Ok(Running { buffer, board, registry, access, clock: own_clock, sampling, delivery, _lock: lock })
}

/// What the sensors are made from.
fn context(config: &Config, canary: &Canary, registry: &Registry, buffer: &Buffer, started_ms: i64) -> Context {
    Context {
        root: RootFs::new(&config.root),
        started_ms,
        keystore: keystore(config, canary),
        served: config.served.clone(),
        known: KnownKeys::default(),
        registry: registry.clone(),
        access: AccessRules::new(config.access.clone()),
        probe: Link::new(&config.access.socket),
        canary: canary.clone(),
        waiting: Some(ask_waiting(buffer.clone())),
    }
}

fn buffer(config: &Config, itself: &Itself, clock: &SharedClock) -> Result<Buffer, StartError> {
    let path = config.state_dir.join("buffer.db");
    let master = MasterKey::load_or_create(&config.state_dir.join("buffer.key"))?;
    let bounds = Bounds { bytes: config.buffer.max_bytes, age_ms: config.buffer.max_age.as_ms(), min_free_bytes: config.buffer.min_free_bytes };
    let place = Place { path: path.clone(), vfs: None, origin: itself.machine().to_owned(), clock: Arc::clone(clock) };
    Buffer::open(place, master, bounds, clock.now_ms()).map_err(|source| StartError::Buffer { path: path.display().to_string(), source })
}

/// Answers who asks how the agent stands.
fn answer(dir: &Path, reporting: Reporting, delivery: &Tasks) {
    match control::bind(dir) {
        Ok(listener) => delivery.spawn("control", control::serve(listener, reporting, delivery.stop().clone())),
        Err(e) => tracing::warn!(error = %e, "`keyvigil-agent status` will not know more than lies on disk"),
    }
}

/// What the agent tells of itself on its socket.
fn reporting(
    buffer: Buffer,
    bytes_max: u64,
    identity: watch::Receiver<Identity>,
    board: &Board,
    (shown, canary): (Shown, Canary),
    (clock, started_ms): (SharedClock, i64),
    registry: &Registry,
) -> Reporting {
    let board = board.clone();
    let dropped = registry.all().into_iter().find(|own| own.metric_id == DROPPED).map(|own| own.value).unwrap_or_default();
    Arc::new(move || {
        let (level, identity) = (buffer.level(), identity.borrow().clone());
        let (cpu_seconds, resident_bytes) = own::cost();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            certificate_ms: identity.validity_ms().unwrap_or_default(),
            host: identity.host,
            agent: identity.agent,
            aggregator: identity.address,
            started_ms,
            now_ms: clock.now_ms(),
            buffer: control::Waiting {
                batches: level.batches,
                items: level.items,
                bytes: level.bytes,
                bytes_max,
                oldest_ms: level.oldest_ms,
                degraded: level.degraded,
            },
            standing: board.read(),
            canary: canary.proofs(),
            sensors: shown.all(),
            cpu_seconds,
            resident_bytes,
            given_up: dropped.get(),
        }
    })
}

/// The canary, for those paths whose sensors are on; off with the sensor that tells of it.
fn canary(config: &Config, clock: &SharedClock) -> Canary {
    let on = |name: &str| !config.sampling.disabled.iter().any(|off| off == name);
    let dir = (on("canary") && config.canary.program.is_some()).then(|| config.state_dir.join("canary"));
    // Absolute, as what the kernel tells.
    let dir = dir.map(|dir| std::path::absolute(&dir).unwrap_or(dir));
    Canary::new(&config.canary, dir, CanaryPath::ALL.into_iter().filter(|path| on(path.as_str())), Arc::clone(clock))
}

/// Where keys are looked for: the canary's is nobody's.
fn keystore(config: &Config, canary: &Canary) -> KeystoreConfig {
    let mut keystore = config.keystore.clone();
    keystore.exclude.extend(canary.key().map(|key| key.to_string_lossy().into_owned()));
    keystore
}

fn ask_waiting(buffer: Buffer) -> AskWaiting {
    AskWaiting::new(move || {
        let level = buffer.level();
        Ok(Waiting { batches: level.batches, bytes: level.bytes, oldest_ms: level.oldest_ms, degraded: level.degraded })
    })
}

/// Sensors that are on, with their intervals.
fn rows(config: &Config) -> Vec<(Row, Duration, Duration)> {
    let on = COLLECTORS.iter().filter(|row| !config.sampling.disabled.iter().any(|name| name == row.name));
    on.map(|row| match config.sampling.intervals.get(row.name) {
        Some((min, max)) => (*row, min.0, max.0),
        None => (*row, Duration::from_secs(row.interval_seconds.0), Duration::from_secs(row.interval_seconds.1)),
    })
    .collect()
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No identity.
    #[error("this host has not joined an aggregator yet (no identity in {0}): run `keyvigil-agent join TOKEN`; `keyvigil token create` makes one")]
    NotJoined(String),
    /// Another agent works here.
    #[error("{0} is in use by another agent: stop it, or name another directory with --dir")]
    Locked(String),
    /// Identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Key of the buffer.
    #[error("buffer key")]
    Seal(#[from] SealError),
    /// Buffer.
    #[error("cannot open the buffer {path}")]
    Buffer {
        /// Its path.
        path: String,
        /// Why.
        source: BufferError,
    },
}
