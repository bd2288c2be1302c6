//! Delivers the buffer: peek, send, and only after the ack the rows go. One request at a time; the stored bytes travel
//! unchanged. Only an answer that says `permanent` lets a batch be set aside; every other failure keeps it, waits with full
//! jitter, and says why.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use keyvigil_common::backoff::{Backoff, random_u64};
use keyvigil_common::clock::SharedClock;
use keyvigil_common::limits::PUSH_FRAMES_MAX;
use keyvigil_common::sequence::Range;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::{Number, Registry, chain};
use keyvigil_common::wire::{self, Ack, Directive, Push, Sender};
use tokio::sync::{Notify, watch};

use crate::buffer::{Buffer, BufferError, Front};
use crate::enhanced::Enhanced;
use crate::enroll::Renewal;
use crate::http::{Answer, Connection, Dialer, Fault, HttpError};
use crate::identity::{Identity, IdentityError};
use crate::standing::Standing;

/// Bytes of frames in one push.
const PUSH_BYTES: usize = 2 << 20;
/// Looked for work at least this often.
const IDLE: Duration = Duration::from_secs(15);
/// For delivery after the word to stop.
const LAST: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What is needed to deliver.
#[derive(Debug)]
pub struct Uplink {
    /// What waits.
    pub buffer: Arc<Buffer>,
    /// Who this is; watched.
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
    /// What stands between this agent and its aggregator.
    pub standing: Arc<Standing>,
    /// Random, of this start.
    pub instance: [u8; 16],
    /// For connections.
    pub tasks: Tasks,
    /// Own numbers.
    pub metrics: Metrics,
    /// Batches in one push: halved when that is too much, [`PUSH_FRAMES_MAX`] at first.
    pub frames_max: usize,
}

/// Numbers of the uplink.
#[derive(Debug, Clone)]
pub struct Metrics {
    pushes: Number,
    failures: Number,
    acked: Number,
    set_aside: Number,
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
            set_aside: registry.counter("keyvigil.agent.set_aside_total", "Batches that the aggregator will never take; each is declared."),
            bytes: registry.counter("keyvigil.agent.sent_bytes_total", "Bytes of requests sent."),
            last_ack_ms: registry.gauge("keyvigil.agent.last_ack_timestamp_ms", "When the last ack came, Unix ms."),
        }
    }
}

impl Uplink {
    /// Delivers until stopped; then once more, for what was sealed last.
    pub async fn run(mut self) {
        let stop = self.tasks.stop().clone();
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        let mut connection = None;
        while !stop.is_stopped() {
            match stop.or(self.deliver(&mut connection)).await {
                None => break,
                Some(Ok(true)) => backoff.reset(),
                Some(Ok(false)) => self.rest(&stop).await,
                Some(Err(failure)) => {
                    connection = None;
                    self.back_off(&failure, &mut backoff, &stop).await;
                }
            }
        }
        // A request may have been cut off by the word to stop: its connection is of no use any more.
        self.last(&mut None).await;
    }

    /// Waits until there is something to deliver.
    async fn rest(&self, stop: &Stop) {
        stop.or(async {
            tokio::select! {
                () = self.filled.notified() => {}
                () = self.clock.sleep(IDLE) => {}
            }
        })
        .await;
    }

    async fn back_off(&mut self, failure: &Failure, backoff: &mut Backoff, stop: &Stop) {
        self.note(failure);
        let delay = backoff.delay(random_u64(), failure.retry_after());
        self.metrics.failures.inc();
        // The first failures and then each doubling are worth a line; a night without aggregator is not a thousand lines.
        if backoff.failures().is_power_of_two() || backoff.failures() < 4 {
            tracing::warn!(error = chain(failure), retry_in_ms = delay.as_millis(), "nothing is lost; waiting to deliver");
        }
        let (clock, identity) = (Arc::clone(&self.clock), &mut self.identity);
        stop.or(async {
            tokio::select! {
                () = clock.sleep(delay) => {}
                // With another certificate it may go at once.
                Ok(()) = identity.changed() => {}
            }
        })
        .await;
    }

