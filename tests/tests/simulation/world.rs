//! One world: an agent, an aggregator, a way between them, and a sequence of random numbers that decides what happens next. At
//! its end all faults are mended; then everything must drain, and the books must balance.

#![expect(clippy::print_stdout, reason = "a world that is repeated tells each step")]

use std::path::Path;
use std::time::Duration;

use keyvigil_agent::buffer::Lane;
use keyvigil_agent::http::Answer;
use keyvigil_agent::uplink::courier::Courier;
use keyvigil_agent::uplink::verdict::Verdict;
use keyvigil_common::clock::Clock;
use keyvigil_common::wire::Class;
use keyvigil_tests::random::Random;

use crate::agent::{Agent, Host};
use crate::aggregator::{Aggregator, Site};
use crate::disk::{BROKEN, FAIR, FULL, MISTAKEN};
use crate::judge::{Account, Tally};

const BEGIN_MS: i64 = 1_763_836_800_000;
/// Things that happen in a world.
const STEPS: usize = 200;
/// Rounds in which everything must have drained once all faults are mended.
const ROUNDS: usize = 3_000;
/// What a small buffer holds.
const SMALL_BYTES: u64 = 48 << 10;

struct World {
    random: Random,
    host: Host,
    site: Site,
    agent: Option<Agent>,
    aggregator: Option<Aggregator>,
    /// Requests that are long on their way.
    late: Vec<Vec<u8>>,
    /// Of ten requests so many get through.
    passes: usize,
    account: Account,
    next: u64,
    backup: Option<std::path::PathBuf>,
    tally: Tally,
    /// Each step is told.
    told: bool,
}

/// Lives one world of `seed` in `dir`; `told`: prints each step.
pub(crate) async fn live(seed: u64, dir: &Path, told: bool) -> Result<Tally, String> {
    // The lowest bit of a seed is not told from the one beside it.
    let mut random = Random::new(seed << 1);
    let bytes = if random.once_in(3) { SMALL_BYTES } else { 1 << 30 };
    let host = Host::new(dir, BEGIN_MS, bytes, &mut random);
    let site = Site::new(dir, BEGIN_MS);
    let mut world = World {
        random,
        host,
        site,
        agent: None,
        aggregator: None,
        late: Vec::new(),
        passes: 10,
        account: Account::default(),
        next: 1,
        backup: None,
        tally: Tally::default(),
        told,
    };
    for step in 0..STEPS {
        world.step(dir).await.map_err(|why| format!("step {step}: {why}"))?;
    }
    world.settle().await?;
    let mut account = std::mem::take(&mut world.account);
    world.aggregator.as_ref().ok_or("no aggregator")?.account(&mut account).await?;
    account.judge()?;
    world.tally.committed = account.committed.len() as u64;
    world.tally.lost = account.committed.iter().filter(|n| !account.events.contains_key(n)).count() as u64;
    Ok(world.tally)
}

impl World {
    async fn step(&mut self, dir: &Path) -> Result<(), String> {
        let by = Duration::from_millis(1 + self.random.below(3_000) as u64);
        self.pass(by);
        let what = self.random.below(100);
        if self.told {
            let level = self.agent.as_ref().map(|agent| agent.queue.level());
            println!("{what:2} next {} passes {} {level:?}", self.next, self.passes);
        }
        match what {
            0..=44 => self.commit()?,
            45..=79 => self.deliver().await?,
            80..=83 => self.deliver_late().await,
            84..=85 => {
                let by = Duration::from_secs(30 + self.random.below(300) as u64);
                self.pass(by);
            }
            86..=87 => self.passes = *self.random.pick(&[0, 0, 3, 7, 10, 10, 10]),
            88 => self.set_clock(),
            89..=90 => self.restart()?,
            91 => self.power_cut()?,
            92 => self.die_in_doubt().await?,
            93 => self.sicken(),
            94..=95 => self.kill_aggregator().await?,
            96 => self.chores().await?,
            97 => self.forget(),
            98 => self.keep_a_backup(dir),
            _ => self.put_back().await?,
        }
        Ok(())
    }

    fn pass(&mut self, by: Duration) {
        self.host.clock.advance(by);
        self.site.clock.advance(by);
    }

    fn agent(&mut self) -> Result<&mut Agent, String> {
        if self.agent.is_none() {
            self.agent = Some(self.host.start(&mut self.random).map_err(|e| format!("the agent does not start: {e}"))?);
        }
        self.agent.as_mut().ok_or_else(|| "no agent".into())
    }

    async fn aggregator(&mut self) -> Result<&Aggregator, String> {
        if self.aggregator.is_none() {
            self.aggregator = Some(self.site.start(&mut self.random).await.map_err(|e| format!("the aggregator does not start: {e}"))?);
        }
        self.aggregator.as_ref().ok_or_else(|| "no aggregator".into())
    }

