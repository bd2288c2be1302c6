//! Where a running aggregator is reached: what it prints, and the file in its state directory by which a command on the
//! same host finds it. The file holds no secret, and means something only while the directory's lock is held.

use std::io;
use std::path::{Path, PathBuf};

use keyvigil_common::seal::write_private;
use serde::{Deserialize, Serialize};

const FILE: &str = "endpoints.json";

/// Where a running aggregator is reached, as `--output json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoints {
    /// API and dashboard.
    pub url: String,
    /// mTLS ingest and enrolment.
    pub ingest_url: String,
    /// Prometheus exposition.
    pub metrics_url: String,
    /// Health.
    pub health_url: String,
    /// Token for changes.
    pub admin_token: String,
    /// State directory.
    pub dir: PathBuf,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// API and dashboard.
    pub url: String,
    /// mTLS ingest and enrolment.
    pub ingest_url: String,
    /// Prometheus exposition.
    pub metrics_url: String,
    /// Health.
    pub health_url: String,
    /// Process.
    pub pid: u32,
}

impl Endpoints {
    /// Writes the file.
    ///
    /// # Errors
    /// The file system's.
    pub fn publish(&self) -> io::Result<()> {
        let Self { url, ingest_url, metrics_url, health_url, .. } = self.clone();
        let published = Published { url, ingest_url, metrics_url, health_url, pid: std::process::id() };
        write_private(&self.dir.join(FILE), &serde_json::to_vec_pretty(&published)?)
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// The file system's.
    pub fn withdraw(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(dir.join(FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

impl Published {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// The file system's, or a file that is none of ours.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}
