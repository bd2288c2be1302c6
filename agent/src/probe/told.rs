//! What a record of the kernel becomes in the words of messages.

use super::layout::Record;
use super::message::{Opened, Who};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Stands for what is missing of a path.
pub(crate) const CUT_OFF: char = '…';

pub(super) fn who(record: &Record) -> Who {
    Who {
        pid: record.pid,
        started_ns: record.started_ns,
        parent: record.parent,
        uid: record.uid,
        login_uid: record.login_uid,
        // Whose beginning is missing might be taken for another.
        exe: if record.exe_is_cut { format!("{CUT_OFF}{}", text(&record.exe)) } else { text(&record.exe) },
        comm: record.comm.clone(),
        parent_comm: record.parent_comm.clone(),
        cgroup: if record.cgroup_is_cut { String::new() } else { text(&record.cgroup) },
    }
}

/// Whether both are told as one.
pub(super) fn is_same(one: &Opened, other: &Opened) -> bool {
    let what = |opened: &Opened| (opened.file, opened.generation, opened.flags, opened.errno, opened.is_cut);
    what(one) == what(other) && one.who == other.who && one.asked == other.asked
}

pub(super) fn opened(record: &Record) -> Opened {
    let asked = match record.asked.first() {
        None | Some(b'/') => record.asked.clone(),
        Some(_) => [&record.base[..], b"/", &record.asked].concat(),
    };
    let end = record.asked_is_cut.then_some(CUT_OFF).map(String::from).unwrap_or_default();
    Opened {
        at_ns: record.at_ns,
        who: who(record),
        file: record.file,
        generation: record.generation,
        flags: record.flags,
        errno: record.errno,
        asked: text(&asked) + &end,
        mount_ns: record.mount_ns,
        is_cut: record.is_cut,
        more: 0,
        exe_sha256: String::new(),
    }
}

/// HMAC, CMAC, Poly1305 and SipHash: OpenSSL has them as keys, but they are of the moment and no private keys.
pub(super) const MACS: [i32; 4] = [855, 894, 1_061, 1_062];

/// Names of the numbers by which OpenSSL calls algorithms (`obj_mac.h`).
pub(super) fn algorithm(nid: i32) -> String {
    match nid {
        6 => "RSA",
        912 => "RSA-PSS",
        116 => "DSA",
        408 => "EC",
        1_172 => "SM2",
        1_034 => "X25519",
        1_035 => "X448",
        1_087 => "Ed25519",
        1_088 => "Ed448",
        28 | 920 => "DH",
        1_454..=1_459 => "ML-KEM or ML-DSA",
        _ => "",
    }
    .to_owned()
}

pub(super) fn version(number: i32) -> String {
    match number {
        0x0300 => "SSL 3.0",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304 => "TLS 1.3",
        0xfeff => "DTLS 1.0",
        0xfefd => "DTLS 1.2",
        0xfefc => "DTLS 1.3",
        _ => "",
    }
    .to_owned()
}
