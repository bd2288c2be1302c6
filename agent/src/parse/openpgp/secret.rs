//! How the secret half of a key is protected, or where it is instead. The secret itself is never looked at. Format: RFC 9580
//! sections 3.7 and 5.5.3; GnuPG's `doc/DETAILS` for its stubs.

use keyvigil_common::hex;

use super::material::Input;

/// What follows the public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// No password.
    Clear,
    /// Derivation, cost, cipher.
    Locked(String),
    /// On a card, or in another file; for people.
    Elsewhere(String),
}

/// Reads what stands in front of a secret.
pub(super) fn secret(version: u8, bytes: &[u8]) -> Option<Secret> {
    let mut input = Input(bytes);
    let usage = input.byte()?;
    if usage == 0 {
        return Some(Secret::Clear);
    }
    if version >= 5 {
        input.byte()?;
    }
    if !matches!(usage, 253..=255) {
        return Some(Secret::Locked(format!("md5, 1 iteration, {}", cipher(usage, "cfb"))));
    }
    let algorithm = input.byte()?;
    let mode = match if usage == 253 { input.byte()? } else { 0 } {
        1 => "eax",
        2 => "ocb",
        3 => "gcm",
        _ => "cfb",
    };
    if version >= 6 {
        input.byte()?;
    }
    let cipher = cipher(algorithm, mode);
    Some(match input.byte()? {
        0 => Secret::Locked(format!("s2k-simple-{}, {cipher}", hash(input.byte()?))),
        1 => Secret::Locked(format!("s2k-salted-{}, {cipher}", hash(input.byte()?))),
        3 => {
            let hash = hash(input.byte()?);
            input.take(8)?;
            let count = u64::from(input.byte()?);
            Secret::Locked(format!("s2k-iterated-{hash}, {} bytes, {cipher}", (16 + (count & 15)) << ((count >> 4) + 6)))
        }
        4 => {
            input.take(16)?;
            let (passes, lanes, memory) = (input.byte()?, input.byte()?, input.byte()?);
            Secret::Locked(format!("argon2id, 2^{memory} KiB, {passes} passes, parallelism {lanes}, {cipher}"))
        }
        101 => {
            input.byte()?;
            (input.take(3)? == b"GNU").then_some(())?;
            match input.byte()? {
                2 => {
                    let length = input.byte()?.min(16);
                    let serial = input.take(usize::from(length).min(input.0.len()))?;
                    Secret::Elsewhere(format!("the secret half is on a card, {}", hex(serial)))
                }
                _ => Secret::Elsewhere("the secret half is not in this file".into()),
            }
        }
        other => Secret::Locked(format!("unknown ({other}), {cipher}")),
    })
}

fn cipher(number: u8, mode: &str) -> String {
    let name = match number {
        1 => "idea",
        2 => "des-ede3",
        3 => "cast5",
        4 => "blowfish",
        7 => "aes-128",
        8 => "aes-192",
        9 => "aes-256",
        10 => "twofish",
        11 => "camellia-128",
        12 => "camellia-192",
        13 => "camellia-256",
        other => return format!("unknown ({other})"),
    };
    format!("{name}-{mode}")
}

/// Name of a hash.
pub(super) fn hash(number: u8) -> String {
    let name = match number {
        1 => "md5",
        2 => "sha1",
        3 => "ripemd160",
        8 => "sha256",
        9 => "sha384",
        10 => "sha512",
        11 => "sha224",
        12 => "sha3-256",
        14 => "sha3-512",
        other => return format!("unknown ({other})"),
    };
    name.into()
}
