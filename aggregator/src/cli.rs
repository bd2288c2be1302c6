//! The command line of `keyvigil-aggregator`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// The Keyvigil aggregator: stores, queries, alerts, and serves the dashboard.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  keyvigil-aggregator run --config /etc/keyvigil/aggregator.toml\n  keyvigil-aggregator run --dir ./state\n  keyvigil-aggregator check-config\n\nExit codes: 0 done, 1 failed, 2 usage, 78 bad configuration."
)]
pub struct Cli {
    /// Configuration file (default: /etc/keyvigil/aggregator.toml if it exists).
    #[arg(long, global = true, env = "KEYVIGIL_CONFIG")]
    pub config: Option<PathBuf>,
    /// State directory; wins over storage.path.
    #[arg(long, global = true)]
    pub dir: Option<PathBuf>,
    /// What to do (default: run).
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Runs until SIGTERM or SIGINT.
    Run {
        /// `json`: the first line on standard output tells where it listens.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// Stops when standard input ends: a parent's way to not leave it behind.
        #[arg(long)]
        stop_with_stdin: bool,
    },
    /// Brings all that is stored into as few bytes as it takes. The aggregator of this directory must not run: a running one
    /// compacts by itself.
    Compact,
    /// Checks the configuration and says everything that is wrong with it.
    CheckConfig,
}

impl Default for Command {
    fn default() -> Self {
        Self::Run { output: Output::Text, stop_with_stdin: false }
    }
}

/// Form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}
