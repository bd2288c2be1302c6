//! Keys that Kubernetes carries inside its own files: those of a kubeconfig, and those of a Secret's manifest, as YAML or JSON. Tokens
//! and passwords are never read. Files that a kubeconfig names instead are told by [`files`]. Called by `keys`, and for the
//! files by discovery. Format: Kubernetes' client-go `clientcmd/api/v1`, and `core/v1` Secret.

use std::path::Path;

use keyvigil_common::key::Role;

use super::document::{Document, Value};
use super::keys::{FaultClass, Parsed, Within, embedded};
use super::names::What;
use super::pem::{decode, find, is_pem};

const KUBECONFIG: &str = "kubeconfig";
const SECRET: &str = "kubernetes-secret";
/// What a kubeconfig may carry: list, key of the item, what it holds, and what that is.
const CARRIED: &[(&str, &str, &str, &str, Role)] = &[
    ("clusters", "cluster", "certificate-authority-data", "cluster", Role::Trusted),
    ("users", "user", "client-certificate-data", "user", Role::Held),
    ("users", "user", "client-key-data", "user", Role::Held),
];
/// Secrets' data that is worth a look, by the end of its name; of others it is not even decoded.
const NAMES: &[&str] = &[".crt", ".key", ".pem", ".cert", ".cer", ".der", "ssh-privatekey", "ssh-publickey", ".pub", "id_rsa", "id_ed25519", "id_ecdsa"];

/// A file that a kubeconfig names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As it stands there; relative ones are relative to the kubeconfig.
    pub path: String,
    /// What it is there for.
    pub what: What,
    /// Where it is named, bytes.
    pub offset: usize,
}

/// Whether a file that begins so may be one of these.
#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    let has = |what: &str| find(head, what.as_bytes()).is_some();
    let carries = || CARRIED.iter().any(|row| has(row.2));
    let is_secret = || has("Secret") && has("kind") && has("data") && NAMES.iter().any(|name| has(name));
    carries() || is_secret()
}

/// Reads all keys of the file.
pub fn read(bytes: &[u8], _path: &Path, parsed: &mut Parsed) {
    let document = match std::str::from_utf8(bytes).map_err(|e| e.to_string()).and_then(Document::read) {
        Ok(document) => document,
        Err(_) if is_pem(bytes) => return embedded(bytes, 0, &Within::own("pem"), parsed),
        Err(e) => return parsed.fault(0, FaultClass::Corrupt, format!("looks like a file of Kubernetes and does not parse: {e}")),
    };
    let mut found = false;
    for root in document.roots() {
        let items = root.get("items").filter(|_| is_kind(root, "List") || is_kind(root, "SecretList"));
        for manifest in items.into_iter().flat_map(Value::items).chain(items.is_none().then_some(root)) {
            if is_kind(manifest, "Secret") || is_kind(root, "SecretList") {
                found = true;
                secret(manifest, parsed);
            } else if manifest.get("clusters").or_else(|| manifest.get("users")).is_some() {
                found = true;
                kubeconfig(manifest, parsed);
            }
        }
    }
    parsed.bounded(&document);
    // Something else that only speaks of Secrets: a ConfigMap, a chart.
    if !found && is_pem(bytes) {
        embedded(bytes, 0, &Within::own("pem"), parsed);
    }
}

fn is_kind(value: Value<'_, '_>, kind: &str) -> bool {
    value.text_of("kind").is_some_and(|text| *text == *kind)
}

fn kubeconfig(config: Value<'_, '_>, parsed: &mut Parsed) {
    for (list, key, data, what, role) in CARRIED {
        for item in config.get(list).into_iter().flat_map(Value::items) {
            if let Some(text) = item.get(key).and_then(|inner| inner.get(data)) {
                let name = item.text_of("name");
                let within = Within::role(KUBECONFIG, *role).entry(format!("{what} {}", name.as_deref().unwrap_or("?")));
                encoded(text, &within, parsed);
            }
        }
    }
}

fn secret(manifest: Value<'_, '_>, parsed: &mut Parsed) {
    let metadata = |key: &str| manifest.get("metadata")?.text_of(key);
    let (namespace, name) = (metadata("namespace"), metadata("name"));
    let owner = [namespace.as_deref(), name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("/");
    for (list, is_encoded) in [("data", true), ("stringData", false)] {
        for (key, value) in manifest.get(list).into_iter().flat_map(Value::entries) {
            if !NAMES.iter().any(|end| key.ends_with(end)) {
                continue;
            }
            let role = if key.starts_with("ca.") || key.starts_with("ca-") { Role::Trusted } else { Role::Held };
            let within = Within::role(SECRET, role).entry(format!("{owner} {}", &*key).trim_start());
            match value.text() {
                Some(_) if is_encoded => encoded(value, &within, parsed),
                Some(text) if is_pem(text.as_bytes()) => embedded(text.as_bytes(), value.offset(), &within, parsed),
                _ => {}
            }
        }
    }
}

/// Base64 of PEM or DER.
fn encoded(value: Value<'_, '_>, within: &Within, parsed: &mut Parsed) {
    // `kubectl config view` and copies for others leave nothing, or these words.
    let Some(text) = value.text().filter(|text| !["", "DATA+OMITTED", "REDACTED", "DATA OMITTED"].contains(&&**text)) else { return };
    match decode(text.as_bytes()) {
        Ok(bytes) => embedded(&bytes, value.offset(), within, parsed),
        Err(_) => {
            let entry = within.entry.as_deref().unwrap_or_default();
            parsed.fault(value.offset(), FaultClass::Corrupt, format!("{entry}: not base64"));
        }
    }
}

/// Key files that a kubeconfig names instead of carrying them.
#[must_use]
pub fn files(bytes: &[u8]) -> Vec<Named> {
    const FILES_MAX: usize = 1_000;
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let Ok(document) = Document::read(text) else { return Vec::new() };
    let mut named = Vec::new();
    for root in document.roots() {
        for (list, key, data, _, role) in CARRIED {
            let Some(file) = data.strip_suffix("-data") else { continue };
            let what = match (*role, file) {
                (Role::Trusted, _) => What::Authorities,
                (_, "client-key") => What::Key,
                _ => What::Certificate,
            };
            for value in root.get(list).into_iter().flat_map(Value::items).filter_map(|item| item.get(key)?.get(file)) {
                if let Some(path) = value.text().filter(|path| !path.is_empty() && named.len() < FILES_MAX) {
                    named.push(Named { path: path.to_string(), what, offset: value.offset() });
                }
            }
        }
    }
    named
}

#[cfg(test)]
mod tests;
