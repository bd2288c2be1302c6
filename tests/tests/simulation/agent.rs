//! The agent without its tasks: its queue on a disk that fails, its courier, and who it is. What `uplink` does with an answer
//! is done here in the same order, without waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyvigil_agent::buffer::{Bounds, BufferError, Front, Lane, New, Place, Queue};
use keyvigil_agent::http::Answer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::sender::Itself;
use keyvigil_agent::uplink::courier::Courier;
use keyvigil_agent::uplink::verdict::Verdict;
use keyvigil_common::canary::Canaries;
use keyvigil_common::clock::{Clock, ManualClock};
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::wire::{Batch, Class, Column, Group, Push, encode_batch};
use keyvigil_tests::random::Random;

use crate::disk::{Crash, Disk};
use crate::judge::ITEMS;
use crate::vfs::{self, Attached};
use crate::work::Witness;

/// Epoch and body of a push.
type Pushed = ([u8; 16], Vec<u8>);

/// An agent that lives.
pub(crate) struct Agent {
    pub(crate) queue: Queue,
    pub(crate) courier: Courier,
    pub(crate) disk: Arc<Disk<Witness>>,
    itself: Itself,
    _attached: Attached,
}

/// What outlives an agent.
pub(crate) struct Host {
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    key: PathBuf,
    bounds: Bounds,
    root: PathBuf,
}

impl Host {
    pub(crate) fn new(dir: &Path, now_ms: i64, bytes: u64, random: &mut Random) -> Self {
        let (state, root) = (dir.join("agent"), dir.join("root"));
        std::fs::create_dir_all(&state).expect("a directory");
        std::fs::create_dir_all(root.join("proc/sys/kernel/random")).expect("a directory");
        let bounds = Bounds { bytes, age_ms: i64::MAX / 4, min_free_bytes: 1 };
        let mut host = Self { dir: state, clock: ManualClock::at(now_ms), key: dir.join("buffer.key"), bounds, root };
        host.boot(now_ms, random);
        host
    }

    /// The host is started anew; its wall clock shows `now_ms`.
    pub(crate) fn boot(&mut self, now_ms: i64, random: &mut Random) {
        let id = format!("{:016x}{:016x}\n", random.number(), random.number());
        std::fs::write(self.root.join("proc/sys/kernel/random/boot_id"), id).expect("a file");
        self.clock = ManualClock::at(now_ms);
    }

    /// The agent is started.
    pub(crate) fn start(&self, random: &mut Random) -> Result<Agent, BufferError> {
        let disk = Arc::new(Disk::new(&self.dir, random.split(), || Witness));
        let attached = vfs::attach(&disk);
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let place = Place { path: self.dir.join("buffer.db"), vfs: None, origin: "one host".into(), clock: clock.clone() };
        let master = MasterKey::load_or_create(&self.key).expect("a key");
        let queue = Queue::open(place, master, self.bounds, self.clock.now_ms())?;
        let itself = Itself::starting(&RootFs::new(&self.root), &self.dir, clock);
        Ok(Agent { queue, courier: Courier::default(), disk, itself, _attached: attached })
    }
}

impl Agent {
    /// Dies, and leaves on its disk what a crash at `at` left. The agent's directory stays the same one.
    pub(crate) fn die(self, host: &Host, at: &Crash<Witness>, random: &mut Random) {
        let Self { queue, disk, _attached, .. } = self;
        drop((queue, _attached));
        crash(&disk, &host.dir, at, random);
    }

