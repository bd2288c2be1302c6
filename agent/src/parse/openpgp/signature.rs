//! What a signature says of the key that it belongs to. Not verified. Format: RFC 9580 section 5.2.

use super::key::Key;
use super::material::Input;
use super::secret::hash;

/// Subpackets of one signature that are looked at.
const SUBPACKETS_MAX: usize = 200;

/// A signature.
#[derive(Debug, Clone, Default)]
pub(super) struct Signature {
    pub(super) kind: u8,
    /// Unix seconds.
    pub(super) created: i64,
    /// Seconds from the key's making to its end.
    pub(super) key_expires: Option<u32>,
    /// Bits of RFC 9580 section 5.2.3.29.
    pub(super) flags: Option<u8>,
    pub(super) is_primary_user: bool,
    /// Why it revokes.
    pub(super) reason: Option<(u8, String)>,
    /// Fingerprint of a key that may revoke this one.
    pub(super) revoker: Option<Vec<u8>>,
    fingerprint: Option<Vec<u8>>,
    number: Option<[u8; 8]>,
    algorithm: u8,
    hash: u8,
}

/// Reads a signature packet.
pub(super) fn signature(body: &[u8]) -> Option<Signature> {
    let mut input = Input(body);
    let version = input.byte()?;
    let mut signature = Signature::default();
    if matches!(version, 2 | 3) {
        input.byte()?;
        signature.kind = input.byte()?;
        signature.created = i64::from(input.number(4)?);
        signature.number = input.take(8)?.first_chunk().copied();
        (signature.algorithm, signature.hash) = (input.byte()?, input.byte()?);
        return Some(signature);
    }
    if !matches!(version, 4..=6) {
        return None;
    }
    signature.kind = input.byte()?;
    (signature.algorithm, signature.hash) = (input.byte()?, input.byte()?);
    for is_hashed in [true, false] {
        let length = input.number(if version == 6 { 4 } else { 2 })? as usize;
        signature.subpackets(input.take(length)?, is_hashed)?;
    }
    Some(signature)
}

impl Signature {
    fn subpackets(&mut self, area: &[u8], is_hashed: bool) -> Option<()> {
        let mut input = Input(area);
        for _ in 0..SUBPACKETS_MAX {
            if input.0.is_empty() {
                break;
            }
            let length = match input.byte()? {
                first @ 0..=191 => usize::from(first),
                255 => input.number(4)? as usize,
                first => ((usize::from(first) - 192) << 8) + usize::from(input.byte()?) + 192,
            };
            let (kind, data) = input.take(length)?.split_first()?;
            self.subpacket(kind & 0x7f, data, is_hashed);
        }
        Some(())
    }

    /// Who signed may stand anywhere; the rest counts only where it is signed itself.
    fn subpacket(&mut self, kind: u8, data: &[u8], is_hashed: bool) {
        let number = || Input(data).number(4);
        match kind {
            16 => self.number = data.first_chunk().copied(),
            33 => self.fingerprint = data.get(1..).map(<[u8]>::to_vec),
            _ if !is_hashed => {}
            2 => self.created = number().map_or(0, i64::from),
            9 => self.key_expires = number().filter(|seconds| *seconds > 0),
            12 => self.revoker = data.get(2..).map(<[u8]>::to_vec),
            25 => self.is_primary_user = data.first() == Some(&1),
            27 => self.flags = data.first().copied(),
            29 => {
                const TEXT_MAX: usize = 512;
                self.reason = data.split_first().map(|(code, text)| (*code, String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX)]).into_owned()));
            }
            _ => {}
        }
    }

    /// Whether `key` says to have made it.
    pub(super) fn is_by(&self, key: &Key) -> bool {
        match (&self.fingerprint, self.number) {
            (Some(fingerprint), _) => *fingerprint == key.fingerprint,
            (None, number) => number == Some(key.number),
        }
    }

    /// Whether the key of that fingerprint says to have made it.
    pub(super) fn is_by_fingerprint(&self, fingerprint: &[u8]) -> bool {
        self.fingerprint.as_deref() == Some(fingerprint) || self.number.is_some_and(|number| fingerprint.ends_with(&number))
    }

    /// Names of what the key may do.
    pub(super) fn usage(&self) -> Vec<String> {
        let flags = self.flags.unwrap_or(0);
        // Encryption has two: of messages, and of storage.
        let names = [(0x01, "certify"), (0x02, "sign"), (0x0c, "encrypt"), (0x20, "authenticate")];
        names.iter().filter(|(bits, _)| flags & bits != 0).map(|(_, name)| (*name).to_owned()).collect()
    }

    /// Name of the algorithm, as certificates have it where they can.
    pub(super) fn algorithm(&self) -> String {
        let hash = hash(self.hash);
        match self.algorithm {
            1..=3 => format!("{hash}WithRSAEncryption"),
            17 => format!("dsa-with-{}", hash.to_ascii_uppercase()),
            19 => format!("ecdsa-with-{}", hash.to_ascii_uppercase()),
            22 => format!("eddsa-with-{}", hash.to_ascii_uppercase()),
            27 => format!("ed25519-with-{}", hash.to_ascii_uppercase()),
            28 => format!("ed448-with-{}", hash.to_ascii_uppercase()),
            other => format!("unknown (OpenPGP {other}) with {hash}"),
        }
    }

    /// What it says of why, for people.
    pub(super) fn why(&self) -> String {
        let Some((code, text)) = &self.reason else { return "no reason given".into() };
        let name = match code {
            0 => "no reason given",
            1 => "superseded",
            2 => "keyCompromise",
            3 => "cessationOfOperation",
            _ => "another reason",
        };
        if text.is_empty() { name.into() } else { format!("{name} ({text})") }
    }
}
