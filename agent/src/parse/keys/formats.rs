//! Which form a file has beyond PEM and DER, told by how it begins, and by its path only where nothing else can tell. In the order
//! in which they are asked. Called by `keys`.

use std::path::Path;

use super::Parsed;
use crate::parse::{gnupg, jks, jwk, keybox, krl, kubeconfig, openpgp, ssh_files, ssh_lines, unread, wireguard};

/// One form.
pub(super) struct Format {
    /// Whether a file that begins so may have it.
    pub(super) looks: fn(&[u8], &Path) -> bool,
    /// Reads all of the file.
    pub(super) read: fn(&[u8], &Path, &mut Parsed),
}

/// Those that are sure of themselves, and then those that may share a file with PEM blocks.
const BEFORE_PEM: &[Format] = &[
    Format { looks: |head, _| jks::is_store(head), read: |bytes, _, parsed| jks::read(bytes, parsed) },
    Format { looks: krl::looks, read: krl::read },
    Format { looks: keybox::looks, read: keybox::read },
    Format { looks: ssh_files::looks, read: ssh_files::read },
    Format { looks: unread::looks, read: unread::read },
    Format { looks: gnupg::looks, read: gnupg::read },
    Format { looks: kubeconfig::looks, read: kubeconfig::read },
    Format { looks: jwk::looks, read: jwk::read },
];

/// Those that are only looked for where there is neither PEM nor DER.
const AFTER_DER: &[Format] = &[
    Format { looks: |head, _| jks::is_bouncy_castle(head), read: |_, _, parsed| jks::of_bouncy_castle(parsed) },
    Format { looks: openpgp::looks, read: openpgp::read },
    Format { looks: wireguard::looks, read: wireguard::read },
    Format { looks: ssh_lines::looks, read: ssh_lines::read },
];

pub(super) fn before_pem(head: &[u8], path: &Path) -> Option<&'static Format> {
    BEFORE_PEM.iter().find(|format| (format.looks)(head, path))
}

pub(super) fn after_der(head: &[u8], path: &Path) -> Option<&'static Format> {
    AFTER_DER.iter().find(|format| (format.looks)(head, path))
}
