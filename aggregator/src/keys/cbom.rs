//! The inventory as a cryptographic bill of materials: CycloneDX 1.6 or 1.7 (ECMA-424), JSON. Made row by row, so that a
//! fleet's needs no more memory than a host's; in the order of ids, so that two can be compared. Components are what lies
//! on hosts now, the algorithms they are of, and the protocols that serve them. What the schema has no field for yet, the
//! use of keys above all, stands in properties.

mod algorithm;
mod component;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyvigil_common::{hex, sha256};
use serde_json::{Value, json};

use super::{Findings, KeyRecord, PlaceRecord};
use algorithm::Algorithm;

/// Versions of the specification.
pub const VERSIONS: [&str; 2] = ["1.6", "1.7"];

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// One of [`VERSIONS`].
    pub version: &'static str,
    /// What lies on this host only.
    pub host: Option<String>,
    /// The public CAs that the system ships, too.
    pub trust_store: bool,
    /// The time, Unix ms.
    pub now_ms: i64,
}

impl Order {
    fn places<'a>(&self, key: &'a KeyRecord) -> impl Iterator<Item = &'a PlaceRecord> {
        key.live().filter(|p| self.host.as_ref().is_none_or(|host| p.host == *host))
    }

    fn takes(&self, key: &KeyRecord) -> bool {
        self.places(key).next().is_some() && (self.trust_store || !key.is_trust_store())
    }
}

/// The document in pieces.
pub fn rows(mut keys: Vec<Arc<KeyRecord>>, found: Arc<Findings>, order: Order) -> impl Iterator<Item = String> + Send + Sync {
    keys.retain(|key| order.takes(key));
    keys.sort_unstable_by(|a, b| a.facts.id.cmp(&b.facts.id));
    let shared = Shared::of(&keys, &order);
    let head = head(&keys, &order);
    let fixed: Vec<Value> = shared.components().collect();
    let links: Vec<Value> = shared.links().collect();
    let issuers = component::issuers(&keys);
    let (again, order) = (keys.clone(), Arc::new(order));
    let components = fixed.into_iter().chain(keys.into_iter().map(move |key| component::of(&key, &found, &order)));
    let dependencies = links.into_iter().chain(again.into_iter().map(move |key| component::links(&key, &issuers)));
    std::iter::once(head)
        .chain(separated(components))
        .chain(std::iter::once("],\"dependencies\":[".to_owned()))
        .chain(separated(dependencies))
        .chain(std::iter::once("]}\n".to_owned()))
}

fn separated(values: impl Iterator<Item = Value>) -> impl Iterator<Item = String> {
    values.enumerate().map(|(at, value)| if at == 0 { value.to_string() } else { format!(",\n{value}") })
}

fn head(keys: &[Arc<KeyRecord>], order: &Order) -> String {
    let mut text = format!("{}:{}:{:?}:", order.version, order.now_ms, order.host);
    keys.iter().for_each(|key| text.push_str(&key.facts.id));
    let (version, schema) = (env!("CARGO_PKG_VERSION"), order.version);
    let metadata = json!({
        "timestamp": instant(order.now_ms),
        "tools": {"components": [{"type": "application", "name": "keyvigil-aggregator", "version": version}]},
        "component": {"type": "platform", "bom-ref": "fleet", "name": order.host.as_deref().unwrap_or("fleet")},
    });
    format!(
        "{{\"$schema\":\"http://cyclonedx.org/schema/bom-{schema}.schema.json\",\"bomFormat\":\"CycloneDX\",\"specVersion\":\"{schema}\",\
         \"serialNumber\":\"urn:uuid:{}\",\"version\":1,\"metadata\":{metadata},\"components\":[",
        uuid(&sha256(text.as_bytes()))
    )
}