    /// Tells who can do something about a failure. Nothing is ever given up for it: not the data, not the key.
    fn note(&self, failure: &Failure) {
        let Some((code, words)) = failure.standing() else { return };
        self.standing.refused(&code, &words, self.clock.now_ms());
        // By this host's own clock nothing can be renewed.
        if !matches!(failure, Failure::Http(_)) || code != Fault::Clock.code() {
            self.renewal.at_once(self.clock.monotonic());
        }
    }

    fn sender(&self) -> Result<Sender, Failure> {
        let boot_ms = i64::try_from(self.clock.since_boot().as_millis()).unwrap_or(i64::MAX);
        let trusts = self.identity.borrow().trusts()?;
        Ok(Sender { instance: self.instance, machine: [0; 32], boot: self.instance, boot_ms, wall_ms: self.clock.now_ms(), trusts })
    }

    /// Delivers what was sealed last, if that can be done before the process must end.
    async fn last(&mut self, connection: &mut Option<Connection>) {
        let all = async {
            loop {
                match self.deliver(connection).await {
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

    /// Sends what is at the front of the buffer; whether there was anything.
    async fn deliver(&mut self, connection: &mut Option<Connection>) -> Result<bool, Failure> {
        let buffer = Arc::clone(&self.buffer);
        let (frames_max, now_ms) = (self.frames_max, self.clock.now_ms());
        let front = blocking(move || buffer.peek(frames_max, PUSH_BYTES, now_ms)).await?;
        let Front { epoch, dropped, frames } = front;
        let (Some(first), Some(last)) = (frames.first().map(|f| f.0), frames.last().map(|f| f.0)) else { return Ok(false) };
        let push = wire::encode_push(&Push { epoch, sender: Some(self.sender()?), dropped, frames, ..Push::default() }).map_err(Failure::Encode)?;
        let size = push.len() as u64;
        let answer = self.connected(connection).await?.post("/v1/push", "application/vnd.keyvigil.push", push).await?;
        self.metrics.bytes.add(size);
        if answer.status == StatusCode::OK {
            let ack = wire::decode_ack(&answer.body).map_err(Failure::Ack)?;
            if ack.epoch != epoch || ack.cursor < last {
                return Err(Failure::Refused(format!("the ack speaks of {} and not of {last}", ack.cursor), None));
            }
            self.frames_max = (self.frames_max * 2).min(PUSH_FRAMES_MAX);
            self.settle(ack).await?;
            return Ok(true);
        }
        self.refused(&answer, first).await?;
        Ok(true)
    }

    /// A connection that shows the newest certificate.
    async fn connected<'a>(&mut self, connection: &'a mut Option<Connection>) -> Result<&'a mut Connection, Failure> {
        let renewed = self.identity.has_changed().unwrap_or(false);
        if renewed || connection.as_ref().is_none_or(Connection::is_closed) {
            let identity = self.identity.borrow_and_update().clone();
            *connection = Some(Connection::open(&self.dialer, &identity.address, identity.tls(&self.clock)?, &self.tasks).await?);
        }
        connection.as_mut().ok_or(Failure::Refused("no connection".into(), None))
    }

    async fn settle(&mut self, ack: Ack) -> Result<(), Failure> {
        let buffer = Arc::clone(&self.buffer);
        let before = blocking({
            let buffer = Arc::clone(&buffer);
            move || buffer.level()
        })
        .await?;
        let cursor = ack.cursor;
        let after = blocking(move || {
            buffer.ack(cursor)?;
            buffer.level()
        })
        .await?;
        self.metrics.pushes.inc();
        self.metrics.acked.add(before.batches.saturating_sub(after.batches));
        self.metrics.last_ack_ms.set(self.clock.now_ms().unsigned_abs());
        self.standing.fine();
        self.obey(ack.directives, ack.now_ms);
        Ok(())
    }

    /// Follows the orders of an ack; one to look closely that is not repeated has ended.
    fn obey(&self, directives: Vec<Directive>, their_now_ms: i64) {
        let mut enhanced = Enhanced::default();
        for directive in directives {
            match directive {
                // Their end, by this host's clock.
                Directive::Enhance { sensors, until_ms } => enhanced = Enhanced { sensors, until_ms: self.clock.now_ms() + (until_ms - their_now_ms) },
                Directive::Renew { within_ms } => self.renewal.within(Duration::from_millis(within_ms.into()), self.clock.monotonic(), random_u64()),
            }
        }
        self.enhanced.send_if_modified(|before| {
            let modified = !before.is_like(&enhanced);
            if modified {
                *before = enhanced;
            }
            modified
        });
    }

    /// Acts on a refusal. One batch may be set aside only if the aggregator said `permanent`; what is too much at once is sent
    /// in smaller pieces; numbers that the aggregator has forgotten are declared. All else is kept, and waits.
    async fn refused(&mut self, answer: &Answer, first: u64) -> Result<(), Failure> {
        use StatusCode as S;
        let (buffer, now_ms) = (Arc::clone(&self.buffer), self.clock.now_ms());
        // Who objects to what was sent has nothing against the sender.
        if matches!(answer.status, S::CONFLICT | S::PAYLOAD_TOO_LARGE | S::UNPROCESSABLE_ENTITY | S::TOO_MANY_REQUESTS) {
            self.standing.fine();
        }
        let permanent = answer.status == StatusCode::UNPROCESSABLE_ENTITY && answer.member("permanent") == true;
        if let Some(seq) = answer.member("batch").as_u64().filter(|_| permanent) {
            tracing::error!(batch = seq, reason = answer.detail(), "the aggregator can never store this batch; it is set aside and declared");
            let cause = format!("refused for good: {}", answer.detail());
            blocking(move || buffer.set_aside(seq, &cause, now_ms)).await?;
            self.metrics.set_aside.inc();
            return Ok(());
        }
        if answer.status == StatusCode::PAYLOAD_TOO_LARGE && self.frames_max > 1 {
            self.frames_max /= 2;
            return Ok(());
        }
        let forgotten = answer.member("expected").as_u64().filter(|_| answer.member("code") == "gap").and_then(|expected| Range::new(expected, first - 1));
        if let Some(range) = forgotten {
            tracing::error!(first = range.first, last = range.last, "the aggregator does not know what was acknowledged before; it is declared");
            blocking(move || buffer.declare_forgotten(range, now_ms)).await?;
            return Ok(());
        }
        match answer.code().filter(|_| answer.status == StatusCode::FORBIDDEN) {
            Some(code) => Err(Failure::Unwelcome { code, words: answer.detail() }),
            None => Err(Failure::Refused(answer.detail(), answer.retry_after)),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, BufferError> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure::Buffer),
        Err(e) => Err(Failure::Refused(format!("the buffer's thread died: {e}"), None)),
    }
}

/// Why nothing was delivered this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("buffer")]
    Buffer(#[source] BufferError),
    #[error("cannot reach the aggregator")]
    Http(#[from] HttpError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("cannot encode the request")]
    Encode(#[source] wire::WireError),
    #[error("the ack is not understood")]
    Ack(#[source] wire::WireError),
    #[error("the aggregator refused: {0}")]
    Refused(String, Option<Duration>),
    #[error("the aggregator refused this agent: {words}")]
    Unwelcome { code: String, words: String },
}

impl Failure {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(_, after) => *after,
            _ => None,
        }
    }

    /// What it says of how this agent stands: a code and words.
    fn standing(&self) -> Option<(String, String)> {
        match self {
            Self::Unwelcome { code, words } => Some((code.clone(), words.clone())),
            Self::Http(error) => Fault::of(error).map(|fault| (fault.code().into(), fault.words().into())),
            _ => None,
        }
    }
}
