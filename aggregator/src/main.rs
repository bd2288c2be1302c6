//! `keyvigil-aggregator`: reads the configuration, starts, waits for the word to stop, drains.

use std::process::ExitCode;

use clap::Parser;
use keyvigil_aggregator::cli::{Cli, Command, Output};
use keyvigil_aggregator::config::{ALIASES, Config};
use keyvigil_aggregator::maintain;
use keyvigil_aggregator::run::{self, Running};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::config::{AGENT_SECTIONS, Faults, Sources};
use keyvigil_common::process::{self, EXIT_CONFIG, EXIT_TEMPORARY};
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::{chain, start_logs};

/// Samples come and go in many small pieces on several threads: glibc's allocator spends a tenth of the time of ingest.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    keyvigil_common::tls::install_provider();
    let file = process::config_file(cli.config.clone(), "/etc/keyvigil/aggregator.toml");
    let config = Config::read(&Sources::new(file.clone(), ALIASES, AGENT_SECTIONS)).and_then(|mut config| {
        config.storage.path = cli.dir.clone().unwrap_or(config.storage.path);
        start_logs(&config.log.level, config.log.json).map_err(|fault| Faults(vec![format!("log.level: {fault}")]))?;
        Ok(config)
    });
    let config = match config {
        Ok(config) => config,
        Err(faults) => return process::config_faults(file.as_deref(), &faults),
    };
    match cli.command.unwrap_or_default() {
        Command::CheckConfig => process::say("the configuration is valid"),
        Command::Maintenance(what) => {
            let (request, output) = what.request();
            process::runtime(0, maintain::maintain(config, request, output))
        }
        Command::Run { output, stop_with_stdin } => process::runtime(0, async move { serve(config, output, stop_with_stdin).await }),
    }
}

async fn serve(config: Config, output: Output, stop_with_stdin: bool) -> ExitCode {
    let stop = Stop::new();
    let running = match run::start(config, SystemClock::shared(), stop.clone()).await {
        Ok(running) => running,
        Err(e) => {
            tracing::error!("cannot start: {}", chain(&e));
            return ExitCode::from(match e {
                run::StartError::Config(_) => EXIT_CONFIG,
                run::StartError::Locked(_) => EXIT_TEMPORARY,
                e => process::failure_code(&e),
            });
        }
    };
    announce(&running, output);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        () = running.stopped() => {}
        why = process::asked_to_stop(stop_with_stdin) => tracing::info!("{why}: stopping"),
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    match running.stop().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn announce(running: &Running, output: Output) {
    let at = &running.endpoints;
    tracing::info!(url = at.url, ingest = at.ingest_url, metrics = at.metrics_url, health = at.health_url, dir = %at.dir.display(), "listening");
    if output == Output::Json {
        process::say(&serde_json::to_string(at).unwrap_or_default());
    }
}
