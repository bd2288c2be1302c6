//! What `keyvigil findings`, `events` and `watch` take.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use keyvigil_common::event::EventKind;
use keyvigil_common::finding::FindingKind;

use super::at_least_one;

const FINDINGS_EXAMPLES: &str = "Examples:\n  keyvigil findings --severity critical,warning\n  keyvigil findings --host web-1 --kind expiring,expired\n  keyvigil findings --key 3f2a9c10 --output json";
const EVENTS_EXAMPLES: &str = "Examples:\n  keyvigil events --last 24h\n  keyvigil events --kind rotated,removed --start 2026-11-01T00:00:00Z --end 2026-11-08T00:00:00Z\n  keyvigil events --key 3f2a9c10\n  keyvigil events --kind accessed,denied --exe openssl --last 24h";

#[derive(Debug, Args)]
#[command(after_help = findings_help())]
pub(crate) struct Findings {
    /// Of these kinds; comma-separated.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// critical, warning, info; comma-separated.
    #[arg(long)]
    pub(crate) severity: Option<String>,
    /// On this host.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// About this key: its id or fingerprint, or how one of them begins.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Findings at most.
    #[arg(long, default_value_t = 100, value_parser = at_least_one)]
    pub(crate) limit: usize,
}

fn findings_help() -> String {
    let kinds: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("Kinds:\n  {}\n\n{FINDINGS_EXAMPLES}", kinds.join("\n  "))
}

pub(super) fn events_help() -> String {
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("Kinds:\n  {}\n\n{EVENTS_EXAMPLES}", kinds.join("\n  "))
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Of these kinds, such as rotated; comma-separated.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// On this host.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Of this key: its id or fingerprint, or how one of them begins.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
    /// By this program: its path, or the last part of it.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) exe: Option<String>,
    /// By this user: name or number.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: Option<String>,
    /// Range that ends now: 15m, 24h, 7d (default: all there are).
    #[arg(long, conflicts_with_all = ["start", "end"])]
    pub(crate) last: Option<String>,
    /// Start of the range: RFC 3339, 2026-11-22, 2026-11, Unix ms, or -1h.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// End of the range.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) end: Option<String>,
    /// Rows at most.
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub(crate) limit: usize,
}

pub(super) const WATCH_HELP: &str = "`--output json` prints one JSON object a line. After a cut it goes on where it was, without a gap and without\nrepeats.\n\nExamples:\n  keyvigil watch --kind accessed,denied,policy_violation\n  keyvigil watch --host web-1 --exe nginx\n  keyvigil watch --key 3f2a9c10 --output json\n\nExit codes: 130 ended by Ctrl-C, 2 usage, 69 aggregator unreachable, 77 not allowed.";

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Of these kinds, such as accessed; comma-separated.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) kind: Option<String>,
    /// Of this key: its id or fingerprint, or how one of them begins.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
    /// On this host.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) host: Option<String>,
    /// By this program: its path, or the last part of it.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) exe: Option<String>,
    /// By this user: name or number.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: Option<String>,
    /// From behind the event of this id on, as `--output json` has them (default: from now on).
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
}
