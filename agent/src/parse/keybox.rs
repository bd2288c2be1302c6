//! GnuPG's keybox (`pubring.kbx`): OpenPGP keys and the certificates of `gpgsm`, each in a record. Called by `keys`. Format:
//! GnuPG's `kbx/keybox-blob.c`.

use std::path::Path;

use super::keys::{FaultClass, Parsed};
use super::{openpgp, x509};

const FORMAT: &str = "keybox";
/// Where the first record, which only says what the file is, has its mark.
const MARK: std::ops::Range<usize> = 8..12;

#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    head.get(MARK) == Some(b"KBXf")
}

/// Reads all keys of the file.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    let within = openpgp::within(FORMAT, path);
    let mut at = 0;
    while at < bytes.len() {
        if !parsed.has_room(at) {
            return;
        }
        // Length, and then what it is: 0 is free room, 1 the head, 2 OpenPGP, 3 X.509.
        let length = number(bytes, at).filter(|length| *length >= 5);
        let Some(record) = length.and_then(|length| bytes.get(at..at.checked_add(length)?)) else {
            return parsed.fault(at, FaultClass::Truncated, "the keybox ends before a record in it does".into());
        };
        let body = || {
            let (offset, length) = (number(record, 8)?, number(record, 12)?);
            record.get(offset..offset.checked_add(length)?)
        };
        match (record[4], body()) {
            (2, Some(body)) => openpgp::packets(body, at, &within, parsed),
            (3, Some(body)) => parsed.object(at, within.clone(), x509::certificate(body)),
            (2 | 3, None) => parsed.fault(at, FaultClass::Corrupt, "a record of the keybox that points past its end".into()),
            _ => {}
        }
        at += record.len();
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}
