//! The command line of `keyvigil-agent`.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use keyvigil_common::config::Period;

/// The Keyvigil agent: senses keys, certificates and host health, and delivers every sample.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  keyvigil-agent join kvj1_agg.example.org:8443_...\n  keyvigil-agent run\n  keyvigil-agent status\n  keyvigil-agent doctor\n\nExit codes: 0 done, 1 failed, 2 usage, 3 not well, 69 aggregator unreachable, 77 not allowed, 78 bad configuration."
)]
pub struct Cli {
    /// Configuration file (default: /etc/keyvigil/agent.toml if it exists).
    #[arg(long, global = true, env = "KEYVIGIL_CONFIG")]
    pub config: Option<PathBuf>,
    /// State directory; wins over state_dir.
    #[arg(long, global = true)]
    pub dir: Option<PathBuf>,
    /// What to do (default: run).
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Senses and delivers until SIGTERM or SIGINT.
    Run {
        /// Stops when standard input ends: a parent's way to not leave it behind.
        #[arg(long)]
        stop_with_stdin: bool,
    },
    /// Makes this host an agent of the aggregator that made the token.
    Join {
        /// The token, as `keyvigil token create` prints it; `-` reads it from standard input.
        token: String,
        /// Name to be known by (default: this host's name).
        #[arg(long)]
        name: Option<String>,
    },
    /// Shows how the agent stands: delivery, buffer, certificate; what is wrong, and what mends it.
    Status {
        /// How to answer.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Shows what each sensor does and costs, again and again on a terminal.
    Top {
        /// Once only.
        #[arg(long)]
        once: bool,
        /// How to answer.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Looks at everything that delivery needs, and says what mends what is wrong. Changes nothing.
    Doctor {
        /// How to answer.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Proposes who may open which key, from what was seen: sections for the configuration, to be read before they are used.
    Policy {
        /// Only what was used in the last so long (default: all that is remembered).
        #[arg(long)]
        since: Option<Period>,
        /// Writes into this file, which must not be there (default: to standard output).
        #[arg(long)]
        write: Option<PathBuf>,
    },
    /// Looks into the kernel for the agent: who opens and uses which private key. Needs privileges; has no network.
    Probe {
        /// Where the agent finds it.
        #[arg(long, default_value = "/run/keyvigil/probe.sock")]
        socket: PathBuf,
        /// User that the agent runs as; root and the helper's own user may listen anyway.
        #[arg(long, default_value = "keyvigil")]
        agent_user: String,
        /// Does as on a kernel that takes no programs.
        #[arg(long, hide = true)]
        no_programs: bool,
        /// Stops when standard input ends: a parent's way to not leave it behind.
        #[arg(long)]
        stop_with_stdin: bool,
    },
    /// Opens the canary's key once its parent says so, and signs with it: the agent's own child.
    #[command(hide = true)]
    Canary {
        /// The key.
        key: PathBuf,
        /// The program that signs.
        openssl: Option<PathBuf>,
    },
    /// Checks the configuration and says everything that is wrong with it.
    CheckConfig,
}
