//! How a running agent stands, for whoever may read its state directory: each connection to the socket `agent.sock` in it gets
//! one JSON document and is closed. Nothing can be ordered here.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::process;
use keyvigil_common::stop::Stop;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use crate::canary::Proof;
use crate::standing::Standing;

/// Whoever asks and does not read is left after this time.
const PATIENCE: Duration = Duration::from_secs(2);
const REPORT_BYTES_MAX: u64 = 4 << 20;

/// How an agent stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Value of its `host` tag.
    pub host: String,
    /// Its identity.
    pub agent: String,
    /// `host:port` of the aggregator.
    pub aggregator: String,
    /// When it was started, Unix ms.
    pub started_ms: i64,
    /// Its wall clock, Unix ms.
    pub now_ms: i64,
    /// Start and end of its certificate, Unix ms.
    pub certificate_ms: (i64, i64),
    /// What waits.
    pub buffer: Waiting,
    /// How delivery stands.
    pub standing: Standing,
    /// When each path of the canary was proven.
    pub canary: Vec<Proof>,
    /// Its sensors.
    pub sensors: Vec<Sensor>,
    /// CPU time it took, seconds, where the system tells.
    pub cpu_seconds: Option<f64>,
    /// Memory it holds, bytes, where the system tells.
    pub resident_bytes: Option<u64>,
    /// Batches given up since its start.
    pub given_up: u64,
}

/// What waits to be delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Batches.
    pub batches: u64,
    /// Samples, sightings and events in them.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most they may take.
    pub bytes_max: u64,
    /// When the oldest was sealed, Unix ms.
    pub oldest_ms: Option<i64>,
    /// Why batches are in memory only, if they are.
    pub degraded: Option<String>,
}

/// How a sensor stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// How often it is asked now, ms.
    pub interval_ms: u64,
    /// When it answered last, Unix ms.
    pub answered_ms: Option<i64>,
    /// How long that took, ms.
    pub took_ms: f64,
    /// Samples in that answer.
    pub samples: u64,
    /// What it cannot see, and why.
    pub blind: Vec<(String, String)>,
}

/// Makes a report.
pub type Reporting = Arc<dyn Fn() -> Report + Send + Sync>;

/// Where the socket is.
#[must_use]
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("agent.sock")
}

/// Makes the socket anew; the caller holds the directory's lock, so that one which is there is of an agent that is gone.
///
/// # Errors
/// The system's; a path that is longer than a socket's may be.
pub fn bind(dir: &Path) -> io::Result<UnixListener> {
    let path = socket(dir);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until stopped, one after the other.
pub async fn serve(listener: UnixListener, report: Reporting, stop: Stop) {
    while let Some(accepted) = stop.or(listener.accept()).await {
        let Ok((mut stream, _)) = accepted else {
            // Out of file descriptors, mostly.
            let _ = stop.or(tokio::time::sleep(PATIENCE)).await;
            continue;
        };
        let text = serde_json::to_vec(&report()).unwrap_or_default();
        let _ = tokio::time::timeout(PATIENCE, async { stream.write_all(&text).await.and(stream.shutdown().await) }).await;
    }
}

/// Asks the agent that works in `dir`; `None` if none runs.
///
/// # Errors
/// Why it cannot be asked.
pub fn ask(dir: &Path) -> Result<Option<Report>, AskError> {
    let stream = match UnixStream::connect(socket(dir)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            // No socket is no proof: somebody may have cleaned up, or it could not be made.
            return if process::is_locked(dir) { Err(AskError::NoSocket) } else { Ok(None) };
        }
        Err(e) => return Err(e.into()),
    };
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    let mut text = Vec::new();
    stream.take(REPORT_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| AskError::Answer(e.to_string()))
}

/// Why an agent that may run cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It runs without a socket.
    #[error("it runs, but its socket is gone")]
    NoSocket,
    /// It has a socket, and says nothing.
    #[error("it runs, but does not answer")]
    Silent,
    /// Not allowed.
    #[error("not allowed: {0}")]
    Denied(#[source] io::Error),
    /// An answer that makes no sense.
    #[error("its answer is not understood: {0}")]
    Answer(String),
    /// The system's.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied(error),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

impl AskError {
    /// Whether the agent runs, where that is known.
    #[must_use]
    pub fn runs(&self) -> Option<bool> {
        match self {
            Self::NoSocket | Self::Silent | Self::Answer(_) => Some(true),
            Self::Denied(_) | Self::Io(_) => None,
        }
    }

    /// What mends it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Denied(_) => "run this as root or as the user keyvigil",
            Self::Answer(_) => "agent and program may be of different versions: `systemctl restart keyvigil-agent`",
            Self::NoSocket | Self::Silent | Self::Io(_) => "`systemctl restart keyvigil-agent`; its log: `journalctl -u keyvigil-agent`",
        }
    }

    /// The exit code for it.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Denied(_) => process::EXIT_PERMISSION,
            Self::NoSocket | Self::Silent => 3,
            Self::Answer(_) | Self::Io(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::stop::Tasks;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_agent_tells_how_it_stands_and_one_that_is_gone_tells_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let asked = |dir: PathBuf| async move { tokio::task::spawn_blocking(move || ask(&dir)).await.unwrap().unwrap() };
        assert_eq!(asked(dir.path().to_owned()).await, None, "never started");
        let report =
            Report { version: "1".into(), certificate_ms: (1, 2), sensors: vec![Sensor { name: "cpu".into(), ..Sensor::default() }], ..Report::default() };
        let tasks = Tasks::new(Stop::new());
        for _ in 0..2 {
            // The second finds the socket of the first, as after a kill.
            let (listener, told) = (bind(dir.path()).unwrap(), report.clone());
            tasks.spawn_short("control", serve(listener, Arc::new(move || told.clone()), tasks.stop().child()));
            assert_eq!(asked(dir.path().to_owned()).await, Some(report.clone()));
        }
        tasks.drain(Duration::from_secs(5)).await.unwrap();
        assert_eq!(asked(dir.path().to_owned()).await, None);
    }

    #[test]
    fn an_agent_that_hangs_or_lost_its_socket_is_not_called_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let held = process::lock(dir.path()).unwrap();
        assert!(matches!(ask(dir.path()), Err(AskError::NoSocket)));
        let listener = std::os::unix::net::UnixListener::bind(socket(dir.path())).unwrap();
        assert!(matches!(ask(dir.path()), Err(AskError::Silent)), "connected, and nobody accepts");
        drop((held, listener));
        assert!(ask(dir.path()).unwrap().is_none());
    }
}
