//! What the mains of both daemons share: where the configuration is, exit codes, the runtime, and the word to stop.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Faults;

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
#[expect(clippy::print_stdout, reason = "the daemons' few words to who called them")]
pub fn say(line: &str) -> ExitCode {
    println!("{line}");
    ExitCode::SUCCESS
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

/// Runs `work` on a runtime of its own, with so many threads (0: one a processor).
pub fn runtime(threads: usize, work: impl Future<Output = ExitCode>) -> ExitCode {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(e) => {
            tracing::error!("cannot start a runtime: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Ends when the process is asked to stop: SIGTERM, SIGINT, or (`with_stdin`) the end of standard input. Says which.
pub async fn asked_to_stop(with_stdin: bool) -> &'static str {
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
        let mut stdin = tokio::io::stdin();
        let mut buffer = [0u8; 64];
        while stdin.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => "SIGTERM",
        () = wait(SignalKind::interrupt()) => "SIGINT",
        () = input => "end of standard input",
    }
}
