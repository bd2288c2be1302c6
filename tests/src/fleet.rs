//! A fleet in one process: agents of which the core is simulated (a queue in memory instead of a buffer on disk, made-up
//! samples) and all that meets the aggregator is real: a certificate each, a mutual TLS connection each, the product's own
//! courier, verdicts and wire format. What they sealed is judged against what the aggregator stores. Starts no aggregator.

pub mod joining;
pub mod judge;
mod member;
pub mod tally;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use keyvigil_agent::http::{Dialer, Stream};
use keyvigil_agent::identity::Identity;
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::stop::{Stop, Tasks};
use tokio::net::TcpSocket;
use tokio::sync::watch;

use member::Member;
use tally::Tally;

/// Agents that share one source address: far fewer than there are ephemeral ports.
const AGENTS_PER_ADDRESS: usize = 4_000;

/// What the agents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connect, and keep the connection.
    Connect,
    /// Seal a batch in each period, and deliver.
    Seal,
    /// Deliver what is left.
    Drain,
}

/// What one agent made of its work, for those who look on.
#[derive(Debug, Default)]
pub struct State {
    /// Value of its `host` tag.
    pub host: String,
    /// Identity given at enrolment.
    pub agent: String,
    connected: AtomicU64,
    sealed: AtomicU64,
    acked: AtomicU64,
    acked_sealed_ms: AtomicI64,
}

impl State {
    /// Number of its last batch.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Acquire)
    }
}

/// What all agents share.
struct World {
    clock: SharedClock,
    tasks: Tasks,
    tally: Tally,
    every: Duration,
    phase: watch::Receiver<Phase>,
}

/// How the fleet stands in one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Agents that were connected at least once.
    pub connected: usize,
    /// Agents with an ack of a batch that was sealed after the instant in question.
    pub back: usize,
    /// Batches that wait, of all agents.
    pub waiting: u64,
    /// Batches that wait at the agent that has most.
    pub most: u64,
}

/// The agents.
pub struct Fleet {
    world: Arc<World>,
    phase: watch::Sender<Phase>,
    states: Vec<Arc<State>>,
}

impl Fleet {
    /// Starts agents that connect, each at an instant of its own within a period of `every`.
    #[must_use]
    pub fn start(identities: Vec<Identity>, every: Duration) -> Self {
        let (phase, seen) = watch::channel(Phase::Connect);
        let (clock, tasks) = (SystemClock::shared(), Tasks::new(Stop::new()));
        let world = Arc::new(World { tally: Tally::starting(&clock), clock, tasks, every, phase: seen });
        let mut states = Vec::with_capacity(identities.len());
        for (n, identity) in identities.into_iter().enumerate() {
            let state = Arc::new(State { host: identity.host.clone(), agent: identity.agent.clone(), ..State::default() });
            states.push(Arc::clone(&state));
            let member = Member::new(n, identity, source(n), state, Arc::clone(&world));
            world.tasks.spawn("simulated agent", member.run());
        }
        Self { world, phase, states }
    }

    /// From now on they seal.
    pub fn seal(&self) {
        self.phase.send_replace(Phase::Seal);
    }

    /// From now on they deliver what is left.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Drain);
    }

    /// How they stand; `since_ms`: the instant in question, Unix ms.
    #[must_use]
    pub fn standing(&self, since_ms: i64) -> Standing {
        let mut standing = Standing::default();
        for state in &self.states {
            let acked = state.acked.load(Ordering::Acquire);
            let waiting = state.sealed().saturating_sub(acked);
            standing.connected += usize::from(state.connected.load(Ordering::Relaxed) > 0);
            standing.back += usize::from(state.acked_sealed_ms.load(Ordering::Acquire) >= since_ms);
            standing.waiting += waiting;
            standing.most = standing.most.max(waiting);
        }
        standing
    }

    /// The agents.
    #[must_use]
    pub fn states(&self) -> &[Arc<State>] {
        &self.states
    }

    /// What they counted.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.world.tally
    }

    /// Ends them.
    ///
    /// # Panics
    /// Where one hangs.
    pub async fn stop(self) {
        self.world.tasks.drain(Duration::from_secs(30)).await.expect("a clean end");
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fleet({} agents)", self.states.len())
    }
}

/// TCP from the source address of agent `n`.
fn source(n: usize) -> Dialer {
    let last = u8::try_from(n / AGENTS_PER_ADDRESS % 200).expect("below 200");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, 1 + last), 0));
    Dialer::new(move |address: String| async move {
        let to: SocketAddr = address.parse().map_err(std::io::Error::other)?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    })
}
