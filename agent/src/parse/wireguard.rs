//! Keys of WireGuard: in the configuration of wg-quick, of systemd-networkd (`.netdev`) and of NetworkManager, and as bare files, which
//! only their place tells from any other base64. The public half of a private key is computed; a secret that both peers hold
//! is known by its place. Called by `keys`. Format: wg(8), systemd.netdev(5), nm-settings-keyfile(5).

use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind, Role};
use zeroize::Zeroizing;

use super::keys::{Parsed, Within};
use super::pem::{decode, find};
use super::private_key::x25519_public;
use super::spki::{self, X25519_OID};
use super::symmetric::symmetric;

const FORMAT: &str = "wireguard";
/// Characters of a key in base64.
const KEY_CHARACTERS: usize = 44;
/// A bare file and what may stand around the key.
const BARE_BYTES_MAX: usize = 64;
/// What the value behind these is, whoever wrote the file: their names without `-` and in small letters.
const MEMBERS: [&str; 5] = ["privatekey", "publickey", "presharedkey", "allowedips", "endpoint"];

/// Whether a file that begins so may be one of these.
#[must_use]
pub fn looks(head: &[u8], path: &Path) -> bool {
    is_bare(head, path) || head.split(|b| *b == b'\n').any(|line| section(line).is_some()) && MEMBERS[..3].iter().any(|member| has(head, member))
}

/// Whether one of the lines sets `member`.
fn has(head: &[u8], member: &str) -> bool {
    head.split(|b| *b == b'\n').any(|line| setting(line).is_some_and(|(name, _)| name == member))
}

/// Reads all keys of the file.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    if is_bare(bytes, path) {
        return bare(bytes, path, parsed);
    }
    let mut current: Option<Section<'_>> = None;
    let mut offset = 0;
    for line in bytes.split(|b| *b == b'\n') {
        if line.trim_ascii().starts_with(b"[") {
            current.take().into_iter().for_each(|section| section.tell(path, parsed));
            current = section(line).map(|section| Section { offset, ..section });
        } else if let (Some(section), Some((name, value))) = (&mut current, setting(line)) {
            section.set(&name, value);
        }
        offset += line.len() + 1;
    }
    current.into_iter().for_each(|section| section.tell(path, parsed));
}

/// One section, its keys still where the file has them.
#[derive(Default)]
struct Section<'a> {
    offset: usize,
    is_peer: bool,
    private: Option<&'a [u8]>,
    public: Option<&'a [u8]>,
    preshared: Option<&'a [u8]>,
    allowed: String,
    endpoint: String,
}

/// What section a line opens, where it is one of WireGuard's.
fn section(line: &[u8]) -> Option<Section<'_>> {
    let name = line.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")?;
    let peer = Section { is_peer: true, ..Section::default() };
    match name.to_ascii_lowercase().as_slice() {
        b"interface" | b"wireguard" => Some(Section::default()),
        b"peer" | b"wireguardpeer" => Some(peer),
        // NetworkManager names the section after the peer's key.
        lower if lower.starts_with(b"wireguard-peer.") => Some(Section { public: name.get(15..), ..peer }),
        _ => None,
    }
}

/// Name (small letters, without `-`) and value that a line sets.
fn setting(line: &[u8]) -> Option<(String, &[u8])> {
    let line = line.trim_ascii();
    let equals = line.iter().position(|b| *b == b'=').filter(|at| *at <= 32)?;
    let name = String::from_utf8_lossy(line[..equals].trim_ascii()).to_ascii_lowercase().replace('-', "");
    let value = line[equals + 1..].trim_ascii();
    let value = value.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
    MEMBERS.contains(&name.as_str()).then_some((name, value))
}