/// A UUID of version 8 (RFC 9562): its bits are ours.
fn uuid(hash: &[u8; 32]) -> String {
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn instant(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What several keys have in common: algorithms, public keys of certificates, protocols.
#[derive(Debug, Default)]
struct Shared {
    algorithms: BTreeSet<Algorithm>,
    /// Public keys of certificates, with their algorithm.
    public_keys: BTreeMap<String, Algorithm>,
    /// Protocols by name and version, with their cipher suites and what is served by them.
    protocols: BTreeMap<Protocol, Spoken>,
}

/// Name and version.
type Protocol = (&'static str, String);

/// How a protocol is spoken.
#[derive(Debug, Default)]
struct Spoken {
    suites: BTreeSet<String>,
    /// References of what is served by it.
    refs: BTreeSet<String>,
}

impl Shared {
    fn of(keys: &[Arc<KeyRecord>], order: &Order) -> Self {
        let mut shared = Self::default();
        for key in keys {
            if component::has_algorithm(key) {
                shared.algorithms.insert(Algorithm::of_key(key));
            }
            shared.algorithms.extend(Algorithm::of_signature(key));
            if component::is_certificate(key) {
                shared.public_keys.entry(key.facts.fingerprint.clone()).or_insert_with(|| Algorithm::of_key(key));
            }
            for p in order.places(key) {
                let file = p.place.path.rsplit('/').next().unwrap_or_default();
                let protocol = match p.place.served.as_deref() {
                    Some(served) => ("tls", served.protocol.as_deref().unwrap_or_default().trim_start_matches("TLSv").to_owned(), served.cipher.clone()),
                    None if file.starts_with("ssh_host_") => ("ssh", "2.0".to_owned(), None),
                    None => continue,
                };
                let spoken = shared.protocols.entry((protocol.0, protocol.1)).or_default();
                spoken.suites.extend(protocol.2);
                spoken.refs.insert(component::reference(key));
            }
        }
        shared
    }

    fn components(&self) -> impl Iterator<Item = Value> {
        let public = |(fingerprint, algorithm): (&String, &Algorithm)| {
            let of = json!({"type": "public-key", "id": fingerprint, "algorithmRef": algorithm.reference()});
            json!({"type": "cryptographic-asset", "bom-ref": public_reference(fingerprint), "name": format!("public key {fingerprint:.12}"),
                   "cryptoProperties": {"assetType": "related-crypto-material", "relatedCryptoMaterialProperties": of}})
        };
        let protocol = |((kind, version), Spoken { suites, refs }): (&Protocol, &Spoken)| {
            let mut of = json!({"type": kind, "cryptoRefArray": refs});
            if !version.is_empty() {
                of["version"] = version.as_str().into();
            }
            if !suites.is_empty() {
                of["cipherSuites"] = suites.iter().map(|name| json!({"name": name})).collect();
            }
            json!({"type": "cryptographic-asset", "bom-ref": protocol_reference(kind, version), "name": format!("{}{version}", if *kind == "tls" { "TLSv" } else { "SSH-" }),
                   "cryptoProperties": {"assetType": "protocol", "protocolProperties": of}})
        };
        self.algorithms.iter().map(Algorithm::component).chain(self.public_keys.iter().map(public)).chain(self.protocols.iter().map(protocol))
    }

    fn links(&self) -> impl Iterator<Item = Value> {
        let public =
            self.public_keys.iter().map(|(fingerprint, algorithm)| json!({"ref": public_reference(fingerprint), "dependsOn": [algorithm.reference()]}));
        let protocols = self.protocols.iter().map(|((kind, version), spoken)| json!({"ref": protocol_reference(kind, version), "dependsOn": spoken.refs}));
        public.chain(protocols)
    }
}

fn public_reference(fingerprint: &str) -> String {
    format!("crypto/public-key/{fingerprint}")
}

fn protocol_reference(kind: &str, version: &str) -> String {
    format!("crypto/protocol/{kind}@{}", if version.is_empty() { "unknown" } else { version })
}
