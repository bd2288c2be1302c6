//! Who may send now: memory for requests is bounded in bytes before they are read, what drains from a backlog leaves room for
//! what is fresh, no tenant takes the share of another, and no agent has more than a few requests open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::limits::INGEST_INFLIGHT_BYTES_MAX;
use keyvigil_common::tls::Identity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Requests that one agent may have open: one for each lane, and as many that it gave up waiting for.
const AGENT_REQUESTS_MAX: usize = 4;
/// When agents should come back that found no room, seconds; they spread themselves beyond it.
const BUSY_SECONDS: u64 = 2;
const BACKFILL_SECONDS: u64 = 5;

/// What a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What was just seen.
    Live,
    /// What waited while the aggregator was away.
    Backfill,
}

impl Lane {
    /// Name in the header `keyvigil-lane`.
    #[must_use]
    pub fn from_header(value: Option<&str>) -> Self {
        if value == Some("backfill") { Self::Backfill } else { Self::Live }
    }
}

/// The door's memory.
#[derive(Debug, Clone)]
pub struct Admission {
    room: Arc<Semaphore>,
    total: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    backfill: usize,
    tenants: HashMap<String, usize>,
    agents: HashMap<Identity, Open>,
}

/// What one agent has open.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Open {
    requests: usize,
    /// With the work on requests that it hung up on.
    bytes: usize,
}

/// Room that is held until this is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Admission,
    identity: Identity,
    lane: Lane,
    bytes: usize,
    request: bool,
    _permit: OwnedSemaphorePermit,
}

impl Default for Admission {
    fn default() -> Self {
        Self::of(INGEST_INFLIGHT_BYTES_MAX)
    }
}

impl Admission {
    fn of(total: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(total)), total, held: Arc::default() }
    }

    /// Room for a sender that is no agent.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: there is none now.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        let full = |_| Refusal::Busy("too much is being ingested at once".into());
        Arc::clone(&self.room).try_acquire_many_owned(size).map_err(full)
    }

    /// Lets an agent send a body of `bytes`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] where there is no room now, [`Refusal::Wait`] where others come first.
    pub fn admit(&self, identity: &Identity, lane: Lane, bytes: usize) -> Result<Place, Refusal> {
        self.take(identity, lane, bytes, None)
    }

    /// `of`: the request that there is to be more room for.
    fn take(&self, identity: &Identity, lane: Lane, bytes: usize, of: Option<&Place>) -> Result<Place, Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |why: &str, seconds| Err(Refusal::Wait { why: why.to_owned(), seconds });
        let (request, mine) = (of.is_none(), held.agents.get(identity).copied().unwrap_or_default());
        if request && mine.requests >= AGENT_REQUESTS_MAX {
            return wait("this agent has too many requests open", BUSY_SECONDS);
        }
        let used = self.total - self.room.available_permits();
        let half = self.total / 2;
        // One request takes what it needs. Several of one agent leave half to its neighbours.
        if mine.bytes > of.map_or(0, |place| place.bytes) && mine.bytes + bytes > half {
            return wait("this agent has much on its way already", BUSY_SECONDS);
        }
        // What alone is too large for its half is let in when nothing else is there: else it would wait for ever.
        if lane == Lane::Backfill && held.backfill > 0 && held.backfill + bytes > half {
            return wait("fresh data comes first; what waited may come a little later", BACKFILL_SECONDS);
        }
        let own = held.tenants.get(&identity.tenant).copied().unwrap_or(0);
        let others = held.tenants.keys().filter(|tenant| **tenant != identity.tenant).count();
        if others > 0 && used + bytes > half && own + bytes > self.total / (others + 1) {
            return wait("other tenants come first", BUSY_SECONDS);
        }
        let permit = self.room(bytes)?;
        *held.tenants.entry(identity.tenant.clone()).or_default() += bytes;
        let mine = held.agents.entry(identity.clone()).or_default();
        (mine.requests, mine.bytes) = (mine.requests + usize::from(request), mine.bytes + bytes);
        if lane == Lane::Backfill {
            held.backfill += bytes;
        }
        drop(held);
        Ok(Place { admission: self.clone(), identity: identity.clone(), lane, bytes, request, _permit: permit })
    }
}

