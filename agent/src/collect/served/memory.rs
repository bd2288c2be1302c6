//! What the sensor remembers over a restart: of each port how it is asked, what it serves and what was said of that, so that
//! nothing is said twice and no port without TLS is asked again. Called by the sensor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::key::{KeyFacts, Place};
use serde::{Deserialize, Serialize};

use super::ports::{Plain, Port, Service, Stale};
use super::probe::Way;
use crate::collect::Sink;

#[derive(Serialize, Deserialize)]
struct Saved {
    inodes: BTreeSet<u64>,
    exe: Option<String>,
    way: Way,
    plain: Option<Plain>,
    services: BTreeMap<String, SavedService>,
}

#[derive(Serialize, Deserialize)]
struct SavedService {
    facts: KeyFacts,
    place: Place,
    paths: BTreeSet<String>,
    /// Id of what its file held when it was said that it is stale.
    stale: Option<String>,
}

/// Takes what a former process remembered into `ports`; what was looked at meanwhile stays, but is not said again.
pub(super) fn restore(remembered: Vec<(String, Vec<u8>)>, ports: &mut BTreeMap<SocketAddr, Port>) {
    for (key, value) in remembered {
        let Some((address, saved)) = key.parse().ok().zip(serde_json::from_slice::<Saved>(&value).ok()) else {
            tracing::warn!(key, "what was remembered of a port does not parse");
            continue;
        };
        let Saved { inodes, exe, way, plain, services } = saved;
        let port = ports.entry(address).or_insert_with(|| Port { inodes, exe, way, plain, ..Port::default() });
        port.saved = value;
        for (name, saved) in services {
            let SavedService { facts, place, paths, stale } = saved;
            let stale = stale.map(|key| Stale { key, renewed: None, since: Duration::ZERO, told: true });
            match port.services.get_mut(&name) {
                None => {
                    let served = place.served.as_deref().cloned().unwrap_or_default();
                    let file = served.file.clone();
                    let told = Some((place, Duration::ZERO));
                    let service = Service { facts: Arc::new(facts), served, told, before: None, seen: Duration::ZERO, paths, file, nowhere: None, stale };
                    port.services.insert(name, service);
                }
                Some(service) if service.facts.id == facts.id => {
                    service.paths.extend(paths);
                    service.stale = stale.or(service.stale.take());
                }
                Some(service) => {
                    service.before = Some((Arc::new(facts), place));
                    service.stale = stale;
                }
            }
        }
    }
}

/// Remembers what changed of `ports`, and forgets those that are `gone`.
pub(super) fn remember(ports: &mut BTreeMap<SocketAddr, Port>, gone: &[SocketAddr], sink: &mut Sink) {
    for address in gone {
        sink.remember(address.to_string(), None);
    }
    for (address, port) in ports {
        let service = |(name, service): (&String, &Service)| {
            let (place, _) = service.told.clone()?;
            let stale = service.stale.as_ref().filter(|stale| stale.told).map(|stale| stale.key.clone());
            Some((name.clone(), SavedService { facts: (*service.facts).clone(), place, paths: service.paths.clone(), stale }))
        };
        let services = port.services.iter().filter_map(service).collect();
        let saved = Saved { inodes: port.inodes.clone(), exe: port.exe.clone(), way: port.way, plain: port.plain.clone(), services };
        let Ok(bytes) = serde_json::to_vec(&saved) else { continue };
        if bytes != port.saved {
            port.saved.clone_from(&bytes);
            sink.remember(address.to_string(), Some(bytes));
        }
    }
}
