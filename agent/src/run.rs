//! The wiring of the agent: buffer, sampler, uplink, renewer. The only file that makes channels and spawns tasks. Clock,
//! dialer and configuration come in as arguments, so that a test owns them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::limits::PUSH_FRAMES_MAX;
use keyvigil_common::process;
use keyvigil_common::seal::{MasterKey, SealError};
use keyvigil_common::stop::{Stop, StopError, Tasks};
use keyvigil_common::telemetry::{Registry, chain};
use keyvigil_common::wire::Class;
use tokio::sync::{Notify, watch};

use crate::buffer::{Bounds, Buffer, BufferError};
use crate::collect::{AskWaiting, COLLECTORS, Context, Row, Waiting};
use crate::config::Config;
use crate::enroll::Renewer;
use crate::http::Dialer;
use crate::identity::{Identity, IdentityError};
use crate::rootfs::RootFs;
use crate::sampler::{Parts, Sampler};
use crate::uplink::{Metrics, Uplink};

/// Shorter than systemd's patience.
const DRAIN: Duration = Duration::from_secs(15);

/// A running agent.
#[derive(Debug)]
pub struct Running {
    /// Its queue.
    pub buffer: Arc<Buffer>,
    /// Its own numbers.
    pub registry: Registry,
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
    identity.tls()?;
    let master = MasterKey::load_or_create(&dir.join("buffer.key"))?;
    let bounds = Bounds { bytes: config.buffer.max_bytes, age_ms: config.buffer.max_age.as_ms() };
    let path = dir.join("buffer.db");
    let buffer = open_buffer(&path, &master, bounds, clock.now_ms())?;
    let (buffer, registry, filled) = (Arc::new(buffer), Registry::default(), Arc::new(Notify::new()));
    let (sampling, delivery) = (Tasks::new(stop.child()), Tasks::new(Stop::new()));
    let (enhanced, enhanced_seen) = watch::channel(0);
    let host = identity.host.clone();
    let (identity, identity_seen) = watch::channel(identity);
    let uplink = Uplink {
        buffer: Arc::clone(&buffer),
        identity: identity_seen,
        dialer: dialer.clone(),
        clock: Arc::clone(&clock),
        filled: Arc::clone(&filled),
        enhanced,
        tasks: delivery.clone(),
        metrics: Metrics::new(&registry),
        frames_max: PUSH_FRAMES_MAX,
    };
    let renewer = Renewer { dir: dir.clone(), identity, dialer, clock: Arc::clone(&clock), tasks: delivery.clone() };
    let context = Context {
        root: RootFs::new(&config.root),
        started_ms: clock.now_ms(),
        keystore: config.keystore.clone(),
        registry: registry.clone(),
        waiting: Some(ask_waiting(Arc::clone(&buffer))),
    };
    let sampler = Sampler::new(Parts {
        rows: rows(config),
        context,
        adaptive: config.sampling.adaptive,
        cpu_budget_percent: config.sampling.cpu_budget_percent,
        buffer: Arc::clone(&buffer),
        clock,
        host,
        filled,
        enhanced: enhanced_seen,
        registry: registry.clone(),
    });
    sampling.spawn("sampler", sampler.run(sampling.stop().clone()));
    delivery.spawn("uplink", uplink.run());
    delivery.spawn("renewer", renewer.run());
    Ok(Running { buffer, registry, sampling, delivery, _lock: lock })
}

/// Opens the buffer. One that is damaged is set aside, so that the agent goes on; that it was is declared.
fn open_buffer(path: &Path, master: &MasterKey, bounds: Bounds, now_ms: i64) -> Result<Buffer, StartError> {
    let fault = |source| StartError::Buffer { path: path.display().to_string(), source };
    let damaged = match Buffer::open(path, master, bounds) {
        Err(e) if e.is_damaged() => e,
        other => return other.map_err(fault),
    };
    let aside = path.with_extension(format!("db.damaged-{now_ms}"));
    tracing::error!(error = chain(&damaged), kept = %aside.display(), "the buffer is damaged; it is set aside and a new one begins");
    for suffix in ["", "-wal", "-shm"] {
        let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        match std::fs::rename(with(path), with(&aside)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(StartError::Aside(path.display().to_string(), e)),
            _ => {}
        }
    }
    let buffer = Buffer::open(path, master, bounds).map_err(fault)?;
    buffer.append(&[], &[], &[(Class::Sample, 0, "the buffer was damaged; how much it held is not known")], now_ms).map_err(fault)?;
    Ok(buffer)
}

fn ask_waiting(buffer: Arc<Buffer>) -> AskWaiting {
    AskWaiting::new(move || {
        let level = buffer.level().map_err(|e| chain(&e))?;
        Ok(Waiting { batches: level.batches, bytes: level.bytes, oldest_ms: level.oldest_ms })
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
    /// A damaged buffer that cannot be moved.
    #[error("the damaged buffer {0} cannot be set aside")]
    Aside(String, #[source] std::io::Error),
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
