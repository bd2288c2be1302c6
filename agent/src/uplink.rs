//! Delivers the buffer: takes a push from it, sends it, and only after the ack the batches go. One request at a time, the two
//! lanes in turn. What an answer means stands in `verdict`, when to send what in `courier`, and in which form in `packer`.

pub mod courier;
mod packer;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::backoff::random_u64;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::{Number, Registry, chain};
use keyvigil_common::wire::{self, Ack, Directive, Push};
use tokio::sync::{Notify, watch};

use crate::buffer::{Buffer, BufferError, Front, Lane, Room};
use crate::canary::Canary;
use crate::enhanced::Enhanced;
use crate::enroll::Renewal;
use crate::http::{Connection, Dialer, Fault, HttpError};
use crate::identity::{Identity, IdentityError};
use crate::sampler::Shown;
use crate::sender::Itself;
use crate::standing::Board;
use courier::{Courier, Holds};
use verdict::{Refused, Verdict};

/// Looked for work at least this often.
const IDLE: Duration = Duration::from_secs(15);
/// For delivery after the word to stop.
const LAST: Duration = Duration::from_secs(10);
/// A batch that can be neither sent nor split waits this long for a proxy to let it pass.
const STUCK: Duration = Duration::from_secs(60);

/// What is needed to deliver.
#[derive(Debug)]
pub struct Uplink {
    /// What waits.
    pub buffer: Buffer,
    /// Who sends.
    pub itself: Itself,
    /// By what certificate; watched.
    pub identity: watch::Receiver<Identity>,
    /// How to connect.
    pub dialer: Dialer,
    /// Time.
    pub clock: SharedClock,
    /// Poked when something was stored.
    pub filled: Arc<Notify>,
    /// Which sensors should sample at their shortest interval.
    pub enhanced: watch::Sender<Enhanced>,
    /// Where a certificate sooner than by its time is wished for.
    pub renewal: Renewal,
    /// For connections.
    pub tasks: Tasks,
    /// Own numbers.
    pub metrics: Metrics,
    /// How it stands, for those who ask.
    pub board: Board,
    /// When to send what.
    pub courier: Courier,
    /// What the sensors see.
    pub shown: Shown,
    /// What is to be confirmed.
    pub canary: Canary,
}

/// Numbers of the uplink.
#[derive(Debug, Clone)]
pub struct Metrics {
    pushes: Number,
    failures: Number,
    acked: Number,
    whole: Number,
    set_aside: Number,
    rewound: Number,
    forked: Number,
    bytes: Number,
    last_ack_ms: Number,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            pushes: registry.counter("keyvigil.agent.pushes_total", "Requests that the aggregator acknowledged."),
            failures: registry.counter("keyvigil.agent.push_failures_total", "Requests that failed or were refused; what they held is kept."),
            acked: registry.counter("keyvigil.agent.acked_batches_total", "Batches acknowledged as stored."),
            whole: registry.counter("keyvigil.agent.asked_whole_total", "Pushes sent whole because the aggregator had forgotten what they differed from."),
            set_aside: registry.counter("keyvigil.agent.set_aside_total", "Batches that the aggregator will never take; each is declared."),
            rewound: registry
                .counter("keyvigil.agent.rewinds_total", "Times that the aggregator had lost what it had acknowledged; what is still held is sent again."),
            forked: registry
                .counter("keyvigil.agent.forks_total", "Times that batches had to be counted anew: this host was put back to an earlier state, or copied."),
            bytes: registry.counter("keyvigil.agent.sent_bytes_total", "Bytes of requests sent."),
            last_ack_ms: registry.gauge("keyvigil.agent.last_ack_timestamp_ms", "When the last ack came, Unix ms."),
        }
    }
}

impl Uplink {
    /// Delivers until stopped; then once more, for what was sealed last.
    pub async fn run(mut self) {
        let stop = self.tasks.stop().clone();
        let mut connection = None;
        while !stop.is_stopped() {
            match stop.or(self.round(&mut connection)).await {
                None => break,
                Some(true) => {}
                Some(false) => self.rest(&stop).await,
            }
        }
        // A request may have been cut off by the word to stop: its connection is of no use any more.
        self.last(&mut None).await;
    }

    /// Serves each lane once; whether anything was delivered.
    async fn round(&mut self, connection: &mut Option<Connection>) -> bool {
        let mut delivered = false;
        for lane in Courier::TURNS {
            let Some(room) = self.courier.may_send(lane, self.clock.monotonic()) else { continue };
            let was_connected = connection.is_some();
            match self.deliver(lane, room, connection).await {
                Ok(any) => {
                    delivered |= any;
                    self.board.well(lane);
                }
                Err(failure) => self.note(lane, &failure, was_connected, connection),
            }
        }
        delivered
    }

