//! The words of findings: what can be wrong with a key, and how much it matters. Named here for the aggregator, which finds
//! them, and for the CLI, which asks for them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much a finding matters; a later one matters more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should see to it.
    Warning,
    /// Somebody should see to it now.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FindingKind {
            $($(#[$doc])* $variant),+
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Name in the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

kinds! {
    /// A private key lies on more than one host, or more than one service uses it.
    PrivateKeyShared = "private_key_shared",
    /// SSH hosts prove who they are with the same key.
    SshHostKeyShared = "ssh_host_key_shared",
    /// A certificate that is meant to be used lies where its private key does not.
    CertificateWithoutKey = "certificate_without_key",
    /// A private key for which a certificate is expected has none.
    KeyWithoutCertificate = "key_without_certificate",
    /// It ends soon.
    Expiring = "expiring",
    /// It has ended.
    Expired = "expired",
    /// A key of the kernel times out soon.
    KernelKeyExpiring = "kernel_key_expiring",
    /// It is in use, and does not count yet.
    NotYetValid = "not_yet_valid",
    /// The next list of revocations is due, or overdue.
    StaleCrl = "stale_crl",
    /// It can be broken.
    Weak = "weak",
    /// A large quantum computer would break it.
    NotQuantumSafe = "not_quantum_safe",
    /// Users other than its owner can read a private key.
    PrivateKeyReadable = "private_key_readable",
    /// The directory of a private key can be listed by others, or the key replaced.
    PrivateKeyInOpenDirectory = "private_key_in_open_directory",
    /// A private key in a home directory needs no password.
    UnencryptedKeyInHome = "unencrypted_key_in_home",
    /// Nobody has logged in with an authorised key since use is observed.
    AuthorizedKeyNeverUsed = "authorized_key_never_used",
    /// A revoked key may log in.
    AuthorizedKeyRevoked = "authorized_key_revoked",
    /// A revoked key or certificate is in use.
    RevokedInUse = "revoked_in_use",
    /// The certificate was renewed on disk, and the old one is still served.
    ServedStale = "served_stale",
    /// What a port serves does not lead to an authority.
    ServedChainFault = "served_chain_fault",
    /// A port serves a certificate that lies in no file that is watched.
    ServedWithoutFile = "served_without_file",
    /// A port serves a certificate that nobody but its owner vouches for.
    SelfSignedServed = "self_signed_served",
    /// Nobody was seen to use a private key for long, where use is observed.
    PrivateKeyUnused = "private_key_unused",
}

impl FindingKind {
    /// Its bit in a set of kinds.
    #[must_use]
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, word: &str) -> Result<T, String> {
    all.iter().copied().find(|known| name(*known) == word).ok_or_else(|| {
        let shown: String = word.chars().take(64).collect();
        format!("{shown:?} is none of: {}", all.iter().map(|known| name(*known)).collect::<Vec<_>>().join(" "))
    })
}

impl FromStr for FindingKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        named(Self::ALL, Self::as_str, word)
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        named(&Self::ALL, Self::as_str, word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_as_it_is_written_and_has_a_bit_of_its_own() {
        let mut bits = 0_u32;
        for kind in FindingKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            bits |= kind.bit();
        }
        assert_eq!(bits.count_ones() as usize, FindingKind::ALL.len());
        assert!("weka".parse::<FindingKind>().unwrap_err().starts_with("\"weka\" is none of: private_key_shared "));
        assert!(Severity::Critical > Severity::Warning && "warning".parse() == Ok(Severity::Warning));
    }
}
