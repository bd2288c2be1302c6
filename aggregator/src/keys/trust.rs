//! What the system ships to trust others: its paths, in containers too. The one place that knows them.

use keyvigil_common::key::Place;

/// Directories of certificates that the system ships to trust others: their expiry concerns nobody here.
const TRUST_STORES: [&str; 11] = [
    "/etc/ssl/certs/",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/usr/share/ca-certificates/",
    "/etc/ca-certificates/extracted/",
    "/var/lib/ca-certificates/",
    "/etc/pki/ca-trust/",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs/",
    "/usr/share/pki/",
    "/usr/share/keyrings/",
];
/// The store that every Java runtime brings.
const JAVA_STORE: &str = "/lib/security/cacerts";
/// What only the system makes: its bundles, and the directories of its packages. A certificate of these directories that is in
/// none of them, like one that somebody signed himself and put into `/etc/ssl/certs`, is somebody's own.
const BUNDLES: [&str; 14] = [
    "/ca-certificates.crt",
    "/ca-bundle.crt",
    "/ca-bundle.trust.crt",
    "/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ca-certificates/extracted/",
    "/var/lib/ca-certificates/",
    "/usr/share/ca-certificates/",
    "/usr/share/pki/",
    "/usr/share/keyrings/",
    "/etc/ssl/certs/java/cacerts",
    JAVA_STORE,
];

/// Whether what lies there came with the system, and nobody serves it.
pub(super) fn is_shipped(place: &Place) -> bool {
    let path = place.path_inside();
    place.served.is_none() && (path.ends_with(JAVA_STORE) || TRUST_STORES.iter().any(|dir| path.starts_with(dir)))
}

/// Whether only the system puts anything there.
pub(super) fn is_bundled(place: &Place) -> bool {
    let path = place.path_inside();
    BUNDLES.iter().any(|name| path.ends_with(name) || path.starts_with(name))
}
