//! The command line of `keyvigil-aggregator`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::upkeep::{Request, Task};

/// The Keyvigil aggregator: stores, queries, alerts, and serves the dashboard.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  keyvigil-aggregator run --config /etc/keyvigil/aggregator.toml\n  keyvigil-aggregator run --dir ./state\n  keyvigil-aggregator check-config\n  keyvigil-aggregator verify --dir ./state\n\nExit codes: 0 done, 1 failed or faults found, 2 usage, 75 not now: try again, 77 not allowed, 78 bad configuration."
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
    /// Work on the whole store.
    #[command(flatten)]
    Maintenance(Maintenance),
    /// Checks the configuration and says everything that is wrong with it.
    CheckConfig,
}

/// Work on the whole store.
#[derive(Debug, Clone, Subcommand)]
pub enum Maintenance {
    /// Reads all that is stored and says what is wrong: every file, record, series and block. Changes nothing.
    ///
    /// Safe while an aggregator serves the directory: that one then does the work, and this shows it. Faults are told with
    /// file, table, row and what to do; the first hundred one by one.
    #[command(after_help = VERIFY_HELP)]
    Verify(Shown),
    /// Brings all that is stored into as few bytes as it takes.
    ///
    /// An aggregator that runs compacts by itself; this leaves nothing for later. Safe while it serves: it then does the work.
    #[command(after_help = COMPACT_HELP)]
    Compact(Shown),
    /// Makes anew what follows from the rest: indexes, and what is said of each block.
    ///
    /// Mends what `verify` says that it mends. Blocks that do not open stay as they are. Safe while an aggregator serves.
    #[command(after_help = REINDEX_HELP)]
    Reindex(Shown),
    /// Gives up samples, events and alerts' history before their retention ends. What is gone is gone.
    ///
    /// Drops whole days (UTC) that ended before the given time; inventory, rules, agents and open alerts stay. Asks nothing: look
    /// with --dry-run first. Less than an hour back needs --yes. Safe while an aggregator serves.
    #[command(after_help = CLEANUP_HELP)]
    Cleanup(Cleanup),
}

const VERIFY_HELP: &str = "Examples:
  keyvigil-aggregator verify
  keyvigil-aggregator verify --dir ~/.local/state/keyvigil
  keyvigil-aggregator verify --output json | jq .first_faults

Exit codes: 0 all is well, 1 faults found or failed, 2 usage, 75 not now (another such task runs): try again,
77 of another user, 78 bad configuration, no master key or no admin token.";

const COMPACT_HELP: &str = "Examples:
  keyvigil-aggregator compact
  keyvigil-aggregator compact --config /etc/keyvigil/aggregator.toml

Exit codes: 0 done, 1 failed, 2 usage, 75 not now (another such task runs): try again,
77 of another user, 78 bad configuration, no master key or no admin token.";

const REINDEX_HELP: &str = "Examples:
  keyvigil-aggregator reindex
  keyvigil-aggregator reindex --dir ./state --output json

Exit codes: 0 done, 1 failed or something does not open, 2 usage, 75 not now (another such task runs): try again,
77 of another user, 78 bad configuration, no master key or no admin token.";

const CLEANUP_HELP: &str = "Examples:
  keyvigil-aggregator cleanup --older-than 30d --dry-run
  keyvigil-aggregator cleanup --older-than 30d
  keyvigil-aggregator cleanup --older-than 2026-11-01

Exit codes: 0 done, 1 failed, 2 usage, 75 not now (another such task runs): try again,
77 of another user, 78 bad configuration, no master key or no admin token.";

/// Options of every maintenance command.
#[derive(Debug, Clone, Copy, Args)]
pub struct Shown {
    /// Form of the result, on standard output.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Options of `cleanup`.
#[derive(Debug, Clone, Args)]
pub struct Cleanup {
    /// How old is old: an age (30d, 12h), a day (2026-11-22: its start in UTC) or an instant (2026-11-22T18:00:00Z).
    #[arg(long, value_name = "AGE|DATE")]
    pub older_than: String,
    /// Says what would go, and changes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Yes, less than an hour back.
    #[arg(long)]
    pub yes: bool,
    /// How it is shown.
    #[command(flatten)]
    pub shown: Shown,
}

impl Maintenance {
    /// What it asks for, and how its result is shown.
    #[must_use]
    pub fn request(self) -> (Request, Output) {
        let plain = |task| Request { task, older_than: None, dry_run: false, yes: false };
        match self {
            Self::Verify(shown) => (plain(Task::Verify), shown.output),
            Self::Compact(shown) => (plain(Task::Compact), shown.output),
            Self::Reindex(shown) => (plain(Task::Reindex), shown.output),
            Self::Cleanup(Cleanup { older_than, dry_run, yes, shown }) => {
                (Request { task: Task::Cleanup, older_than: Some(older_than), dry_run, yes }, shown.output)
            }
        }
    }
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
