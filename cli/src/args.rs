//! The command line of `keyvigil`.

mod events;
mod keys;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::events::{Events, Findings, Watch};
use self::events::{WATCH_HELP, events_help};
use self::keys::KEYS_HELP;
pub(crate) use self::keys::{KeyFilter, Keys, OfKeys};

/// Keyvigil for operators: start it, ask it, act on it.
#[derive(Debug, Parser)]
#[command(
    name = "keyvigil",
    version,
    about,
    after_help = "Examples:\n  keyvigil up\n  keyvigil query 'system.cpu.*' --last 15m\n  keyvigil keys --expires-before +30d --status active\n\nExit codes: 0 done, 1 failed, 2 usage, 3 a check says not healthy, 69 aggregator unreachable, 77 not allowed, 130 ended by Ctrl-C."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Address of the aggregator.
    #[arg(long, global = true, env = "KEYVIGIL_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// File that holds the admin token; the variable KEYVIGIL_TOKEN may hold the token itself.
    #[arg(long, global = true, env = "KEYVIGIL_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificate of the CA that the aggregator's own certificate is of (`pki/ca.pem` in its directory), in PEM.
    #[arg(long, global = true, env = "KEYVIGIL_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Form of the answer.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets; `keys` only.
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts an aggregator and an agent on this host; Ctrl-C stops both.
    Up(Up),
    /// Shows how the aggregator is.
    Status,
    /// Asks for samples.
    Query(Query),
    /// Lists keys and certificates, shows one, or writes them as a CBOM.
    #[command(args_conflicts_with_subcommands = true, after_help = KEYS_HELP)]
    Keys(Keys),
    /// Lists what is wrong with keys and certificates, the worst first, and what to do.
    Findings(Findings),
    /// Lists hosts, or takes one out.
    Hosts {
        #[command(subcommand)]
        command: Option<Hosts>,
    },
    /// Lists events, newest first: keys that came, were replaced or went, policies violated, data lost.
    #[command(after_help = events_help())]
    Events(Events),
    /// Shows events as they come, until Ctrl-C: who uses which key, what is denied, what breaks a policy.
    #[command(after_help = WATCH_HELP)]
    Watch(Watch),
    /// Lists alerts, or acknowledges one.
    Alerts(Alerts),
    /// Lists what was declared lost: when, by whom, how much, and why.
    Gaps(Gaps),
    /// Makes a join token for a new agent.
    #[command(subcommand)]
    Token(Token),
    /// Lists enrolled agents, or revokes one.
    #[command(subcommand)]
    Agents(Agents),
    /// Has a host sample at its shortest intervals for a while.
    Enhance(Enhance),
    /// Shows the CA of the agents' certificates, and replaces it step by step.
    #[command(subcommand)]
    Ca(Ca),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// State directory (default: $XDG_STATE_HOME/keyvigil or ~/.local/state/keyvigil).
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Address of API and dashboard; port 0 picks free ports for all listeners. One that is not on loopback serves TLS with a
    /// certificate of the aggregator's own CA, and takes agents of other hosts too.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Starts no agent on this host.
    #[arg(long)]
    pub(crate) no_agent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Name with `*` (one part), `**` (any parts), `{a,b}`; or `re:` and a regular expression.
    pub(crate) metric_pattern: String,
    /// Range that ends now.
    #[arg(long, default_value = "15m", conflicts_with_all = ["start", "end"])]
    pub(crate) last: String,
    /// Start of the range: RFC 3339, 2026-11-22, 2026-11, Unix ms, or -1h.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// End of the range.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) end: Option<String>,
    /// avg min max sum count last rate increase stddev p50 p90 p95 p99.
    #[arg(long)]
    pub(crate) aggregation: Option<String>,
    /// Width of a bucket: 30s, 5m.
    #[arg(long)]
    pub(crate) interval: Option<String>,
    /// Tag filter, name:value; may repeat.
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// Tags to group by, comma-separated.
    #[arg(long)]
    pub(crate) group_by: Option<String>,
    /// Series at most.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Alerts {
    /// pending, firing, acknowledged, resolved; comma-separated (default: all but resolved).
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Acknowledges the alert of this id.
    #[arg(long, value_name = "ID")]
    pub(crate) acknowledge: Option<String>,
    /// Who acknowledges (default: $USER).
    #[arg(long, env = "USER", default_value = "")]
    pub(crate) by: String,
    /// What there is to say about it.
    #[arg(long, requires = "acknowledge")]
    pub(crate) note: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Makes a token and prints it, once.
    Create {
        /// How often it may be used.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it lives, 24h at most.
        #[arg(long, default_value = "1h")]
        ttl: String,
    },
    /// Lists tokens without their secrets.
    List,
    /// Revokes a token.
    Revoke {
        /// Its id.
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hosts {
    /// Takes a host out that is gone for good: it may deliver no more and its keys go; its samples and events stay.
    Remove {
        /// Its name.
        host: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// Lists all agents, the revoked ones too.
    List,
    /// Revokes an agent: it is refused at once, and keeps its data.
    Revoke {
        /// Its id, or the name of its host.
        #[arg(value_name = "ID_OR_HOST")]
        agent: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Enhance {
    /// Name of the host.
    pub(crate) host: String,
    /// For how long, 240 at most.
    #[arg(long, default_value_t = 10)]
    pub(crate) minutes: u32,
    /// Ends it early.
    #[arg(long, conflicts_with_all = ["minutes", "sensor"])]
    pub(crate) end: bool,
    /// A sensor, such as cpu; may repeat (default: all).
    #[arg(long = "sensor", value_name = "NAME")]
    pub(crate) sensor: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// Shows CAs, how far their replacement is, and which agents hold it up.
    Status,
    /// Makes a new CA, which agents learn to trust beside the old one.
    Announce,
    /// Lets the new CA sign from now on; both stay trusted.
    Issue,
    /// Drops the old CA.
    Retire {
        /// Also while agents have not followed: those have to join again.
        #[arg(long)]
        force: bool,
    },
    /// Takes the last step back: from issue the old CA signs again, from announce the new one is dropped.
    Rollback {
        /// Also while agents hold certificates of the new CA: those have to join again.
        #[arg(long)]
        force: bool,
    },
}

/// Which losses.
#[derive(Debug, Args)]
pub(crate) struct Gaps {
    /// Of this host only.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Of this class only: security, alert, key, sample, detail.
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// The newest so many; all are shown otherwise.
    #[arg(long)]
    pub(crate) limit: Option<usize>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "it must be a whole number, 1 or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn times_before_now_need_no_equals_sign() {
        for line in [["keyvigil", "keys", "--expires-before", "-5d"], ["keyvigil", "events", "--start", "-1h"], ["keyvigil", "events", "--end", "-1m"]] {
            Cli::try_parse_from(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        }
    }
}
