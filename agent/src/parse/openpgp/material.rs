//! The numbers of a public key: which algorithm, how large, on which curve. Format: RFC 9580 sections 5.5.5 and 9.1 to 9.2,
//! draft-ietf-openpgp-pqc for the post-quantum ones, LibrePGP for `kyber`.

use keyvigil_common::key::{KeyFacts, KeyKind};

use crate::parse::spki::{self, ED448_OID, ED25519_OID, X448_OID, X25519_OID};

/// Algorithms whose key is bytes of one length: number, name, identifier where the key has one elsewhere, bytes.
const BARE: &[(u8, &str, Option<&[u8]>, usize)] = &[
    (25, "x25519", Some(X25519_OID), 32),
    (26, "x448", Some(X448_OID), 56),
    (27, "ed25519", Some(ED25519_OID), 32),
    (28, "ed448", Some(ED448_OID), 57),
    (30, "ml-dsa-65+ed25519", None, 32 + 1_952),
    (31, "ml-dsa-87+ed448", None, 57 + 2_592),
    (32, "slh-dsa-shake-128s", None, 32),
    (33, "slh-dsa-shake-128f", None, 32),
    (34, "slh-dsa-shake-256s", None, 64),
    (35, "ml-kem-768+x25519", None, 32 + 1_184),
    (36, "ml-kem-1024+x448", None, 56 + 1_568),
];
/// Curves that OpenPGP names by an identifier of GnuPG's, and what everyone else calls them.
const OLD_CURVES: &[(&[u8], &[u8])] = &[
    (&[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01], ED25519_OID),
    (&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x97, 0x55, 0x01, 0x05, 0x01], X25519_OID),
    (ED25519_OID, ED25519_OID),
    (X25519_OID, X25519_OID),
    (ED448_OID, ED448_OID),
    (X448_OID, X448_OID),
];

/// Reads bytes and numbers one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn number(&mut self, count: usize) -> Option<u32> {
        Some(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A number of any length, big-endian.
    pub(super) fn integer(&mut self) -> Option<&'a [u8]> {
        let bits = self.number(2)? as usize;
        self.take(bits.div_ceil(8))
    }

    /// Bytes with their count in front, as curves and their parameters are.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let count = self.byte()?;
        self.take(usize::from(count))
    }
}

/// What is known of the key, its id and fingerprint where it has the same in other files, and else empty. Leaves `input`
/// behind the public numbers; `None` where they do not parse.
pub(super) fn public(kind: KeyKind, algorithm: u8, input: &mut Input<'_>) -> Option<KeyFacts> {
    let bare = |name: &str| KeyFacts::bare(kind, String::new(), String::new(), name);
    if let Some((_, name, identifier, length)) = BARE.iter().find(|row| row.0 == algorithm) {
        let key = input.take(*length)?;
        return match identifier {
            Some(identifier) => spki::raw(kind, identifier, key),
            None => Some(bare(name)),
        };
    }
    match algorithm {
        1..=3 => spki::rsa(kind, input.integer()?, input.integer()?),
        17 => spki::dsa(kind, [input.integer()?, input.integer()?, input.integer()?, input.integer()?]),
        16 | 20 => spki::elgamal(kind, [input.integer()?, input.integer()?, input.integer()?]),
        18 | 19 | 22 => {
            let (curve, point) = (input.counted()?, input.integer()?);
            if algorithm == 18 {
                input.counted()?;
            }
            on_curve(kind, curve, point)
        }
        _ => None,
    }
}

/// Facts of a point in OpenPGP's form.
pub(crate) fn on_curve(kind: KeyKind, curve: &[u8], point: &[u8]) -> Option<KeyFacts> {
    match OLD_CURVES.iter().find(|row| row.0 == curve) {
        // A prefix says that the point is in its curve's own form; an octet string has none.
        Some((_, identifier)) => spki::raw(kind, identifier, if point.len() % 2 == 1 && point[0] == 0x40 { &point[1..] } else { point }),
        None => spki::ec(kind, curve, point),
    }
}

/// Name of an algorithm of which only the number is known.
pub(super) fn name(algorithm: u8) -> String {
    match algorithm {
        8 => "kyber".into(),
        other => format!("unknown (OpenPGP {other})"),
    }
}
