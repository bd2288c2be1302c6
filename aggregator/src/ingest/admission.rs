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
    agents: HashMap<Identity, usize>,
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
        self.take(identity, lane, bytes, true)
    }

    fn take(&self, identity: &Identity, lane: Lane, bytes: usize, request: bool) -> Result<Place, Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |why: &str, seconds| Err(Refusal::Wait { why: why.to_owned(), seconds });
        if request && held.agents.get(identity).is_some_and(|open| *open >= AGENT_REQUESTS_MAX) {
            return wait("this agent has too many requests open", BUSY_SECONDS);
        }
        let used = self.total - self.room.available_permits();
        let half = self.total / 2;
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
        if request {
            *held.agents.entry(identity.clone()).or_default() += 1;
        }
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
        self.admission.take(&self.identity, self.lane, bytes, false)
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
        subtract(&mut held.tenants, &self.identity.tenant, self.bytes);
        if self.request {
            subtract(&mut held.agents, &self.identity, 1);
        }
    }
}

/// Takes `by` from what `key` holds; who holds nothing is forgotten.
fn subtract<K: std::hash::Hash + Eq>(held: &mut HashMap<K, usize>, key: &K, by: usize) {
    if let Some(now) = held.get_mut(key) {
        *now = now.saturating_sub(by);
        if *now == 0 {
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