    /// Commits batch `n`, and tells of losses.
    pub(crate) fn send(&mut self, n: u64, class: Class, now_ms: i64) -> Result<(), BufferError> {
        let (told, gaps) = self.queue.gaps(now_ms)?.into_iter().unzip();
        let series = Series::new("simulated.value", MetricType::Gauge, Tags::new([("n", n.to_string())]).expect("valid")).expect("valid");
        let column = Column { series: 0, start_ms: 0, values: vec![n as f64] };
        let event = Event { kind: EventKind::Accessed, at_ms: now_ms, key_id: None, path: None, actor: None, message: n.to_string(), evidence: Vec::new() };
        let batch = Batch {
            sealed_ms: now_ms,
            series: vec![series],
            groups: vec![Group { sensor: "simulated".into(), interval_ms: 1_000, times: vec![now_ms], columns: vec![column] }],
            events: vec![event],
            gaps,
            sealed: Some(self.itself.sealed()),
            ..Batch::default()
        };
        let frame = encode_batch(&batch).expect("it fits");
        self.queue.append(vec![New { class, items: ITEMS, at_ms: now_ms, frame, told }], Vec::new(), Vec::new(), now_ms).map(drop)
    }

    /// The next push of a lane that may send.
    pub(crate) fn push(&mut self, lane: Lane, now: Duration, now_ms: i64) -> Result<Option<Pushed>, BufferError> {
        let Some(room) = self.courier.may_send(lane, now) else { return Ok(None) };
        let Some(Front { epoch, dropped, waiting, frames }) = self.queue.front(lane, room, now_ms)? else { return Ok(None) };
        let push = Push { epoch, sender: Some(self.itself.sender([0; 32], None, Canaries::default())), dropped, waiting, frames };
        Ok(Some((epoch, self.courier.pack(&push).expect("it fits"))))
    }

    /// Does what an answer asks for; `None`: none came.
    pub(crate) fn hear(&mut self, lane: Lane, epoch: [u8; 16], answer: Option<&Answer>, clock: &ManualClock, random: u64) -> Result<(), BufferError> {
        let (now, now_ms) = (clock.monotonic(), clock.now_ms());
        let Some(answer) = answer else {
            self.courier.cut_off(lane, true, now, random);
            return Ok(());
        };
        match Verdict::of(answer, epoch) {
            Verdict::Acked(mut ack) => {
                self.queue.acked(ack.epoch, ack.cursor, std::mem::take(&mut ack.beyond), now_ms)?;
                if let Some(others) = ack.others.take() {
                    self.queue.elsewhere(ack.epoch, others, now_ms)?;
                }
                self.courier.acked(lane, Duration::ZERO, &ack);
            }
            Verdict::Missing(expected) => self.queue.missing(epoch, expected, now_ms)?,
            Verdict::Forked(seq) => self.queue.forked(epoch, seq, now_ms)?,
            Verdict::Whole => drop(self.courier.whole()),
            Verdict::Never { seq, why } => {
                self.queue.set_aside(epoch, seq, why, now_ms)?;
            }
            Verdict::TooLarge(_) => drop(self.courier.too_large(lane)),
            Verdict::Refused(refused) => drop(self.courier.failed(lane, refused.holds, refused.retry_after, now, random)),
        }
        Ok(())
    }

    /// How long nothing may be sent.
    pub(crate) fn held(&self, now: Duration) -> Option<Duration> {
        self.courier.held_until(now).map(|until| until - now)
    }

    pub(crate) fn mood(&self, mood: u8) {
        self.disk.mood.store(mood, Ordering::Relaxed);
    }
}

/// Puts into `dir` what `disk` held at a crash, and nothing else.
pub(crate) fn crash(disk: &Disk<Witness>, dir: &Path, at: &Crash<Witness>, random: &mut Random) {
    for file in walk(dir) {
        // Emptied, not removed: the buffer knows its file again by its place on the disk.
        std::fs::File::create(&file).expect("a file");
    }
    disk.image(at, random.split(), dir);
    for file in walk(dir) {
        if std::fs::metadata(&file).is_ok_and(|meta| meta.len() == 0) {
            std::fs::remove_file(&file).expect("it was ours");
        }
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() { files.extend(walk(&entry)) } else { files.push(entry) }
    }
    files
}
