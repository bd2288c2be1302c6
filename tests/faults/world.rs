//! What experiments on disks share: an aggregator as a process, a way to it that can be closed, and senders as processes of
//! their own whose state lies on a disk that is to fail. The side log lies elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::Ordering;

use keyvigil_agent::enroll;
use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::token::JoinToken;
use keyvigil_tests::harness::{in_full, until};
use keyvigil_tests::oracle::{Issued, SideLog, Stored};
use keyvigil_tests::process::{Aggregator, program};
use keyvigil_tests::proxy::{Flow, Proxy, Weather};
use tempfile::TempDir;

/// `quick`, or `full` where the matrix is wanted as it is written.
pub(crate) fn sized(quick: u64, full: u64) -> u64 {
    if in_full() { full } else { quick }
}

/// A seed, printed: `SEED` gives it again.
pub(crate) fn seed(id: &str) -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(keyvigil_common::backoff::random_u64);
    println!("{id} seed {seed}");
    seed
}

/// An aggregator, the way to it, and a host that has joined.
pub(crate) struct World {
    id: &'static str,
    /// Instant of number 0.
    pub(crate) base_ms: i64,
    /// State of the sender.
    pub(crate) state: PathBuf,
    pub(crate) aggregator: Aggregator,
    proxy: Proxy,
    dir: TempDir,
}

impl World {
    /// One whose sender has its state in a plain directory.
    pub(crate) async fn plain(id: &'static str) -> Self {
        Self::build(id, None).await
    }

    /// One whose sender has its state in `state`.
    pub(crate) async fn on(id: &'static str, state: &Path) -> Self {
        Self::build(id, Some(state.to_owned())).await
    }

    async fn build(id: &'static str, state: Option<PathBuf>) -> Self {
        keyvigil_common::tls::install_provider();
        let dir = tempfile::tempdir().expect("a directory");
        let state = state.unwrap_or_else(|| dir.path().join("state"));
        std::fs::create_dir_all(&state).expect("a directory");
        let log = std::fs::File::create(dir.path().join("aggregator.log")).expect("a file");
        let aggregator = Aggregator::start_logging(&dir.path().join("aggregator"), &[], log);
        let proxy = Proxy::to(&aggregator.ingest_address()).await;
        let world = Self { id, base_ms: SystemClock::shared().now_ms() - 86_400_000, state, aggregator, proxy, dir };
        let token = world.token().await;
        let root = RootFs::new(&world.state);
        enroll::join(&token, &world.state, &root, "sender", &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
        world
    }

    /// A token that leads by the way that can be closed.
    pub(crate) async fn token(&self) -> JoinToken {
        let token = self.aggregator.client().create_token(1, "5m").await.expect("a token");
        let token: JoinToken = token["token"].as_str().expect("text").parse().expect("a token");
        JoinToken { address: self.proxy.address.to_string(), ..token }
    }

    /// A place on a disk that no fault touches.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Nobody reaches the aggregator any more who has not reached it yet.
    pub(crate) fn go_away(&self) {
        self.proxy.turn(Weather { refuse: true, ..Weather::default() });
    }

    /// What the aggregator answers does not arrive any more; waits until it has answered.
    pub(crate) async fn withhold(&self) {
        let held = || self.proxy.held.load(Ordering::Relaxed);
        let before = held();
        self.proxy.turn(Weather { back: Flow { cut: true, ..Flow::default() }, ..Weather::default() });
        until("an answer is held back", || std::future::ready((held() > before).then_some(()))).await;
    }

    pub(crate) fn come_back(&self) {
        self.proxy.turn(Weather::default());
    }

    pub(crate) fn issued(&self) -> Issued {
        SideLog::read(&self.beside("log"))
    }

    /// Bytes that waited and why the buffer was in memory, each time that it was noted.
    pub(crate) fn levels(&self) -> Vec<(u64, Option<String>)> {
        SideLog::levels(&self.beside("log"))
    }

    /// The command of a sender.
    pub(crate) fn command(&self) -> Vec<String> {
        let words = [program("fault-sender"), "--dir".into(), self.state.clone(), "--log".into(), self.beside("log"), "--base-ms".into()];
        let words = words.map(|word| word.to_str().expect("UTF-8").to_owned());
        words.into_iter().chain([self.base_ms.to_string()]).collect()
    }

    /// Starts a sender.
    pub(crate) fn sender(&self, args: &str) -> Process {
        self.sender_under("", args)
    }

    /// Starts a sender by another command.
    pub(crate) fn sender_under(&self, wrapper: &str, args: &str) -> Process {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Process::start(&[words(wrapper), self.command(), words(args)].concat())
    }

    /// Waits until `count` more numbers are committed than now.
    pub(crate) async fn commits(&self, count: usize, sender: &mut Process) {
        let least = self.issued().committed.len() + count;
        until("numbers are committed", || {
            assert!(sender.runs(), "{}: the sender has ended", self.id);
            let enough = self.issued().committed.len() >= least;
            async move { enough.then_some(()) }
        })
        .await;
    }

    /// Fresh numbers are committed and all is delivered: the sender ends by itself then.
    pub(crate) async fn settle(&self, count: u64) {
        let mut sender = self.sender(&format!("--count {count} --every-ms 20 --drain"));
        until("all is delivered", || {
            let ended = !sender.runs();
            async move { ended.then_some(()) }
        })
        .await;
    }

    /// What is stored now.
    pub(crate) async fn stored(&self) -> Stored {
        Stored::ask(&self.aggregator.client(), "sender", self.base_ms).await.expect("an answer")
    }

    /// Judges, and prints the line that the documentation quotes.
    pub(crate) async fn judge(&self, what: &str) -> Stored {
        let stored = self.stored().await;
        let said = stored.judge(&self.issued()).unwrap_or_else(|broken| panic!("{} {what}: {broken}", self.id));
        println!("{} {what}: {said}", self.id);
        stored
    }
}

/// A process, gone when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    pub(crate) fn start(words: &[String]) -> Self {
        let mut command = Command::new(&words[0]);
        let mut child = command.args(&words[1..]).stdin(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{}: {e}", words[0]));
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// kill -9; it is gone after that.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        until("it ends", || {
            let ended = !self.runs();
            async move { ended.then_some(()) }
        })
        .await;
    }

    /// A line of `/proc/PID/status`, as a number.
    pub(crate) fn status(&self, name: &str) -> u64 {
        status(self.pid(), name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of `/proc/PID/status`, as a number.
pub(crate) fn status(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("such a line");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

/// CPU time of a process, in clock ticks of 10 ms.
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after = text.rsplit(')').next().expect("a name in brackets");
    after.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().expect("a number")).sum()
}
