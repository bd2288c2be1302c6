//! The commands that work on a whole store: `verify`, `compact`, `reindex`, `cleanup`. Where an aggregator serves the
//! directory it is asked to do the work (`remote`); else the directory is locked and the work is done here. What the work
//! is stands in `upkeep`; how it is shown, in `show`.

mod remote;
mod show;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use keyvigil_common::clock::SystemClock;
use keyvigil_common::process::{self, EXIT_CONFIG, EXIT_PERMISSION, EXIT_TEMPORARY};
use keyvigil_common::telemetry::chain;

use crate::cli::Output;
use crate::config::Config;
use crate::endpoints::Endpoints;
use crate::run::{self, StartError};
use crate::store::{self, Progress, Store};
use crate::upkeep::{self, Order, Report, Request, Task};
use show::Show;

/// Does what `request` says to the store of `config`, and shows what becomes of it.
pub async fn maintain(config: Config, request: Request, output: Output) -> ExitCode {
    match try_maintain(config, &request).await {
        Ok(report) => {
            show::result(&report, output);
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failed) => {
            show::failure(&failed.text);
            ExitCode::from(failed.code)
        }
    }
}

async fn try_maintain(mut config: Config, request: &Request) -> Result<Report, Failed> {
    let clock = SystemClock::shared();
    let order =
        request.order(clock.now_ms()).map_err(|why| Failed::new(2, why.replace("older_than", "--older-than").replace("say yes as well", "add --yes")))?;
    let lock = find(&mut config)?;
    let show = Arc::new(Show::new(request.task, clock));
    let report = match lock {
        Some(lock) => {
            let told = Arc::clone(&show);
            let report = here(&config, order, &Progress::new(Arc::default(), move |step| told.step(&step))).await;
            drop(lock);
            report
        }
        None => remote::ask(&config, request, &show).await,
    };
    show.end();
    report
}

/// Finds the store, and takes it: `None` if an aggregator has it. Nothing is made here: what is not there is a slip of the
/// keyboard.
fn find(config: &mut Config) -> Result<Option<File>, Failed> {
    let path = &mut config.storage.path;
    // What `keyvigil up --dir` made has the aggregator's directory in it.
    let within = path.join("aggregator");
    if !path.join("store/main.db").exists() && within.join("store/main.db").exists() {
        *path = within;
    }
    let dir = |source| StartError::Dir { path: config.storage.path.clone(), source };
    let metadata = std::fs::metadata(config.storage.path.join("store/main.db")).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            dir(std::io::Error::new(e.kind(), "no aggregator has stored anything there: --dir or --config names another directory"))
        }
        _ => dir(e),
    })?;
    // Where there is none, none is made before it is known whose the directory is: the aggregator could not open another's.
    let lock = match config.storage.path.join("lock").exists() {
        true => match process::lock(&config.storage.path).map_err(dir)? {
            Some(lock) => Some(lock),
            None => return Ok(None),
        },
        false => None,
    };
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let why = "it belongs to another user: run this as that user (runuser -u keyvigil -- ...)";
        return Err(dir(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why)).into());
    }
    let key = run::master_key_file(config);
    if !key.exists() {
        return Err(Failed::new(EXIT_CONFIG, format!("the master key is missing: {} is not there, and without it nothing opens", key.display())));
    }
    let lock = match lock {
        Some(lock) => Some(lock),
        None => process::lock(&config.storage.path).map_err(dir)?,
    };
    if lock.is_some() {
        // What an aggregator that was killed left behind would lead the next command astray.
        Endpoints::withdraw(&config.storage.path).map_err(dir)?;
    }
    Ok(lock)
}

/// Does it in this process, on a store that is ours.
async fn here(config: &Config, order: Order, progress: &Progress) -> Result<Report, Failed> {
    let (master, dir, memory_bytes) = (run::master_key(config)?, config.storage.path.join("store"), config.storage.memory_bytes);
    let (progress, task) = (progress.clone(), order.task);
    let opened = tokio::task::spawn_blocking(move || -> Result<_, Failed> {
        if !store::is_key_of(&dir, &master).map_err(StartError::from)? {
            return Err(Failed::new(EXIT_CONFIG, "the master key is not the one of this store: what it stored does not open"));
        }
        if task == Task::Verify {
            // Not through a store: one that is damaged may not open, and opening writes.
            return Ok(Err(Report::Verify(store::verify_at(&dir, &master, &progress).map_err(StartError::from)?)));
        }
        if task == Task::Reindex {
            store::reindex_main_at(&dir).map_err(StartError::from)?;
        }
        match Store::open(&dir, &master, SystemClock::shared().now_ms(), memory_bytes) {
            Ok(store) => Ok(Ok((store, progress))),
            Err(e) => {
                let failed = Failed::from(StartError::from(e));
                Err(Failed { text: format!("{}; `keyvigil-aggregator verify` says what is damaged", failed.text), ..failed })
            }
        }
    });
    match opened.await.map_err(|e| Failed::new(1, e.to_string()))?? {
        Err(verified) => Ok(verified),
        Ok((store, progress)) => Ok(upkeep::run(&store, order, &progress).await.map_err(StartError::from)?),
    }
}

/// Why a command failed: exit code and words.
#[derive(Debug)]
struct Failed {
    code: u8,
    text: String,
}

impl Failed {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Not now.
    fn later(text: impl Into<String>) -> Self {
        Self::new(EXIT_TEMPORARY, text)
    }

    fn file(path: PathBuf, source: std::io::Error) -> Self {
        StartError::Dir { path, source }.into()
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Locked(_) => EXIT_TEMPORARY,
            StartError::Config(_) | StartError::Seal(_) => EXIT_CONFIG,
            other => process::failure_code(other),
        };
        // A master key that cannot be read is a matter of who asks.
        let code = if process::failure_code(&error) == EXIT_PERMISSION { EXIT_PERMISSION } else { code };
        Self::new(code, chain(&error))
    }
}
