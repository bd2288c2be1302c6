//! What an administrator does to a store by hand, while its aggregator does not run.

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use keyvigil_common::clock::SystemClock;
use keyvigil_common::process::{self, EXIT_TEMPORARY};
use keyvigil_common::telemetry::chain;

use crate::config::Config;
use crate::run::{self, StartError};
use crate::store::{Size, Store};

/// `compact`: all into as few bytes as it takes.
pub async fn compact(config: Config) -> ExitCode {
    match try_compact(&config).await {
        Ok((before, after)) => process::say(&format!(
            "{} samples, {:.2} bytes each: {} bytes before, {} now",
            after.block_samples,
            after.bytes as f64 / after.block_samples.max(1) as f64,
            before.bytes,
            after.bytes
        )),
        Err(e) => failed(&e),
    }
}

async fn try_compact(config: &Config) -> Result<(Size, Size), StartError> {
    let (store, _lock) = open(config)?;
    let before = store.size().await?;
    store.compact().await?;
    Ok((before, store.size().await?))
}

/// The store that is there, locked against a running aggregator.
fn open(config: &Config) -> Result<(Store, std::fs::File), StartError> {
    let dir = &config.storage.path;
    // Nothing is made here: what is not there is a slip of the keyboard. Nor as another user, whose files the aggregator
    // could not write.
    let slip = |kind: std::io::ErrorKind, why: &str| StartError::Dir { path: dir.clone(), source: std::io::Error::new(kind, why.to_owned()) };
    let owner = std::fs::metadata(dir.join("store/main.db")).map_err(|_| slip(std::io::ErrorKind::NotFound, "no aggregator has stored anything there"))?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(slip(std::io::ErrorKind::PermissionDenied, "it belongs to another user: run this as that user (runuser -u keyvigil -- ...)"));
    }
    if !run::master_key_file(config).exists() {
        return Err(slip(std::io::ErrorKind::NotFound, "the master key is missing; without it nothing opens"));
    }
    let lock = process::lock(dir).map_err(|source| StartError::Dir { path: dir.clone(), source })?;
    let lock = lock.ok_or_else(|| StartError::Locked(dir.clone()))?;
    let master = run::master_key(config)?;
    Ok((Store::open(&dir.join("store"), &master, SystemClock::shared().now_ms(), config.storage.memory_bytes)?, lock))
}

fn failed(error: &StartError) -> ExitCode {
    tracing::error!("{}", chain(error));
    ExitCode::from(match error {
        StartError::Locked(_) => EXIT_TEMPORARY,
        other => process::failure_code(other),
    })
}
