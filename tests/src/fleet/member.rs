//! One simulated agent: seals a small batch in each period, numbers without gaps, keeps what is not acknowledged, and delivers
//! as the product's uplink does: its courier decides when, its verdicts what an answer means.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyvigil_agent::buffer::{Lane, Room};
use keyvigil_agent::http::{Connection, Dialer, HttpError};
use keyvigil_agent::identity::Identity;
use keyvigil_agent::uplink::courier::{Courier, Holds};
use keyvigil_agent::uplink::verdict::Verdict;
use keyvigil_common::backoff::random_u64;
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::wire::{Ack, Batch, Column, Group, Push, Sealed, Sender, encode_batch};
use keyvigil_common::{random, sha256};
use rustls::ClientConfig;

use super::{Phase, State, World};

/// Series of one agent.
pub(super) const SERIES: usize = 4;
/// Samples of each series in one batch.
pub(super) const STEPS: usize = 5;
/// Batches that wait at most; nothing is sealed beyond.
const WAITING_MAX: usize = 4_096;

struct Waiting {
    seq: u64,
    at_ms: i64,
    frame: Vec<u8>,
}

/// One agent.
pub(super) struct Member {
    address: String,
    tls: Arc<ClientConfig>,
    dialer: Dialer,
    sender: Sender,
    epoch: [u8; 16],
    series: Vec<Series>,
    sealed: u64,
    queue: VecDeque<Waiting>,
    courier: Courier,
    connection: Option<Connection>,
    state: Arc<State>,
    world: Arc<World>,
}

impl Member {
    pub(super) fn new(n: usize, identity: Identity, dialer: Dialer, state: Arc<State>, world: Arc<World>) -> Self {
        let machine = sha256(format!("simulated installation {n}").as_bytes());
        let sender = Sender {
            instance: random(),
            machine,
            boot: random(),
            boot_ms: 0,
            wall_ms: 0,
            trusts: identity.trusts().expect("CAs"),
            blind: Some(0),
            canaries: keyvigil_common::canary::Canaries::default(),
        };
        let series = |item: usize| {
            let tags = Tags::new([("item", item.to_string())]).expect("valid");
            Series::new(super::judge::METRIC, MetricType::Gauge, tags).expect("valid")
        };
        Self {
            tls: identity.tls(&world.clock).expect("TLS"),
            address: identity.address,
            dialer,
            sender,
            epoch: random(),
            series: (0..SERIES).map(series).collect(),
            sealed: 0,
            queue: VecDeque::new(),
            courier: Courier::default(),
            connection: None,
            state,
            world,
        }
    }

    /// Works until it is stopped.
    pub(super) async fn run(mut self) {
        let stop = self.world.tasks.stop().clone();
        let _ = stop.or(self.work()).await;
    }

    async fn work(&mut self) {
        let (world, mut phase) = (Arc::clone(&self.world), self.world.phase.clone());
        let mut due = world.clock.monotonic() + world.every.mul_f64(random_u64() as f64 / u64::MAX as f64);
        loop {
            let (now, doing) = (world.clock.monotonic(), *phase.borrow_and_update());
            while due <= now {
                match doing {
                    Phase::Connect => self.greet().await,
                    Phase::Seal => self.seal(now.saturating_sub(due)),
                    Phase::Drain => {}
                }
                due += world.every;
            }
            let room = if self.queue.is_empty() { None } else { self.courier.may_send(Lane::Live, now) };
            if let Some(room) = room {
                self.round(room).await;
                continue;
            }
            let held = self.courier.held_until(now).filter(|_| !self.queue.is_empty());
            let until = held.map_or(due, |held| held.min(due));
            tokio::select! {
                () = world.clock.sleep(until.saturating_sub(now)) => {}
                _ = phase.changed() => {}
            }
        }
    }

    /// Connects and asks how it stands, as long as it has no connection.
    async fn greet(&mut self) {
        if self.connection.is_none()
            && let Ok(connection) = self.connected().await
            && connection.get("/v1/whoami").await.is_err()
        {
            self.connection = None;
        }
    }