impl Place {
    /// Room for `bytes` of work on what came, which may outlive the request.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub fn more(&self, bytes: usize) -> Result<Self, Refusal> {
        self.admission.take(&self.identity, self.lane, bytes, Some(self))
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lane == Lane::Backfill {
            held.backfill -= self.bytes;
        }
        subtract(&mut held.tenants, &self.identity.tenant, |bytes| *bytes = bytes.saturating_sub(self.bytes));
        subtract(&mut held.agents, &self.identity, |mine| {
            (mine.requests, mine.bytes) = (mine.requests - usize::from(self.request), mine.bytes.saturating_sub(self.bytes));
        });
    }
}

/// Takes from what `key` holds; who holds nothing is forgotten.
fn subtract<K: std::hash::Hash + Eq, V: Default + PartialEq>(held: &mut HashMap<K, V>, key: &K, take: impl FnOnce(&mut V)) {
    if let Some(now) = held.get_mut(key) {
        take(now);
        if *now == V::default() {
            held.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(tenant: &str, agent: &str) -> Identity {
        Identity { tenant: tenant.into(), agent: agent.into() }
    }

    #[test]
    fn a_backlog_leaves_half_of_the_room_to_what_is_fresh() {
        let admission = Admission::of(100);
        let (a, b, c) = (agent("t", "a"), agent("t", "b"), agent("t", "c"));
        let draining = admission.admit(&a, Lane::Backfill, 40).unwrap();
        assert!(matches!(admission.admit(&b, Lane::Backfill, 20), Err(Refusal::Wait { seconds: BACKFILL_SECONDS, .. })));
        let fresh = admission.admit(&b, Lane::Live, 60).unwrap();
        assert!(admission.admit(&c, Lane::Live, 1).is_err(), "bytes are bounded");
        drop((draining, fresh));
        assert!(admission.admit(&b, Lane::Backfill, 80).is_ok(), "what is larger than half comes through when it is alone");
        assert_eq!(admission.room.available_permits(), 100);
    }

    #[test]
    fn a_tenant_cannot_take_the_share_of_another_and_may_have_all_when_alone() {
        let admission = Admission::of(100);
        let loud = |n: usize| agent("loud", &n.to_string());
        let mut places: Vec<Place> = (0..10).map(|n| admission.admit(&loud(n), Lane::Live, 10).unwrap()).collect();
        assert!(admission.admit(&agent("quiet", "q"), Lane::Live, 10).is_err(), "there is nothing left");
        places.truncate(9);
        let quiet = admission.admit(&agent("quiet", "q"), Lane::Live, 10).unwrap();
        places.truncate(5);
        assert!(admission.admit(&loud(20), Lane::Live, 10).is_err(), "its share is held");
        assert!(quiet.more(40).is_ok(), "the other one's share is free");
        drop(quiet);
        assert!(admission.admit(&loud(21), Lane::Live, 50).is_ok());
    }

    #[test]
    fn an_agent_with_several_requests_leaves_half_to_its_neighbours_and_one_request_takes_what_it_needs() {
        let admission = Admission::of(100);
        let (a, b) = (agent("t", "a"), agent("t", "b"));
        let first = admission.admit(&a, Lane::Live, 8).unwrap();
        let work = first.more(70).unwrap();
        assert!(matches!(admission.admit(&a, Lane::Live, 8), Err(Refusal::Wait { .. })), "it has its share");
        drop(first);
        assert!(admission.admit(&a, Lane::Live, 8).is_err(), "it hung up, and the work on it goes on");
        assert!(admission.admit(&b, Lane::Live, 8).is_ok());
        drop(work);
        let small: Vec<Place> = (0..2).map(|_| admission.admit(&a, Lane::Live, 8).unwrap()).collect();
        assert!(small[0].more(30).is_ok() && small[0].more(40).is_err());
        drop(small);
        assert!(admission.held.lock().unwrap().agents.is_empty());
    }

    #[test]
    fn an_agent_has_a_few_requests_open_and_closed_ones_do_not_count() {
        let admission = Admission::of(100);
        let places: Vec<Place> = (0..AGENT_REQUESTS_MAX).map(|_| admission.admit(&agent("t", "a"), Lane::Live, 1).unwrap()).collect();
        assert!(admission.admit(&agent("t", "a"), Lane::Live, 1).is_err());
        assert!(admission.admit(&agent("t", "b"), Lane::Live, 1).is_ok(), "its neighbours are unharmed");
        assert!(places[0].more(1).is_ok(), "work on what came is no request");
        drop(places);
        assert!(admission.admit(&agent("t", "a"), Lane::Live, 1).is_ok());
        assert!(admission.held.lock().unwrap().agents.is_empty(), "who is gone is forgotten");
    }
}
