//! `keyvigil-agent`: reads the configuration, then joins, runs, or tells how it stands.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use keyvigil_agent::cli::{Cli, Command, Output};
use keyvigil_agent::collect::AccessRules;
use keyvigil_agent::config::{ALIASES, Config};
use keyvigil_agent::enroll::{self, EnrollError};
use keyvigil_agent::http::Dialer;
use keyvigil_agent::identity::Identity;
use keyvigil_agent::parse::passwd::users;
use keyvigil_agent::probe::serve::{self, Serving};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::{allocator, canary, collect, control, doctor, policy, run, status, top};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::config::{AGGREGATOR_SECTIONS, Faults, Sources};
use keyvigil_common::process::{self, EXIT_CONFIG, EXIT_PERMISSION, EXIT_TEMPORARY, EXIT_UNREACHABLE};
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::{chain, start_logs};

fn main() -> ExitCode {
    allocator::hold_little();
    let cli = Cli::parse();
    keyvigil_common::tls::install_provider();
    let file = process::config_file(cli.config.clone(), "/etc/keyvigil/agent.toml");
    let config = Config::read(&Sources::new(file.clone(), ALIASES, AGGREGATOR_SECTIONS)).and_then(|mut config| {
        config.state_dir = cli.dir.clone().unwrap_or(config.state_dir);
        start_logs(&config.log.level, config.log.json).map_err(|fault| Faults(vec![format!("log.level: {fault}")]))?;
        Ok(config)
    });
    let config = match config {
        Ok(config) => config,
        Err(faults) => return process::config_faults(file.as_deref(), &faults),
    };
    match cli.command.unwrap_or(Command::Run { stop_with_stdin: false }) {
        Command::Run { stop_with_stdin } => process::runtime(1, async move { sense(config, stop_with_stdin, file).await }),
        Command::Join { token, name } => process::runtime(1, async move { join(config, token, name).await }),
        Command::Status { output } => status::print(&config.state_dir, SystemClock::shared().now_ms(), output == Output::Json),
        Command::Top { once, output } => {
            process::runtime(1, async move { top::show(&config.state_dir, &SystemClock::shared(), once, output == Output::Json).await })
        }
        Command::Doctor { output } => process::runtime(1, async move { doctor::run(&config, &SystemClock::shared(), output == Output::Json).await }),
        Command::Probe { socket, agent_user, no_programs, stop_with_stdin } => {
            let passwd = RootFs::new(&config.root).read("/etc/passwd").unwrap_or_default();
            let user = users(&passwd).find(|user| user.name == agent_user);
            let serving = Serving { socket: &socket, agent_uid: user.as_ref().map(|user| user.uid), group: user.map(|user| user.gid), no_programs };
            match serve::prepare(&serving) {
                Ok(prepared) => process::runtime(1, async move { serve::run(serving, prepared, SystemClock::shared(), stop_with_stdin).await }),
                Err(code) => code,
            }
        }
        Command::Policy { since, write } => policy::propose(&config, since, write.as_deref(), SystemClock::shared().now_ms()),
        Command::Canary { key, openssl } => canary::child(&key, openssl.as_deref()),
        Command::CheckConfig => {
            for doubt in config.doubts(&RootFs::new(&config.root)) {
                process::say(&format!("warning: {doubt}"));
            }
            process::say("the configuration is valid")
        }
    }
}

async fn sense(mut config: Config, stop_with_stdin: bool, file: Option<PathBuf>) -> ExitCode {
    // What runs, also where an upgrade has put another in its place.
    config.canary.program = Some("/proc/self/exe".into());
    let running = match run::start(&config, SystemClock::shared(), Dialer::tcp(), &Stop::new()) {
        Ok(running) => running,
        Err(e) => {
            tracing::error!("cannot start: {}", chain(&e));
            return ExitCode::from(match e {
                run::StartError::NotJoined(_) => EXIT_CONFIG,
                run::StartError::Locked(_) => EXIT_TEMPORARY,
                e => process::failure_code(&e),
            });
        }
    };
    tracing::info!(dir = %config.state_dir.display(), "sensing");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        () = running.stopped() => {}
        why = process::asked_to_stop_or(stop_with_stdin, || reload(file.as_ref(), &running.access)) => tracing::info!("{why}: stopping"),
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

/// Reads the configuration anew. All of it must be valid; what takes effect is who may open which key.
fn reload(file: Option<&PathBuf>, access: &AccessRules) {
    match Config::read(&Sources::new(file.cloned(), ALIASES, AGGREGATOR_SECTIONS)) {
        Ok(config) => {
            let policies = config.access.policy.len();
            access.replace(config.access);
            tracing::info!(policies, "SIGHUP: [[access.policy]] and learn_hours are in force as they are written now; all else takes a restart");
        }
        Err(faults) => tracing::error!("SIGHUP: nothing has changed, as the configuration is not valid: {}", faults.0.join("; ")),
    }
}

async fn join(config: Config, token: String, name: Option<String>) -> ExitCode {
    let mut text = token;
    if text == "-" {
        text.clear();
        if let Err(e) = std::io::stdin().take(4_096).read_to_string(&mut text) {
            return fail(1, &format!("cannot read the token: {e}"));
        }
    }
    let token = match text.parse() {
        Ok(token) => token,
        Err(e) => return fail(2, &format!("{e}")),
    };
    let root = RootFs::new(&config.root);
    let before = Identity::load(&config.state_dir).ok().flatten();
    let own = if config.hostname.is_empty() { collect::facts::facts(&root).hostname } else { config.hostname.clone() };
    // Who joins again wants to go on, not to become another host.
    let wanted = name.clone().or(before.map(|before| before.host)).unwrap_or(own);
    match enroll::join(&token, &config.state_dir, &root, &wanted, &Dialer::tcp(), &SystemClock::shared()).await {
        Ok(identity) => joined(&identity, name.as_deref(), &config.state_dir),
        Err(e) => {
            let code = match &e {
                EnrollError::Http(_) => EXIT_UNREACHABLE,
                EnrollError::Refused { .. } => EXIT_PERMISSION,
                e => process::failure_code(e),
            };
            let meaning = e.fault().map(|fault| format!("\n{}", fault.words())).unwrap_or_default();
            fail(code, &format!("cannot join: {}{meaning}", chain(&e)))
        }
    }
}

/// Says who this host is now, and what is left to do.
fn joined(identity: &Identity, wanted: Option<&str>, dir: &std::path::Path) -> ExitCode {
    process::say(&format!("joined {} as {} (agent {})", identity.address, identity.host, identity.agent));
    if wanted.is_some_and(|wanted| wanted != identity.host) {
        process::say(&format!(
            "the aggregator gave it this name: it knows this machine as {0}, or another host has the one you asked for; `keyvigil agents revoke {0}` sets it free",
            identity.host
        ));
    }
    match control::ask(dir) {
        Ok(Some(report)) if report.host == identity.host => process::say("the agent that runs here takes it up within a minute"),
        Ok(None) => process::say("the certificate renews itself while the agent runs; start it with `systemctl start keyvigil-agent` or `keyvigil-agent run`"),
        Ok(Some(report)) => process::say(&format!("an agent runs here as {}: {}", report.host, enroll::RESTART)),
        Err(_) => process::say(&format!("an agent runs here: {}", enroll::RESTART)),
    }
}

#[expect(clippy::print_stderr, reason = "the answer to who typed the command")]
fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}
