//! Where a key lies, who can reach it there, and what it is there for.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::clamp_text;
use crate::clock::DATES_MS;
use crate::limits::{KEY_USAGES_MAX, PLACE_USERS_MAX, SERVED_CHAIN_MAX, TEXT_BYTES_MAX};

/// Where a key lies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Place {
    /// Absolute path as configured or found; `tls://10.0.0.1:443/www.example.org` for what a port serves under a name,
    /// `keyring:3f2a9c10` for a key of the kernel.
    pub path: String,
    /// Which object of the file, from 0.
    pub slot: u32,
    /// Owner's name, or uid where it has no name.
    pub owner: Option<String>,
    /// Group's name, or gid.
    pub group: Option<String>,
    /// Permission bits, `0o640`.
    pub mode: Option<u32>,
    /// When the file was last written, Unix ms.
    pub modified_ms: Option<i64>,
    /// Form of the file: `pem`, `der`, `pkcs12`, `jks`, `jceks`, `openssh`, `ssh2`, `ppk`, `authorized_keys`, `known_hosts`, `krl`,
    /// `openpgp`, `keybox`, `gnupg`, `kubeconfig`, `kubernetes-secret`, `jwks`, `wireguard`, `keyring`, `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What the file calls it: alias of a key store, user of a kubeconfig, hosts of a `known_hosts` line, section of a WireGuard
    /// configuration, description of a kernel key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// What it is there for.
    #[serde(default)]
    pub role: Role,
    /// Until when the key counts there, where the place says so and not the key (`expiry-time` of `authorized_keys`), Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_ms: Option<i64>,
    /// What else the place says of it: the options of its line in `authorized_keys`, `restrict`, `from=10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Configurations that name the file, `nginx: /etc/nginx/sites-enabled/shop:12`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// What other users of the host can do with the file, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// The user in whose home directory it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Of what a port serves: who serves it, and what the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Box<Served>>,
}

/// Before the id of a container in the paths of what lies in it: `container:0123456789ab:/etc/ssl/a.pem`.
pub const CONTAINER_PREFIX: &str = "container:";

/// What a key is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is the host's or user's own, as far as the place tells.
    #[default]
    Held,
    /// It vouches for others: a store of trusted certificates.
    Trusted,
    /// Whoever has its private half may log in (`authorized_keys`).
    Authorized,
    /// Another host's key (`known_hosts`), or another peer's (WireGuard).
    Peer,
    /// A port serves it.
    Served,
}

impl Role {
    /// Name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Trusted => "trusted",
            Self::Authorized => "authorized",
            Self::Peer => "peer",
            Self::Served => "served",
        }
    }
}

/// What users other than the owner, and outside of the group, can do with a file: its own permissions and those of every
/// directory above it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Reach {
    /// Read it.
    pub read: bool,
    /// Write into it, or put another in its place.
    pub write: bool,
    /// List the directory it lies in.
    pub list: bool,
}

/// What a port serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Served {
    /// Version that was agreed on, `TLSv1.3`.
    pub protocol: Option<String>,
    /// Cipher suite, IANA's name.
    pub cipher: Option<String>,
    /// The listening process.
    pub pid: Option<u32>,
    /// Its program.
    pub exe: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// Its systemd unit, or its container.
    pub unit: Option<String>,
    /// Ids of the certificates that came with the leaf, in the order served, the leaf left out.
    pub chain: Vec<String>,
    /// What is wrong with the chain as served, for people; `None` where nothing is.
    pub chain_fault: Option<String>,
    /// The file the leaf should come from.
    pub file: Option<String>,
    /// Id of the certificate that this file holds now, where it is not the one that is served: renewed on disk, not reloaded.
    pub file_key: Option<String>,
    /// Fingerprint of that certificate's key.
    pub file_fingerprint: Option<String>,
    /// The stapled answer, where there was one.
    pub staple: Option<Staple>,
}

/// A stapled OCSP answer (RFC 6960).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Staple {
    /// `good`, `revoked`, `unknown`, or why it could not be read.
    pub status: String,
    /// When it was made, Unix ms.
    pub this_update_ms: Option<i64>,
    /// Until when it is to be believed, Unix ms.
    pub next_update_ms: Option<i64>,
}

impl Place {
    /// A place of which only the path is known.
    #[must_use]
    pub fn at(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Its path as whoever runs in its container knows it.
    #[must_use]
    pub fn path_inside(&self) -> &str {
        let inside = self.path.strip_prefix(CONTAINER_PREFIX).and_then(|rest| rest.split_once(':'));
        inside.map_or(&self.path, |(_, path)| path)
    }

    /// Whether every text is within its bound, as [`Place::bound`] leaves it.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let mut copy = self.clone();
        let mut longest = 0;
        copy.texts(&mut |text| longest = longest.max(text.len()));
        let chain = self.served.as_ref().map_or(0, |served| served.chain.len());
        let dates = self.not_after_ms.is_none_or(|ms| DATES_MS.contains(&ms));
        dates && longest <= TEXT_BYTES_MAX && self.used_by.len() <= PLACE_USERS_MAX && self.options.len() <= KEY_USAGES_MAX && chain <= SERVED_CHAIN_MAX
    }

    /// Cuts every text and list to its bound, and the time to a date there is.
    pub fn bound(&mut self) {
        self.not_after_ms = self.not_after_ms.map(|ms| ms.clamp(*DATES_MS.start(), *DATES_MS.end()));
        self.used_by.truncate(PLACE_USERS_MAX);
        self.options.truncate(KEY_USAGES_MAX);
        if let Some(served) = &mut self.served {
            served.chain.truncate(SERVED_CHAIN_MAX);
        }
        self.texts(&mut clamp_text);
    }

    fn texts(&mut self, of: &mut impl FnMut(&mut String)) {
        let Self { path, owner, group, format, entry, home, options, used_by, served, .. } = self;
        of(path);
        [owner, group, format, entry, home].into_iter().flatten().for_each(&mut *of);
        used_by.iter_mut().chain(options).for_each(&mut *of);
        let Some(served) = served else { return };
        let Served { protocol, cipher, exe, user, unit, chain_fault, file, file_key, file_fingerprint, chain, staple, pid: _ } = &mut **served;
        [protocol, cipher, exe, user, unit, chain_fault, file, file_key, file_fingerprint].into_iter().flatten().for_each(&mut *of);
        chain.iter_mut().for_each(&mut *of);
        staple.iter_mut().for_each(|staple| of(&mut staple.status));
    }
}
