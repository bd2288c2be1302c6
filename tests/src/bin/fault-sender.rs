//! The sender of fault experiments as a process of its own: commits numbered batches at a pace, writes what it committed to a
//! side log that no fault touches, and delivers. Ends when standard input ends; with `--drain`, once nothing waits any more.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use keyvigil_agent::http::{Dialer, Stream};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::wire::Class;
use keyvigil_tests::oracle::SideLog;
use keyvigil_tests::sender::{Options, Sender};

#[derive(Debug, Parser)]
struct Cli {
    /// State of the agent; it has joined.
    #[arg(long)]
    dir: PathBuf,
    /// The side log.
    #[arg(long)]
    log: PathBuf,
    /// Instant of number 0, Unix ms.
    #[arg(long)]
    base_ms: i64,
    /// Between two batches, ms.
    #[arg(long, default_value_t = 20)]
    every_ms: u64,
    /// Batches to commit; 0 for no end.
    #[arg(long, default_value_t = 0)]
    count: u64,
    /// Bytes that may wait.
    #[arg(long, default_value_t = 1 << 30)]
    max_bytes: u64,
    /// Bytes of the file system that stay free.
    #[arg(long, default_value_t = 1)]
    min_free_bytes: u64,
    /// Characters that each batch is made larger by.
    #[arg(long, default_value_t = 0)]
    padding: usize,
    /// Each so manieth batch is of the highest class; 0 for none.
    #[arg(long, default_value_t = 0)]
    alert_every: u64,
    /// Where the aggregator is reached, if not where the identity says.
    #[arg(long)]
    via: Option<String>,
    /// Ends once all is committed and acknowledged.
    #[arg(long)]
    drain: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let cli = Cli::parse();
    let _ = keyvigil_common::telemetry::start_logs(&std::env::var("LOG_LEVEL").unwrap_or_else(|_| "error".into()), false);
    let mut options = Options::of(&cli.dir, cli.base_ms);
    options.bounds.bytes = cli.max_bytes;
    options.bounds.min_free_bytes = cli.min_free_bytes;
    options.padding = cli.padding;
    if let Some(via) = cli.via.clone() {
        options.dialer = Dialer::new(move |_| {
            let via = via.clone();
            async move { Ok(Box::new(tokio::net::TcpStream::connect(via).await?) as Box<dyn Stream>) }
        });
    }
    let issued = SideLog::read(&cli.log);
    let (mut log, sender) = (SideLog::open(&cli.log), Sender::start(options));
    let mut next = issued.attempted.last().map_or(1, |last| last + 1);
    let last = if cli.count == 0 { u64::MAX } else { next + cli.count - 1 };
    let asked_to_stop = keyvigil_common::process::asked_to_stop(true);
    tokio::pin!(asked_to_stop);
    let clock = SystemClock::shared();
    let (mut degraded, mut told) = (None, None);
    loop {
        let ended = tokio::select! {
            _ = &mut asked_to_stop => true,
            () = clock.sleep(Duration::from_millis(cli.every_ms)) => false,
        };
        if ended {
            break;
        }
        if next <= last {
            log.attempt(next);
            let class = if cli.alert_every > 0 && next.is_multiple_of(cli.alert_every) { Class::Alert } else { Class::Sample };
            if sender.send_as(next, class).await.is_ok() {
                log.commit(next);
            }
            next += 1;
        }
        let level = sender.buffer.level();
        // Once all is committed it is noted how full it is, and that nothing waits any more.
        let over = (next > last).then_some(level.batches == 0);
        if level.degraded != degraded || over > told {
            log.level(level.batches, level.bytes, level.degraded.as_deref());
            (degraded, told) = (level.degraded, over);
        }
        if next <= last {
            continue;
        }
        if cli.drain && sender.is_drained() {
            break;
        }
    }
    sender.stop().await;
}