    /// Waits until a lane may send again, or there is something new to deliver.
    async fn rest(&mut self, stop: &Stop) {
        let now = self.clock.monotonic();
        let held = self.courier.held_until(now);
        let (clock, identity) = (Arc::clone(&self.clock), &mut self.identity);
        let renewed = stop.or(async {
            tokio::select! {
                () = self.filled.notified() => false,
                () = clock.sleep(held.map_or(IDLE, |until| until - now)) => false,
                // With another certificate it may go at once.
                changed = identity.changed() => changed.is_ok(),
            }
        });
        if renewed.await == Some(true) {
            // The connection must still see that it is another one.
            self.identity.mark_changed();
            self.courier = Courier::default();
        }
    }

    /// Plans when to try again, and says what is wrong.
    fn note(&mut self, lane: Lane, failure: &Failure, was_connected: bool, connection: &mut Option<Connection>) {
        let (now, random) = (self.clock.monotonic(), random_u64());
        let delay = match failure {
            Failure::Refused(refused) => self.courier.failed(lane, refused.holds, refused.retry_after, now, random),
            Failure::Http(_) => {
                *connection = None;
                self.courier.cut_off(lane, was_connected, now, random)
            }
            _ => self.courier.failed(lane, Holds::All, None, now, random),
        };
        if failure.wants_another_certificate() {
            self.renewal.at_once(now);
        }
        self.metrics.failures.inc();
        self.canary.undelivered();
        self.board.failed(lane, self.clock.now_ms(), failure.code(), chain(failure), failure.remedy());
        // The first failures and then each doubling are worth a line; a night without aggregator is not a thousand lines.
        let failures = self.courier.failures();
        if failures.is_power_of_two() || failures < 4 {
            tracing::warn!(error = chain(failure), retry_in_ms = delay.as_millis(), remedy = failure.remedy(), "what is buffered is kept; waiting to deliver");
        }
    }

