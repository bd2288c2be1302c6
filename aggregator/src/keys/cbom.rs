//! The inventory as a cryptographic bill of materials: CycloneDX 1.6 or 1.7 (ECMA-424), JSON. Made row by row, so that a
//! fleet's needs no more memory than a host's; in the order of ids, so that two can be compared. Components are what lies
//! on hosts now, the algorithms they are of, and the protocols that serve them. What the schema has no field for yet, the
//! use of keys above all, stands in properties.

mod algorithm;
mod component;
mod strength;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use keyvigil_common::clock::utc;
use keyvigil_common::{hex, sha256};
use serde_json::{Map, Value, json};

use super::{Findings, KeyRecord, PlaceRecord};
use algorithm::Algorithm;

/// Version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// ECMA-424, first edition.
    V1_6,
    /// Second edition: registers families and curves, and replaces references by kind with one list.
    V1_7,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::V1_6, Self::V1_7];

    /// As the document names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// Of the specification.
    pub version: Version,
    /// What lies on this host only.
    pub host: Option<String>,
    /// The public CAs that the system ships, too.
    pub trust_store: bool,
    /// The time, Unix ms.
    pub now_ms: i64,
    /// Since when uses are counted, Unix ms.
    pub uses_since_ms: i64,
    /// How often each key was seen to be used since, by its id, those that were; `None`: it was not counted.
    pub uses: Option<HashMap<String, u64>>,
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
    let fixed: Vec<Value> = shared.components(order.version).collect();
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
    let mut text = format!("{}:{}:{:?}:", order.version.as_str(), order.now_ms, order.host);
    keys.iter().for_each(|key| text.push_str(&key.facts.id));
    let (version, schema) = (env!("CARGO_PKG_VERSION"), order.version.as_str());
    let metadata = json!({
        "timestamp": instant(order.now_ms).unwrap_or_default(),
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

/// RFC 3339; `None` for what no date of four digits tells.
fn instant(ms: i64) -> Option<String> {
    utc(ms).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A word of a host as part of a reference: no two become one, and none ends where it should not.
fn escaped(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
    word.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What several keys have in common: algorithms, public keys of certificates, protocols.
#[derive(Debug, Default)]
struct Shared {
    algorithms: BTreeSet<Algorithm>,
    /// Public keys of certificates, with their algorithm where it is known.
    public_keys: BTreeMap<String, Option<Algorithm>>,
    /// Protocols by name and version, with their cipher suites and what is served by them.
    protocols: BTreeMap<Protocol, Spoken>,
}

/// Kind, and the name with the version as it is spoken, `TLSv1.3`; empty where that is not known.
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
            shared.algorithms.extend(Algorithm::of_key(key));
            shared.algorithms.extend(Algorithm::of_signature(key));
            if component::is_certificate(key) {
                shared.public_keys.entry(key.facts.fingerprint.clone()).or_insert_with(|| Algorithm::of_key(key));
            }
            for p in order.places(key) {
                let file = p.place.path.rsplit('/').next().unwrap_or_default();
                let (protocol, suite) = match p.place.served.as_deref() {
                    Some(served) => (("tls", served.protocol.clone().unwrap_or_default()), served.cipher.clone()),
                    None if file.starts_with("ssh_host_") => (("ssh", "SSH-2.0".to_owned()), None),
                    None => continue,
                };
                let spoken = shared.protocols.entry(protocol).or_default();
                spoken.suites.extend(suite);
                spoken.refs.insert(component::reference(key));
            }
        }
        shared
    }

    fn components(&self, version: Version) -> impl Iterator<Item = Value> {
        let public = move |(fingerprint, algorithm): (&String, &Option<Algorithm>)| {
            let mut of = Map::from_iter([("type".to_owned(), json!("public-key")), ("id".to_owned(), json!(fingerprint))]);
            let algorithm = algorithm.as_ref().map(|algorithm| ("algorithmRef", "algorithm", algorithm.reference()));
            relate(&mut of, version, algorithm);
            json!({"type": "cryptographic-asset", "bom-ref": public_reference(fingerprint), "name": format!("public key {fingerprint:.12}"),
                   "cryptoProperties": {"assetType": "related-crypto-material", "relatedCryptoMaterialProperties": of}})
        };
        let protocol = move |(of, spoken): (&Protocol, &Spoken)| protocol(of, spoken, version);
        let algorithms = self.algorithms.iter().map(move |algorithm| algorithm.component(version));
        algorithms.chain(self.public_keys.iter().map(public)).chain(self.protocols.iter().map(protocol))
    }

    fn links(&self) -> impl Iterator<Item = Value> {
        let public =
            self.public_keys.iter().map(|(fingerprint, algorithm)| json!({"ref": public_reference(fingerprint), "dependsOn": algorithm.iter().map(Algorithm::reference).collect::<Vec<_>>()}));
        let protocols = self.protocols.iter().map(|(protocol, spoken)| json!({"ref": protocol_reference(protocol), "dependsOn": spoken.refs}));
        public.chain(protocols)
    }
}

fn protocol(protocol: &Protocol, Spoken { suites, refs }: &Spoken, version: Version) -> Value {
    let (kind, name) = protocol;
    let mut of = Map::from_iter([("type".to_owned(), json!(kind))]);
    let number = name.strip_prefix("TLSv").or_else(|| name.strip_prefix("SSH-")).unwrap_or(name);
    of.extend((!number.is_empty()).then(|| ("version".to_owned(), json!(number))));
    if !suites.is_empty() {
        of.insert("cipherSuites".into(), suites.iter().map(|name| json!({"name": name})).collect());
    }
    match version {
        Version::V1_6 => drop(of.insert("cryptoRefArray".into(), json!(refs))),
        Version::V1_7 => relate(&mut of, version, refs.iter().map(|reference| ("", "serves", reference.clone()))),
    }
    let name = if name.is_empty() { "TLS of unknown version" } else { name };
    json!({"type": "cryptographic-asset", "bom-ref": protocol_reference(protocol), "name": name,
           "cryptoProperties": {"assetType": "protocol", "protocolProperties": of}})
}

/// Puts references: each a field of its own, of this name, in 1.6; in 1.7 one list, with what they are.
fn relate(of: &mut Map<String, Value>, version: Version, references: impl IntoIterator<Item = (&'static str, &'static str, String)>) {
    let references = references.into_iter();
    match version {
        Version::V1_6 => of.extend(references.map(|(field, _, reference)| (field.to_owned(), reference.into()))),
        Version::V1_7 => {
            let list: Vec<Value> = references.map(|(_, what, reference)| json!({"type": what, "ref": reference})).collect();
            if !list.is_empty() {
                of.insert("relatedCryptographicAssets".into(), list.into());
            }
        }
    }
}

fn public_reference(fingerprint: &str) -> String {
    format!("crypto/public-key/{}", escaped(fingerprint))
}

fn protocol_reference((kind, name): &Protocol) -> String {
    format!("crypto/protocol/{kind}/{}", escaped(name))
}
