//! Key stores with passwords: what is told while they are closed, and once they open.

use keyvigil_common::key::KeyKind;

use super::*;
use crate::collect::StorePassword;

/// A store with a certificate and its key, for which no password is configured.
fn host() -> Host {
    let host = Host::unprefixed(&["etc"]);
    host.shop.certificate("made/c.pem", "made/k.pem", "web", 30);
    host.shop.write("etc/ssl/README", "");
    export(&host);
    host
}

fn export(host: &Host) {
    host.shop.openssl("pkcs12 -export -inkey made/k.pem -in made/c.pem -name web -passout pass:secret -out etc/ssl/s.p12");
}

/// Starts the agent anew, with a password configured; the file in which it is to lie.
fn configure(host: &mut Host) -> std::path::PathBuf {
    let file = host.shop.path("password");
    let path = host.shop.path("etc/*/*.p12").to_string_lossy().into_owned();
    host.context.keystore.password = vec![StorePassword { path, file: file.clone() }];
    host.restart();
    host.pass(Duration::from_secs(60));
    file
}

fn write_password(file: &Path, text: &str, mode: u32) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn held(sink: &Sink) -> Vec<(KeyKind, String)> {
    sink.sightings.iter().filter(|sighting| !sighting.gone).map(|sighting| (sighting.facts.kind, sighting.place.entry.clone().unwrap_or_default())).collect()
}

#[test]
fn a_store_is_told_to_be_closed_and_its_keys_are_no_news_when_it_opens() {
    let mut host = host();
    let first = host.look();
    assert_eq!((kinds(&first.events), held(&first)), (vec![EventKind::Unreadable], vec![(KeyKind::PrivateKey, "web".to_owned())]));
    let message = &first.events[0].message;
    assert_eq!(message.matches("[[keystore.password]]").count(), 1, "what to do is said once: {message}");
    assert!(message.contains("pbkdf2-hmac-sha256, 2048 iterations"), "{message}");
    assert_eq!(value(&first, "crypto.keystore.errors_total", Some(("reason", "locked"))), Some(1.0));
    let file = configure(&mut host);
    write_password(&file, "secret\n", 0o600);
    let open = host.look();
    assert!(open.events.is_empty(), "{:?}", open.events);
    let mut now = held(&open);
    now.sort();
    assert_eq!(now, [(KeyKind::Certificate, "web".to_owned()), (KeyKind::PrivateKey, "web".to_owned())]);
    let key = host.shop.spki_sha256(&format!("-in {}", host.shop.path("made/k.pem").display()));
    assert!(open.sightings.iter().any(|sighting| sighting.facts.kind == KeyKind::PrivateKey && sighting.facts.id == key));
    assert!(host.settle().is_empty());
}

#[test]
fn a_password_file_that_cannot_be_used_is_told_and_tried_again_when_it_changes() {
    let mut host = host();
    let file = configure(&mut host);
    let look = host.look();
    assert_eq!(kinds(&look.events), [EventKind::Unreadable]);
    assert!(look.events[0].message.contains("password file"), "{}", look.events[0].message);
    host.pass(Duration::from_secs(60));
    write_password(&file, "secret", 0o644);
    host.look();
    host.pass(Duration::from_secs(60));
    write_password(&file, "wrong", 0o600);
    host.look();
    assert_eq!(host.sensor.tracker.held().count(), 1, "but for the name of a key all is closed");
    host.pass(Duration::from_secs(60));
    write_password(&file, "secret", 0o600);
    assert!(host.look().events.is_empty(), "what opens was there before");
    assert_eq!(host.sensor.tracker.held().count(), 2, "read again although the store did not change");
    // The file goes away: what is known stays known.
    host.pass(Duration::from_secs(60));
    std::fs::remove_file(&file).unwrap();
    export(&host);
    let events = host.settle();
    assert_eq!(kinds(&events), [EventKind::Unreadable]);
    assert!(host.sensor.tracker.held().any(|held| held.facts.kind == KeyKind::Certificate));
}
