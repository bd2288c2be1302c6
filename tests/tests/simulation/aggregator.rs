//! The aggregator without its listeners: the door, the store and the fleet, on a disk that fails. Answers are what its web
//! layer makes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use keyvigil_agent::http::Answer;
use keyvigil_aggregator::fleet::{self, Agent, Fleet};
use keyvigil_aggregator::ingest::{GapRecord, Ingest, Lane};
use keyvigil_aggregator::keys::{EventRecord, Inventory};
use keyvigil_aggregator::orders::Orders;
use keyvigil_aggregator::store::ledger::{self, Stored};
use keyvigil_aggregator::store::{Store, StoreError};
use keyvigil_common::clock::{Clock, ManualClock};
use keyvigil_common::event::EventKind;
use keyvigil_common::seal::MasterKey;
use keyvigil_common::telemetry::Registry;
use keyvigil_common::tls::Identity;
use keyvigil_common::wire::encode_ack;
use keyvigil_tests::random::Random;

use crate::agent::crash;
use crate::disk::{Crash, Disk};
use crate::judge::Account;
use crate::vfs::{self, Attached};
use crate::work::Witness;

/// An aggregator that lives.
pub(crate) struct Aggregator {
    ingest: Ingest,
    store: Store,
    pub(crate) disk: Arc<Disk<Witness>>,
    _attached: Attached,
}

/// What outlives it.
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    key: PathBuf,
}

fn identity() -> Identity {
    Identity { tenant: "default".into(), agent: "ab".repeat(16) }
}

fn agent(now_ms: i64) -> Agent {
    Agent::joining(&identity(), "simulated".into(), "", now_ms)
}

impl Site {
    pub(crate) fn new(dir: &Path, now_ms: i64) -> Self {
        let store = dir.join("store");
        std::fs::create_dir_all(&store).expect("a directory");
        Self { dir: store, clock: ManualClock::at(now_ms), key: dir.join("master.key") }
    }

    /// The aggregator is started; it knows its agent from then on.
    pub(crate) async fn start(&self, random: &mut Random) -> Result<Aggregator, StoreError> {
        let disk = Arc::new(Disk::new(&self.dir, random.split(), || Witness));
        let attached = vfs::attach(&disk);
        let master = MasterKey::load_or_create(&self.key).expect("a key");
        let store = Store::open(&self.dir, &master, self.clock.now_ms(), 512 << 20)?;
        let fleet = Arc::new(Fleet::default());
        fleet.load(&store).await?;
        if fleet.is_empty() {
            let joined = agent(self.clock.now_ms());
            let known = joined.clone();
            let tenant = store
                .write(move |tx| {
                    let tenant = tx.tenant("default")?;
                    fleet::put(tx, tenant, &joined).map(|()| tenant)
                })
                .await?;
            fleet.set(tenant, known, 0);
        }
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let ingest = Ingest::new(store.clone(), fleet, Arc::new(Inventory::default()), Arc::new(Orders::default()), clock, &Registry::default());
        Ok(Aggregator { ingest, store, disk, _attached: attached })
    }
}

impl Aggregator {
    /// Takes a push; what its web layer answers.
    pub(crate) async fn take(&self, body: &[u8]) -> Answer {
        let peer = ([127, 0, 0, 1], 1).into();
        let taken = match self.ingest.admission().admit(&identity(), Lane::Live, body.len()) {
            Ok(place) => self.ingest.push(&place, peer, body).await,
            Err(refusal) => Err(refusal),
        };
        let response: Response = match taken {
            Ok((ack, version)) => encode_ack(&ack, version).expect("an ack").into_response(),
            Err(refusal) => refusal.into_response(),
        };
        let (head, body) = response.into_parts();
        Answer { status: head.status, body: body.collect().await.expect("a body").to_bytes(), retry_after: None }
    }

    /// Forgets what agents tell differences to, as one does that must make room.
    pub(crate) fn forget_bases(&self) {
        self.ingest.forget_bases();
    }

    /// What is done in the background.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await.map(drop)
    }

    /// Dies, and leaves on its disk what a crash at `at` left.
    pub(crate) fn die(self, site: &Site, at: &Crash<Witness>, random: &mut Random) {
        let disk = Arc::clone(&self.disk);
        drop(self);
        crash(&disk, &site.dir, at, random);
    }

    /// Everything that is stored.
    pub(crate) async fn account(&self, account: &mut Account) -> Result<(), String> {
        let ids: Vec<_> = self.store.index().all_ids().iter().collect();
        let points = self.store.select(&ids, i64::MIN / 4, i64::MAX / 4, 1_000_000).await.map_err(|e| e.to_string())?;
        for (_, value) in points.into_iter().flatten() {
            *account.samples.entry(value as u64).or_default() += 1;
        }
        let read = |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
            let (mut events, mut gaps) = (Vec::new(), Vec::new());
            ledger::events(connection, ring, 1, (i64::MIN, i64::MAX), (i64::MAX, i64::MAX), |stored: Stored<EventRecord>| {
                events.push(stored.record);
                true
            })?;
            ledger::gaps(connection, ring, 1, i64::MAX, |stored: Stored<GapRecord>| {
                gaps.push(stored.record);
                true
            })?;
            Ok((events, gaps))
        };
        let (events, gaps) = self.store.read(read).await.map_err(|e| e.to_string())?;
        for event in events.into_iter().filter(|event| event.kind == EventKind::Accessed) {
            let n = event.message.parse().map_err(|_| format!("an event that was never sent: {}", event.message))?;
            *account.events.entry(n).or_default() += 1;
        }
        for gap in gaps {
            account.declared += gap.items;
            account.unknown += u64::from(gap.known_items().is_none());
        }
        Ok(())
    }
}