    fn commit(&mut self) -> Result<(), String> {
        let (n, now_ms) = (self.next, self.host.clock.now_ms());
        let class = *self.random.pick(&[Class::Security, Class::Key, Class::Sample, Class::Sample, Class::Sample, Class::Detail]);
        self.next += 1;
        self.account.attempted.insert(n);
        // What is lost for good must be told, never kept quiet: even a disk that fails takes nothing away.
        self.agent()?.send(n, class, now_ms).map_err(|e| format!("{n} was not taken: {e}"))?;
        self.account.committed.insert(n);
        Ok(())
    }

    async fn deliver(&mut self) -> Result<(), String> {
        for lane in Courier::TURNS {
            let (now, now_ms) = (self.host.clock.monotonic(), self.host.clock.now_ms());
            let pushed = self.agent()?.push(lane, now, now_ms).map_err(|e| format!("nothing to send: {e}"))?;
            let Some((epoch, body)) = pushed else { continue };
            let answer = self.carry(body).await?;
            if self.told {
                println!("   {lane:?} of {}: {:?}", epoch[0], answer.as_ref().map(|answer| Verdict::of(answer, epoch)));
            }
            self.hear(lane, epoch, answer.as_ref())?;
        }
        Ok(())
    }

    /// Brings a request to the aggregator and the answer back, as far as the way allows.
    async fn carry(&mut self, body: Vec<u8>) -> Result<Option<Answer>, String> {
        let good = self.random.below(10) < self.passes;
        if !good && self.random.once_in(3) {
            self.late.push(body);
            return Ok(None);
        }
        if !good && self.random.once_in(2) {
            return Ok(None);
        }
        let answer = self.aggregator().await?.take(&body).await;
        self.tally.differences += u64::from(body.starts_with(b"KVD"));
        if answer.code().as_deref() == Some("base") {
            self.tally.whole += 1;
        } else if !answer.status.is_success() {
            self.tally.refused += 1;
        }
        if self.random.once_in(20) {
            self.late.push(body);
        }
        if !good {
            self.tally.unheard += 1;
            return Ok(None);
        }
        Ok(Some(answer))
    }

    fn hear(&mut self, lane: Lane, epoch: [u8; 16], answer: Option<&Answer>) -> Result<(), String> {
        let (clock, random) = (std::sync::Arc::clone(&self.host.clock), self.random.number());
        self.agent()?.hear(lane, epoch, answer, &clock, random).map_err(|e| format!("an answer is not taken: {e}"))
    }

