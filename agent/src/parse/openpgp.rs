//! OpenPGP keys, as packets or in armour: one object for each primary key and one for each subkey, which names its primary's
//! fingerprint as issuer. What a key is for, until when, and whether it was revoked is read from its newest self-signature.
//! Signatures are not verified: who can write a key file can as well replace it. Nothing is decrypted; of a secret only how it
//! is protected is read. Called by `keys` and the parser of keyboxes. Format: RFC 4880, RFC 9580, and GnuPG's additions.

mod assemble;
mod key;
mod material;
mod packets;
mod secret;
mod signature;
#[cfg(test)]
mod tests;

use std::path::Path;

use keyvigil_common::key::Role;

use self::assemble::Assembly;
pub(super) use self::material::on_curve;
use self::packets::{Packets, is_key};
use super::keys::{FaultClass, Parsed, Within};
use super::pem::{self, Block};

/// Places of keys that vouch for packages: nobody on the host has their private halves.
const TRUSTED: &[&str] = &[
    "/etc/apt",
    "/usr/share/keyrings",
    "/usr/share/apt",
    "/etc/pki/rpm-gpg",
    "/usr/share/distribution-gpg-keys",
    "/etc/pacman.d/gnupg",
    "/usr/share/pacman/keyrings",
    "/usr/lib/systemd",
    "/etc/systemd",
    "/var/lib/rpm",
    "/usr/lib/rpm",
];

/// How the keys of the file at `path` lie there.
#[must_use]
pub fn within(format: &str, path: &Path) -> Within {
    let is_trusted = TRUSTED.iter().any(|place| path.starts_with(place));
    Within::role(format, if is_trusted { Role::Trusted } else { Role::Held })
}

/// Whether a file that begins so may be packets with a key in front.
#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    // A marker, or a keyring's remark, may stand before it.
    Packets::new(head).take(3).map_while(Result::ok).any(|packet| packet.is_primary() && is_key(&packet)) || packets::first_key(head).is_some()
}

/// Reads all keys of a file that is packets.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    packets(bytes, 0, &within("openpgp", path), parsed);
}

/// Reads all keys of an armoured block.
pub fn armoured(block: &Block<'_>, path: &Path, parsed: &mut Parsed) {
    let (encoded, sum) = split_sum(block.encoded);
    let Ok(bytes) = pem::decode(encoded) else {
        return parsed.fault(block.offset, FaultClass::Corrupt, format!("the {} block is not base64", block.label));
    };
    packets(&bytes, block.offset, &within("openpgp", path), parsed);
    // The keys are told nevertheless, as the standard wants.
    if sum.is_some_and(|sum| sum != crc24(&bytes)) && parsed.has_room(block.offset) {
        parsed.fault(block.offset, FaultClass::Corrupt, format!("the check sum of the {} block does not fit", block.label));
    }
}

/// Reads all keys among packets that lie at `offset` of their file.
pub fn packets(bytes: &[u8], offset: usize, within: &Within, parsed: &mut Parsed) {
    let mut assembly = Assembly::default();
    for packet in Packets::new(bytes) {
        match packet {
            Ok(packet) => {
                if is_key(&packet) && packet.is_primary() {
                    std::mem::take(&mut assembly).tell(offset, within, parsed);
                    if !parsed.has_room(offset) {
                        return;
                    }
                }
                assembly.add(&packet);
            }
            Err(broken) => {
                std::mem::take(&mut assembly).tell(offset, within, parsed);
                if parsed.has_room(offset) {
                    parsed.fault(offset + broken.offset, broken.class, broken.reason.into());
                }
                return;
            }
        }
    }
    assembly.tell(offset, within, parsed);
}

/// The check sum at the end of armour, where there is one, and what stands before it.
fn split_sum(encoded: &[u8]) -> (&[u8], Option<u32>) {
    let text = encoded.trim_ascii_end();
    let start = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let Some(sum) = text[start..].trim_ascii_start().strip_prefix(b"=").filter(|sum| sum.len() == 4) else { return (encoded, None) };
    match pem::decode(sum) {
        Ok(sum) => (&text[..start], Some(sum.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))),
        Err(_) => (encoded, None),
    }
}

/// RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x00b7_04ce, |sum, byte| {
        let mixed = sum ^ u32::from(*byte) << 16;
        (0..8).fold(mixed, |sum, _| if sum & 0x0080_0000 != 0 { (sum << 1 ^ 0x0186_4cfb) & 0x00ff_ffff } else { sum << 1 })
    })
}