impl<'a> Section<'a> {
    fn set(&mut self, name: &str, value: &'a [u8]) {
        const TEXT_MAX: usize = 1_024;
        let text = || String::from_utf8_lossy(&value[..value.len().min(TEXT_MAX)]).trim_end_matches(';').to_owned();
        match name {
            "privatekey" => self.private = Some(value),
            "publickey" => self.public = Some(value),
            "presharedkey" => self.preshared = Some(value),
            "allowedips" if self.allowed.is_empty() => self.allowed = text(),
            "allowedips" if self.allowed.len() < TEXT_MAX => self.allowed = format!("{}, {}", self.allowed, text()),
            "endpoint" => self.endpoint = text(),
            _ => {}
        }
    }

    fn tell(self, path: &Path, parsed: &mut Parsed) {
        if let Some(private) = self.private.filter(|value| is_here(value)) {
            self.object(Within::own(FORMAT).entry("Interface"), private_key(private), parsed);
        }
        if !self.is_peer {
            return;
        }
        let endpoint = if self.endpoint.is_empty() { String::new() } else { format!(" at {}", self.endpoint) };
        let within = Within::role(FORMAT, Role::Peer).entry(format!("{}{endpoint}", self.allowed).trim());
        if let Some(public) = self.public {
            self.object(within.clone(), public_key(public), parsed);
        }
        if let Some(preshared) = self.preshared.filter(|value| is_here(value)) {
            let peer = String::from_utf8_lossy(self.public.unwrap_or_default());
            let facts = key_bytes(preshared).map(|_| symmetric(path, &peer, "wireguard-psk", Some(256)));
            self.object(Within { role: Role::Held, ..within }, facts, parsed);
        }
    }

    fn object(&self, within: Within, facts: Result<KeyFacts, String>, parsed: &mut Parsed) {
        if parsed.has_room(self.offset) {
            parsed.object(self.offset, within, facts);
        }
    }
}

/// Whether a secret stands there: NetworkManager and networkd may have it elsewhere (`@name.of.credential`).
fn is_here(value: &[u8]) -> bool {
    !value.is_empty() && !value.starts_with(b"@")
}

fn key_bytes(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = decode(text).ok().filter(|bytes| bytes.len() == 32 && text.len() == KEY_CHARACTERS);
    bytes.ok_or_else(|| "a WireGuard key that is not 32 bytes in base64".into())
}

fn private_key(text: &[u8]) -> Result<KeyFacts, String> {
    let public = x25519_public(&key_bytes(text)?);
    let facts = public.and_then(|public| spki::raw(KeyKind::PrivateKey, X25519_OID, &public));
    facts.map(|facts| KeyFacts { encrypted: Some(false), ..facts }).ok_or_else(|| "a WireGuard key that is none".into())
}

fn public_key(text: &[u8]) -> Result<KeyFacts, String> {
    let bytes = key_bytes(text)?;
    spki::raw(KeyKind::PublicKey, X25519_OID, &bytes).ok_or_else(|| "a WireGuard key that is none".into())
}

/// Whether the file is nothing but one key, in a directory of WireGuard's.
fn is_bare(bytes: &[u8], path: &Path) -> bool {
    let is_there = || path.parent().is_some_and(|parent| parent.iter().any(|part| find(part.as_encoded_bytes(), b"wireguard").is_some()));
    bytes.len() <= BARE_BYTES_MAX
        && bytes.trim_ascii().len() == KEY_CHARACTERS
        && bytes.trim_ascii().ends_with(b"=")
        && is_there()
        && key_bytes(bytes.trim_ascii()).is_ok()
}

/// Which of the three it is, only its name can tell; without a hint it is the one that must be kept.
fn bare(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let text = bytes.trim_ascii();
    let facts = if name.contains("pub") {
        public_key(text)
    } else if ["psk", "preshared", "shared"].iter().any(|hint| name.contains(hint)) {
        Ok(symmetric(path, "", "wireguard-psk", Some(256)))
    } else {
        private_key(text)
    };
    parsed.object(0, Within::own(FORMAT), facts);
}

#[cfg(test)]
mod tests;