    /// Seals the next batch: its event tells its number, its samples are of the period that ended
    /// this much earlier.
    fn seal(&mut self, late: Duration) {
        if self.queue.len() >= WAITING_MAX {
            return;
        }
        let late_ms = i64::try_from(late.as_millis()).unwrap_or(0);
        let (at_ms, step_ms) = (self.world.clock.now_ms() - late_ms, i64::try_from(self.world.every.as_millis()).unwrap_or(0) / STEPS as i64);
        self.sealed += 1;
        let seq = self.sealed;
        let times = (1..=STEPS as i64).map(|step| at_ms - (STEPS as i64 - step) * step_ms).collect();
        let values = |item: usize| (0..STEPS).map(|step| (seq as usize * STEPS + step + item) as f64).collect();
        let columns = (0..SERIES).map(|item| Column { series: item as u32, start_ms: 0, values: values(item) }).collect();
        let group = Group { sensor: "fleet".into(), interval_ms: u32::try_from(step_ms).unwrap_or(0), times, columns };
        let event = Event { kind: EventKind::Accessed, at_ms, key_id: None, path: None, actor: None, message: format!("fleet {seq}"), evidence: Vec::new() };
        let sealed = Some(Sealed { boot: self.sender.boot, boot_ms: self.boot_ms() - late_ms });
        let batch = Batch { sealed_ms: at_ms, series: self.series.clone(), groups: vec![group], events: vec![event], sealed, ..Batch::default() };
        self.queue.push_back(Waiting { seq, at_ms, frame: encode_batch(&batch).expect("it fits") });
        self.state.sealed.store(seq, Ordering::Release);
    }

    fn boot_ms(&self) -> i64 {
        i64::try_from(self.world.clock.since_boot().as_millis()).unwrap_or(i64::MAX)
    }

    /// Sends what waits, and does what the answer says.
    async fn round(&mut self, room: Room) {
        let was_connected = self.connection.is_some();
        match self.deliver(room).await {
            Ok(()) => {}
            Err(e) => {
                self.connection = None;
                self.world.tally.failed(match &e {
                    HttpError::Connect { .. } => "cannot connect",
                    HttpError::Handshake { .. } => "handshake failed",
                    HttpError::Timeout => "no answer in time",
                    HttpError::Http(_) | HttpError::Body(_) => "connection lost",
                });
                self.courier.cut_off(Lane::Live, was_connected, self.world.clock.monotonic(), random_u64());
            }
        }
    }

    async fn deliver(&mut self, room: Room) -> Result<(), HttpError> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for waiting in self.queue.iter().take(room.frames) {
            bytes += waiting.frame.len();
            if bytes > room.bytes && !frames.is_empty() {
                break;
            }
            frames.push((waiting.seq, waiting.frame.clone()));
        }
        let sender = Sender { boot_ms: self.boot_ms(), wall_ms: self.world.clock.now_ms(), ..self.sender };
        let push = Push { epoch: self.epoch, sender: Some(sender), frames, ..Push::default() };
        let (push, began) = (self.courier.pack(&push).expect("it fits"), self.world.clock.monotonic());
        let answer = self.connected().await?.push("live", push).await?;
        let (now, random) = (self.world.clock.monotonic(), random_u64());
        let took = now.saturating_sub(began);
        match Verdict::of(&answer, self.epoch) {
            Verdict::Acked(ack) => self.settle(&ack, took),
            Verdict::TooLarge(_) if self.courier.too_large(Lane::Live) => {}
            Verdict::Whole if self.courier.whole() => {}
            Verdict::Refused(refused) => {
                self.world.tally.failed(&format!("{} {}", answer.status.as_u16(), refused.code));
                self.courier.failed(Lane::Live, refused.holds, refused.retry_after, now, random);
            }
            // Nothing here gives a reason for these.
            odd => {
                self.world.tally.broken(format!("{}: {odd:?}", self.state.host));
                self.courier.failed(Lane::Live, Holds::All, Some(Duration::from_secs(60)), now, random);
            }
        }
        Ok(())
    }

    async fn connected(&mut self) -> Result<&mut Connection, HttpError> {
        if self.connection.as_ref().is_none_or(Connection::is_closed) {
            let opened = Connection::open(&self.dialer, &self.address, Arc::clone(&self.tls), &self.world.tasks).await;
            self.world.tally.connected(opened.is_ok());
            self.connection = None;
            self.connection = Some(opened?);
            self.state.connected.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.connection.as_mut().expect("it was opened"))
    }

    fn settle(&mut self, ack: &Ack, took: Duration) {
        let mut batches = 0;
        while self.queue.front().is_some_and(|waiting| waiting.seq <= ack.cursor) {
            let acked = self.queue.pop_front().expect("it is there");
            self.state.acked_sealed_ms.store(acked.at_ms, Ordering::Release);
            batches += 1;
        }
        self.state.acked.store(ack.cursor, Ordering::Release);
        self.world.tally.acked(took, batches);
        self.courier.acked(Lane::Live, took, ack);
    }
}