    /// Delivers what was sealed last, if that can be done before the process must end.
    async fn last(&mut self, connection: &mut Option<Connection>) {
        let all = async {
            loop {
                match self.deliver(Lane::Live, Room { frames: 64, bytes: 256 << 10 }, connection).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(e) => return tracing::debug!(error = chain(&e), "the last batches stay in the buffer"),
                }
            }
        };
        if tokio::time::timeout(LAST, all).await.is_err() {
            tracing::debug!("the last batches stay in the buffer");
        }
    }

    /// Sends what a lane holds; whether there was anything.
    async fn deliver(&mut self, lane: Lane, room: Room, connection: &mut Option<Connection>) -> Result<bool, Failure> {
        let Some(front) = self.buffer.front(lane, room, self.clock.now_ms()).await? else { return Ok(false) };
        let Front { epoch, dropped, waiting, frames } = front;
        let trusts = self.identity.borrow().trusts()?;
        let push = Push { epoch, sender: Some(self.itself.sender(trusts, self.shown.blind(), self.canary.canaries())), dropped, waiting, frames };
        let push = self.courier.pack(&push).map_err(Failure::Encode)?;
        let (size, began) = (push.len() as u64, self.clock.monotonic());
        let kind = if lane == Lane::Backfill { "backfill" } else { "live" };
        let answer = self.connected(connection).await?.push(kind, push).await?;
        self.metrics.bytes.add(size);
        let took = self.clock.monotonic().saturating_sub(began);
        self.act(lane, epoch, Verdict::of(&answer, epoch), took).await?;
        Ok(true)
    }

    /// A connection that shows the newest certificate.
    async fn connected<'a>(&mut self, connection: &'a mut Option<Connection>) -> Result<&'a mut Connection, Failure> {
        let renewed = self.identity.has_changed().unwrap_or(false);
        if renewed || connection.as_ref().is_none_or(Connection::is_closed) {
            let identity = self.identity.borrow_and_update().clone();
            *connection = Some(Connection::open(&self.dialer, &identity.address, identity.tls(&self.clock)?, &self.tasks).await?);
        }
        connection.as_mut().ok_or(Failure::Gone)
    }

    /// Does what an answer asks for.
    async fn act(&mut self, lane: Lane, epoch: [u8; 16], verdict: Verdict, took: Duration) -> Result<(), Failure> {
        let now_ms = self.clock.now_ms();
        match verdict {
            Verdict::Acked(ack) => return self.settle(lane, ack, took).await,
            Verdict::Missing(expected) => {
                self.metrics.rewound.inc();
                tracing::error!(from = expected, "the aggregator has lost what it had acknowledged; what is still held is sent again, the rest is declared");
                self.buffer.missing(epoch, expected, now_ms).await?;
                return self.amended(format!("it asks for number {expected} again and again"));
            }
            Verdict::Forked(seq) => {
                self.metrics.forked.inc();
                tracing::error!(
                    batch = seq,
                    "under this number the aggregator has another batch: this host was put back to an earlier state, or copied; counting anew"
                );
                self.buffer.forked(epoch, seq, now_ms).await?;
                return self.amended(format!("it has another batch under number {seq}, again and again"));
            }
            Verdict::Whole => {
                self.metrics.whole.inc();
                if !self.courier.whole() {
                    return Err(Failure::Numbers("it asks for a push whole that it was given so".to_owned()));
                }
            }
            Verdict::Never { seq, why } => {
                if !self.buffer.set_aside(epoch, seq, format!("refused for good: {why}"), now_ms).await? {
                    return self.amended(format!("it refuses number {seq}, which was not sent"));
                }
                self.metrics.set_aside.inc();
                tracing::error!(batch = seq, reason = why, "the aggregator can never store this batch; it is set aside and declared");
            }
            Verdict::TooLarge(words) => {
                if !self.courier.too_large(lane) {
                    let remedy = "a proxy between this host and the aggregator limits the size of requests: let it pass 8 MiB";
                    return Err(Failure::Refused(Refused {
                        code: "too-large".to_owned(),
                        words,
                        remedy,
                        retry_after: Some(STUCK),
                        holds: Holds::Lane,
                        of_certificate: false,
                    }));
                }
            }
            Verdict::Refused(refused) => return Err(Failure::Refused(refused)),
        }
        Ok(())
    }

    /// Whether the next push may follow at once.
    fn amended(&mut self, otherwise: String) -> Result<(), Failure> {
        if self.courier.amended() { Ok(()) } else { Err(Failure::Numbers(otherwise)) }
    }

    async fn settle(&mut self, lane: Lane, mut ack: Ack, took: Duration) -> Result<(), Failure> {
        let now_ms = self.clock.now_ms();
        let acked = self.buffer.acked(ack.epoch, ack.cursor, std::mem::take(&mut ack.beyond), now_ms).await?;
        if let Some(others) = ack.others.take() {
            self.buffer.elsewhere(ack.epoch, others, now_ms).await?;
        }
        if acked == 0 {
            // What was sent would be sent again at once, and for ever.
            self.amended("it acknowledges nothing of what was sent".to_owned())?;
        } else {
            self.courier.acked(lane, took, &ack);
        }
        self.board.acked(now_ms, ack.now_ms);
        self.metrics.pushes.inc();
        self.metrics.acked.add(acked);
        self.metrics.last_ack_ms.set(now_ms.unsigned_abs());
        self.obey(ack.directives, ack.now_ms);
        Ok(())
    }

    /// Follows the orders of an ack; one to look closely that is not repeated has ended.
    fn obey(&self, directives: Vec<Directive>, their_now_ms: i64) {
        let (mut enhanced, mut proven) = (Enhanced::default(), Vec::new());
        for directive in directives {
            match directive {
                // Their end, by this host's clock.
                Directive::Enhance { sensors, until_ms } => {
                    enhanced = Enhanced { sensors, until_ms: self.clock.now_ms().saturating_add(until_ms.saturating_sub(their_now_ms)) }
                }
                Directive::Proven { nonces } => proven.extend(nonces),
                Directive::Renew { within_ms } => self.renewal.within(Duration::from_millis(within_ms.into()), self.clock.monotonic(), random_u64()),
            }
        }
        self.canary.acked(&proven);
        self.enhanced.send_if_modified(|before| {
            let modified = !before.is_like(&enhanced);
            if modified {
                *before = enhanced;
            }
            modified
        });
    }
}

/// Why nothing was delivered this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("buffer")]
    Buffer(#[from] BufferError),
    #[error("cannot reach the aggregator")]
    Http(#[from] HttpError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("cannot encode the request")]
    Encode(#[source] wire::WireError),
    #[error("the aggregator refused: {}", .0.words)]
    Refused(Refused),
    #[error("agent and aggregator do not agree on what was delivered: {0}")]
    Numbers(String),
    #[error("no connection")]
    Gone,
}

impl Failure {
    /// Whether renewing may help. Nothing is ever given up for it: not the data, not the key.
    fn wants_another_certificate(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.of_certificate,
            // By this host's own clock nothing can be renewed.
            Self::Http(e) => Fault::of(e).is_some_and(|fault| fault != Fault::Clock),
            _ => false,
        }
    }

    /// What it is, for programs.
    fn code(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.code,
            Self::Http(e) => Fault::of(e).map_or("unreachable", Fault::code),
            Self::Buffer(_) => "buffer",
            Self::Identity(_) => "identity",
            Self::Encode(_) | Self::Numbers(_) | Self::Gone => "internal",
        }
    }

    /// What mends it.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.remedy,
            Self::Http(e) => e.remedy(),
            Self::Buffer(_) => "look at the disk of the state directory (`keyvigil-agent doctor`)",
            Self::Identity(_) => "join again: `keyvigil-agent join TOKEN`",
            Self::Encode(_) | Self::Numbers(_) | Self::Gone => "restart the agent; if it stays, report it with the agent's log",
        }
    }
}
