//! What the mains of both daemons share: where the configuration is, exit codes, the runtime, and the word to stop.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Faults;

/// For work on blocking threads when the process ends.
const LAST_WORK: Duration = Duration::from_secs(2);

/// Bad configuration.
pub const EXIT_CONFIG: u8 = 78;
/// Something to try again later.
pub const EXIT_TEMPORARY: u8 = 75;
/// A server that cannot be reached.
pub const EXIT_UNREACHABLE: u8 = 69;
/// Not allowed.
pub const EXIT_PERMISSION: u8 = 77;

/// The file that was named, else the default one if it exists.
#[must_use]
pub fn config_file(named: Option<PathBuf>, default: &str) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(default)).filter(|path| path.exists()))
}

/// Prints a line to standard output.
pub fn say(line: &str) -> ExitCode {
    // Whoever reads may have seen enough (`| head`): that is no fault.
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Takes a directory for this process alone, for as long as the file is held. `None`: another process has it.
///
/// # Errors
/// The file cannot be made.
pub fn lock(dir: &Path) -> std::io::Result<Option<File>> {
    let file = File::options().create(true).append(true).open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Whether a process has taken the directory by [`lock`]. Makes and changes nothing; what cannot be looked at is not taken.
#[must_use]
pub fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The exit code for a failure: not allowed, where that lies at its bottom, else 1.
#[must_use]
pub fn failure_code(error: &(dyn std::error::Error + 'static)) -> u8 {
    let mut causes = std::iter::successors(Some(error), |e| e.source());
    let denied = |e: &std::io::Error| matches!(e.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem);
    if causes.any(|e| e.downcast_ref().is_some_and(denied)) { EXIT_PERMISSION } else { 1 }
}

/// Prints what is wrong with the configuration; the exit code for it.
#[expect(clippy::print_stderr, reason = "logging is configured by what could not be read")]
pub fn config_faults(file: Option<&Path>, faults: &Faults) -> ExitCode {
    eprintln!("The configuration{} is not valid:", file.map(|f| format!(" {}", f.display())).unwrap_or_default());
    for fault in &faults.0 {
        eprintln!("  {fault}");
    }
    ExitCode::from(EXIT_CONFIG)
}

/// Runs `work` on a runtime of its own, with so many threads (0: one a processor; 1: the calling one).
pub fn runtime(threads: usize, work: impl Future<Output = ExitCode>) -> ExitCode {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // Work that hangs on a dead disk, or on a read that nobody answers, does not keep the process.
            runtime.shutdown_timeout(LAST_WORK);
            code
        }
        Err(e) => {
            tracing::error!("cannot start a runtime: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Ends when the process is asked to stop: SIGTERM, SIGINT, or (`with_stdin`) the end of standard input. Says which.
pub async fn asked_to_stop(with_stdin: bool) -> &'static str {
    // The signal of those who think that something is reloaded must not be the end.
    asked_to_stop_or(with_stdin, || tracing::warn!("SIGHUP: the configuration is read at start only; restart to apply changes")).await
}

/// As [`asked_to_stop`]; meanwhile each SIGHUP does `reload`.
pub async fn asked_to_stop_or(with_stdin: bool, reload: impl Fn()) -> &'static str {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut stream) => {
                stream.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    let input = async {
        if !with_stdin {
            std::future::pending::<()>().await;
        }
        // A thread of its own, that nobody waits for: a read of standard input cannot be cut short.
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 64];
            while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
            drop(ended);
        });
        let _ = end.await;
    };
    let hangup = async {
        let Ok(mut stream) = signal(SignalKind::hangup()) else { return std::future::pending::<()>().await };
        while stream.recv().await.is_some() {
            reload();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => "SIGTERM",
        () = wait(SignalKind::interrupt()) => "SIGINT",
        () = input => "end of standard input",
        () = hangup => "SIGHUP",
    }
}
