//! Files of anyone's making in a key directory, with a password configured for stores: no panic, and never more objects than one
//! file may have, nor longer texts than a record. The length chooses the path, since a few forms are told by it.

#![no_main]

use std::path::Path;

use keyvigil_agent::parse::given::{Given, during};
use keyvigil_agent::parse::pbe::Password;
use keyvigil_agent::parse::{document, keys, kubeconfig};
use keyvigil_common::limits::KEYS_PER_FILE_MAX;
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 6] =
    ["/etc/ssl/file", "/etc/wireguard/private", "/root/.ssh/authorized_keys", "/etc/ssh/revoked_keys", "/etc/apt/trusted.gpg", "/root/.kube/config"];

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new(PATHS[bytes.len() % PATHS.len()]);
    let _ = keys::looks_like_keys(bytes, bytes.len() as u64, path);
    let _ = (kubeconfig::files(bytes), std::str::from_utf8(bytes).map(document::Document::read));
    // That of the seeds.
    let given = Given { passwords: vec![Password::new("x".to_owned()), Password::new("xxxxxx".to_owned())].into(), blacklist: None };
    let parsed = during(given, || keys::keys_at(bytes, path));
    assert!(parsed.objects.iter().all(|found| found.facts.is_clamped()));
    // One more: the fault that says there are too many.
    assert!(parsed.objects.len() + parsed.faults.len() <= KEYS_PER_FILE_MAX + 1);
});
