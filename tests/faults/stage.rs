//! What the experiments share: an aggregator as a process that can be killed, a sender in this process, and the way between
//! them. Numbers are committed here and judged here.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use keyvigil_agent::http::{Dialer, Stream};
use keyvigil_common::client::Client;
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_tests::harness::until;
use keyvigil_tests::link::Hasty;
use keyvigil_tests::oracle::{Issued, Stored};
use keyvigil_tests::process::Aggregator;
use keyvigil_tests::proxy::{Proxy, Weather};
use keyvigil_tests::sender::{self, Options, Sender};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Name of the host.
pub(crate) const HOST: &str = "sender";
/// Refusals are what the experiments are about.
pub(crate) const QUIET: &[(&str, &str)] = &[("LOG_LEVEL", "error")];

/// Commits a number with `sender`, and writes it down.
pub(crate) async fn commit(sender: &Sender, issued: &mut Issued, n: u64) {
    issued.attempted.insert(n);
    sender.send(n).await.expect("committed");
    issued.committed.insert(n);
}

/// Waits until nothing waits in the sender any more.
pub(crate) async fn drained(sender: &Sender) {
    until("everything is acknowledged", || async { sender.is_drained().then_some(()) }).await;
}

/// A number of the sender's own.
pub(crate) fn own(sender: &Sender, name: &str) -> u64 {
    sender.registry.all().iter().find(|number| number.metric_id == format!("keyvigil.agent.{name}")).map_or(0, |number| number.value.get())
}

/// Judges what `host` has stored, and prints the line that the documentation quotes.
#[expect(clippy::print_stdout, reason = "what an experiment found")]
pub(crate) async fn judge(id: &str, client: &Client, host: &str, base_ms: i64, issued: &Issued) -> Stored {
    let stored = Stored::ask(client, host, base_ms).await.expect("an answer");
    println!("{id}: {}", stored.judge(issued).unwrap_or_else(|broken| panic!("{id}: {broken}")));
    stored
}

/// See [`Stage::bulky`].
pub(crate) const BULK_BYTES: u64 = 256;

/// An aggregator, a sender, and what lies between.
pub(crate) struct Stage {
    dir: TempDir,
    aggregator: Option<Aggregator>,
    pub(crate) proxy: Proxy,
    pub(crate) wire: Wire,
    pub(crate) base_ms: i64,
    pub(crate) issued: Issued,
    sender: Option<Sender>,
}

impl Stage {
    /// An aggregator and a sender that has joined, whose waits are short.
    pub(crate) async fn hasty() -> Self {
        Self::with(Arc::new(Hasty(SystemClock::shared())), |_| {}).await
    }

    /// The same with batches that stay large on the wire, at least [`BULK_BYTES`] each, so that a push can be met on its way.
    pub(crate) async fn bulky() -> Self {
        Self::with(Arc::new(Hasty(SystemClock::shared())), |options| options.padding = 2 * BULK_BYTES as usize).await
    }

    /// The same with another clock and other options.
    pub(crate) async fn with(clock: SharedClock, change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let aggregator = Aggregator::start(&dir.path().join("aggregator"), QUIET);
        let proxy = Proxy::to(&aggregator.ingest_address()).await;
        sender::join(&aggregator.client(), &dir.path().join("agent"), HOST).await;
        let (base_ms, wire) = (clock.now_ms() - 3_600_000, Wire::to(&proxy.address.to_string()));
        let mut options = Options { clock, dialer: wire.dialer(), ..Options::of(&dir.path().join("agent"), base_ms) };
        change(&mut options);
        let sender = Some(Sender::start(options));
        Self { dir, aggregator: Some(aggregator), proxy, wire, base_ms, issued: Issued::default(), sender }
    }

    /// A path that no fault touches.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn aggregator(&self) -> &Aggregator {
        self.aggregator.as_ref().expect("it runs")
    }

    pub(crate) fn client(&self) -> Client {
        self.aggregator().client()
    }

    pub(crate) fn sender(&self) -> &Sender {
        self.sender.as_ref().expect("it runs")
    }

    /// Commits the next `count` numbers.
    pub(crate) async fn commit(&mut self, count: u64) {
        let next = self.issued.attempted.last().map_or(1, |last| last + 1);
        for n in next..next + count {
            commit(self.sender.as_ref().expect("it runs"), &mut self.issued, n).await;
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.aggregator.take().expect("it runs").kill();
    }

    /// Starts the aggregator on the directory `name`.
    pub(crate) fn start_on(&mut self, dir: &Path) {
        let aggregator = Aggregator::start(dir, QUIET);
        self.proxy.lead_to(&aggregator.ingest_address());
        self.aggregator = Some(aggregator);
    }

    /// Starts the aggregator where it was.
    pub(crate) fn start(&mut self) {
        self.start_on(&self.path("aggregator"));
    }

    /// Ends the sender.
    pub(crate) async fn stop_sender(&mut self) {
        self.sender.take().expect("it runs").stop().await;
    }

    /// Starts the sender again.
    pub(crate) fn start_sender(&mut self) {
        let clock: SharedClock = Arc::new(Hasty(SystemClock::shared()));
        self.sender = Some(Sender::start(Options { clock, dialer: self.wire.dialer(), ..Options::of(&self.path("agent"), self.base_ms) }));
    }

    /// Breaks every connection as soon as it carries another byte, until it is fair again.
    pub(crate) fn reset(&self) {
        self.proxy.turn(Weather { reset_after: 1, ..Weather::default() });
    }

    pub(crate) fn fair(&self) {
        self.proxy.turn(Weather::default());
    }

    /// The faults are over: all is delivered, and judged.
    pub(crate) async fn judge(&self, id: &str) -> Stored {
        self.fair();
        drained(self.sender()).await;
        judge(id, &self.client(), HOST, self.base_ms, &self.issued).await
    }
}

/// The sender's end of the way: counts connections, when they were opened, and what is sent on one that another has followed.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    address: Arc<Mutex<String>>,
    opened: Arc<Mutex<Vec<Duration>>>,
    newest: Arc<AtomicU64>,
    strays: Arc<AtomicU64>,
    clock: SharedClock,
}

/// More than an alert that ends a connection.
const A_REQUEST: usize = 64;

impl Wire {
    pub(crate) fn to(address: &str) -> Self {
        let address = Arc::new(Mutex::new(address.to_owned()));
        Self { address, opened: Arc::default(), newest: Arc::default(), strays: Arc::default(), clock: SystemClock::shared() }
    }

    pub(crate) fn dialer(&self) -> Dialer {
        let this = self.clone();
        Dialer::new(move |_| this.clone().connect())
    }

    async fn connect(self) -> io::Result<Box<dyn Stream>> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).push(self.clock.monotonic());
        let inner = TcpStream::connect(address).await?;
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Box::new(Counted { inner, number, wire: self }))
    }

    /// Waits between one connection and the next.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Requests that went out on a connection while there was a newer one.
    pub(crate) fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }
}

struct Counted {
    inner: TcpStream,
    number: u64,
    wire: Wire,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() > A_REQUEST && self.wire.newest.load(Ordering::Relaxed) > self.number {
            self.wire.strays.fetch_add(1, Ordering::Relaxed);
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
