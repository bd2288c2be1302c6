//! What `keyvigil keys` takes.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::at_least_one;

pub(super) const KEYS_HELP: &str = "The table is as wide as the terminal; piped, or with COLUMNS set very high, nothing is cut.\n\nExamples:\n  keyvigil keys --expires-before +30d --status active\n  keyvigil keys --finding weak,private_key_readable\n  keyvigil keys --host web-1 --output csv > keys.csv\n  keyvigil keys show 3f2a9c10\n  keyvigil keys --usage\n  keyvigil keys --usage 3f2a9c10\n  keyvigil keys --used before:-90d\n  keyvigil keys cbom > cbom.json";

#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    pub(crate) command: Option<OfKeys>,
    /// Who uses them, and how much: of one key, or of all private keys that match.
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub(crate) usage: Option<String>,
    #[command(flatten)]
    pub(crate) filter: KeyFilter,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OfKeys {
    /// Shows one key: what it is, what is wrong with it, where it lies, what happened to it.
    #[command(after_help = SHOW_HELP)]
    Show {
        /// Its id or fingerprint, or at least six characters that one of them begins with.
        #[arg(value_name = "ID_OR_FINGERPRINT", value_parser = NonEmptyStringValueParser::new())]
        key: String,
    },
    /// Writes the inventory as a CycloneDX CBOM (JSON) to standard output.
    #[command(after_help = "Examples:\n  keyvigil keys cbom > cbom.json\n  keyvigil keys cbom --version 1.7 --host web-1 > web-1.json")]
    Cbom {
        /// CycloneDX version: 1.6 or 1.7.
        #[arg(long, default_value = "1.6")]
        version: String,
        /// What lies on this host only.
        #[arg(long)]
        host: Option<String>,
        /// The public CAs that the system ships, too.
        #[arg(long)]
        trust_store: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyFilter {
    /// On this host.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// certificate, private_key, ssh_public_key, ...; comma-separated.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// rsa, ec, ed25519, ...; comma-separated.
    #[arg(long)]
    pub(crate) algorithm: Option<String>,
    /// active, superseded, expired, revoked, removed; comma-separated.
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Ends before this time: RFC 3339, 2027-01-31, 2027-01, 2027, Unix ms, +30d, or -5d.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) expires_before: Option<String>,
    /// With a finding of this kind, such as weak; comma-separated. `keyvigil findings --help` lists them.
    #[arg(long)]
    pub(crate) finding: Option<String>,
    /// held, trusted, authorized, peer, served; comma-separated.
    #[arg(long)]
    pub(crate) role: Option<String>,
    /// pem, pkcs12, jks, authorized_keys, ...; comma-separated.
    #[arg(long)]
    pub(crate) file_format: Option<String>,
    /// never (since it is observed), unknown (nothing observes it), before:TIME, since:TIME.
    #[arg(long)]
    pub(crate) used: Option<String>,
    /// Text in subject, path, names or fingerprint.
    #[arg(long)]
    pub(crate) search: Option<String>,
    /// Shows the public CAs that the system ships, too.
    #[arg(long)]
    pub(crate) trust_store: bool,
    /// not_after, severity, last_seen, first_seen, last_used, subject; with - in front for the reverse.
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// Rows at most (table and JSON: 100; CSV always holds all).
    #[arg(long, value_parser = at_least_one)]
    pub(crate) limit: Option<usize>,
}

const SHOW_HELP: &str = "`keyvigil keys --output json` has ids whole; where several keys begin so, they are listed.\n\nExamples:\n  keyvigil keys show 3f2a9c10\n  keyvigil keys show SHA256:vk0dOV...\n  keyvigil keys show 3f2a9c10 --output json";