    async fn deliver_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.random.below(self.late.len());
        let body = if self.random.once_in(3) { self.late[at].clone() } else { self.late.swap_remove(at) };
        if let Ok(aggregator) = self.aggregator().await {
            aggregator.take(&body).await;
        }
        self.tally.replayed += 1;
    }

    fn set_clock(&mut self) {
        const HOUR: i64 = 3_600_000;
        let by = *self.random.pick(&[HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 400 * 24 * HOUR, -20 * 365 * 24 * HOUR]);
        // One fault at a time; then it is set right again.
        let off = self.host.clock.now_ms() - self.site.clock.now_ms();
        self.host.clock.step_wall_ms(if off.abs() > HOUR / 2 { -off } else { by });
        self.tally.clocks += 1;
    }

    fn restart(&mut self) -> Result<(), String> {
        let now_ms = self.host.clock.now_ms();
        if let Some(mut agent) = self.agent.take() {
            agent.mood(FAIR);
            agent.queue.close(now_ms).map_err(|e| format!("it does not close: {e}"))?;
            if agent.queue.level().degraded.is_some() {
                return Err(format!("the disk is well again, and not used: {:?}", agent.queue.level()));
            }
        }
        Ok(())
    }

    /// The agent does something, and in the middle of it the power goes.
    fn power_cut(&mut self) -> Result<(), String> {
        let (n, now_ms) = (self.next, self.host.clock.now_ms());
        self.agent()?.disk.take();
        self.account.attempted.insert(n);
        self.next += 1;
        let agent = self.agent()?;
        let in_memory = agent.queue.level().degraded.is_some();
        // Whatever comes of it, nobody hears of it.
        let _ = agent.send(n, Class::Sample, now_ms);
        let crashes = agent.disk.take();
        if crashes.is_empty() {
            // The moment was missed: then it is committed, since memory or disk took it.
            self.account.committed.insert(n);
            return Ok(());
        }
        if in_memory || agent.queue.level().degraded.is_some() {
            // What only memory holds dies with the process, as it says it will.
            self.account.committed.insert(n);
            return Ok(());
        }
        let at = self.random.below(crashes.len());
        if let Some(agent) = self.agent.take() {
            agent.die(&self.host, &crashes[at], &mut self.random);
        }
        self.host.boot(now_ms, &mut self.random);
        self.tally.crashes += 1;
        Ok(())
    }

    /// A commit fails, whether it reached the disk or not; memory delivers, and the agent dies before the disk is well.
    async fn die_in_doubt(&mut self) -> Result<(), String> {
        if self.agent()?.queue.level().degraded.is_some() {
            return Ok(());
        }
        let mood = *self.random.pick(&[MISTAKEN, MISTAKEN, BROKEN]);
        self.agent()?.mood(mood);
        for _ in 0..1 + self.random.below(5) {
            let now_ms = self.host.clock.now_ms();
            let n = self.next;
            self.next += 1;
            self.account.attempted.insert(n);
            self.agent()?.send(n, Class::Sample, now_ms).map_err(|e| format!("{n} was not taken: {e}"))?;
            if self.agent()?.queue.level().degraded.is_none() {
                self.account.committed.insert(n);
            }
            for _ in 0..self.random.below(3) {
                self.deliver().await?;
            }
            let by = Duration::from_millis(1 + self.random.below(20_000) as u64);
            self.pass(by);
        }
        let now_ms = self.host.clock.now_ms();
        if let Some(agent) = self.agent.take_if(|agent| agent.queue.level().degraded.is_some()) {
            let at = agent.disk.crash();
            agent.die(&self.host, &at, &mut self.random);
            self.host.boot(now_ms, &mut self.random);
            self.tally.doubts += 1;
        }
        Ok(())
    }

    fn sicken(&mut self) {
        let mood = *self.random.pick(&[FAIR, FULL, BROKEN]);
        if let Some(agent) = &self.agent {
            agent.mood(mood);
            self.tally.away += u64::from(mood != FAIR);
        }
    }

    /// The aggregator takes a push, and in the middle of it the power goes.
    async fn kill_aggregator(&mut self) -> Result<(), String> {
        self.aggregator().await?.disk.take();
        let (now, now_ms) = (self.host.clock.monotonic(), self.host.clock.now_ms());
        let pushed = self.agent()?.push(Lane::Live, now, now_ms).map_err(|e| format!("nothing to send: {e}"))?;
        if let Some((epoch, body)) = pushed {
            self.aggregator().await?.take(&body).await;
            self.hear(Lane::Live, epoch, None)?;
        } else {
            self.aggregator().await?.flush().await.map_err(|e| format!("the flush: {e}"))?;
        }
        let crashes = self.aggregator().await?.disk.take();
        let Some(at) = (!crashes.is_empty()).then(|| self.random.below(crashes.len())) else { return Ok(()) };
        if let Some(aggregator) = self.aggregator.take() {
            aggregator.die(&self.site, &crashes[at], &mut self.random);
        }
        self.tally.server_crashes += 1;
        Ok(())
    }

    async fn chores(&mut self) -> Result<(), String> {
        self.aggregator().await?.flush().await.map_err(|e| format!("the flush: {e}"))
    }

    /// The aggregator forgets what agents tell differences to.
    fn forget(&mut self) {
        if let Some(aggregator) = &self.aggregator {
            aggregator.forget_bases();
            self.tally.forgotten += 1;
        }
    }

    fn keep_a_backup(&mut self, dir: &Path) {
        self.aggregator = None;
        let to = dir.join("backup");
        if self.site.dir.join("main.db").exists() {
            let _ = std::fs::remove_dir_all(&to);
            copy(&self.site.dir, &to);
            self.backup = Some(to);
        }
    }

    /// The aggregator's storage goes back to what it was.
    async fn put_back(&mut self) -> Result<(), String> {
        let Some(backup) = self.backup.clone() else { return Ok(()) };
        self.aggregator = None;
        std::fs::remove_dir_all(&self.site.dir).map_err(|e| e.to_string())?;
        copy(&backup, &self.site.dir);
        self.tally.restores += 1;
        Ok(())
    }

    /// Mends everything and waits until nothing is left to deliver, a fresh batch included.
    async fn settle(&mut self) -> Result<(), String> {
        self.passes = 10;
        self.late.clear();
        let off = self.host.clock.now_ms() - self.site.clock.now_ms();
        self.host.clock.step_wall_ms(-off);
        self.agent()?.mood(FAIR);
        self.pass(Duration::from_secs(700));
        self.commit()?;
        let mut told = 0;
        for _ in 0..ROUNDS {
            self.deliver().await?;
            let now = self.host.clock.monotonic();
            let agent = self.agent()?;
            let (level, held) = (agent.queue.level(), agent.held(now));
            self.pass(held.unwrap_or(Duration::from_secs(1)));
            if level.batches > 0 || level.degraded.is_some() {
                continue;
            }
            // Losses that no batch has told of yet go with one more.
            let now_ms = self.host.clock.now_ms();
            if self.agent()?.queue.gaps(now_ms).map_err(|e| e.to_string())?.is_empty() {
                return Ok(());
            }
            told += 1;
            if told > 20 {
                return Err("losses are told again and again".into());
            }
            self.commit()?;
        }
        let level = self.agent()?.queue.level();
        Err(format!("after {ROUNDS} rounds in fair weather it is not drained: {level:?}"))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
