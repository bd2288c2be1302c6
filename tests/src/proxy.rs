//! A way to the aggregator that fails as networks do: it is cut in one direction or both, slow, late, or resets what it
//! carries. A proxy in this process, so that no rights are needed; what it does is changed while it runs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Nothing passes; nothing is lost either, until the connection ends.
    pub cut: bool,
    /// Each piece comes this much later.
    pub late: Duration,
    /// At most so many bytes a second; 0 for any.
    pub bytes_per_second: u64,
}

/// What happens to all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// From the agent to the aggregator.
    pub there: Flow,
    /// From the aggregator to the agent.
    pub back: Flow,
    /// Each connection is reset after so many bytes of either direction; 0 for never.
    pub reset_after: u64,
    /// New connections are refused.
    pub refuse: bool,
}

/// The proxy; gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that came through it.
    pub connections: Arc<AtomicU64>,
    /// Bytes that it has handed to the aggregator.
    pub handed: Arc<AtomicU64>,
    /// Bytes of answers that came while none were let through.
    pub held: Arc<AtomicU64>,
    weather: watch::Sender<Weather>,
    target: Arc<Mutex<String>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `target` in fair weather.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (weather, seen) = watch::channel(Weather::default());
        let target = Arc::new(Mutex::new(target.to_owned()));
        let [connections, handed, held] = <[Arc<AtomicU64>; 3]>::default();
        let counted = [&connections, &handed, &held].map(Arc::clone);
        #[expect(clippy::disallowed_methods, reason = "it ends with the proxy")]
        let accepting = tokio::spawn(accept(listener, Arc::clone(&target), counted, seen));
        Self { address, connections, handed, held, weather, target, accepting }
    }

    /// The aggregator has moved.
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Changes the weather for connections that there are and that come.
    pub fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<Mutex<String>>, [connections, handed, held]: [Arc<AtomicU64>; 3], weather: watch::Receiver<Weather>) {
    while let Ok((inner, _)) = listener.accept().await {
        if weather.borrow().refuse {
            continue;
        }
        connections.fetch_add(1, Ordering::Relaxed);
        let (target, weather) = (target.lock().unwrap_or_else(PoisonError::into_inner).clone(), weather.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with its connection")]
        tokio::spawn(carry(inner, target, weather, [Arc::clone(&handed), Arc::clone(&held)]));
    }
}

async fn carry(inner: TcpStream, target: String, weather: watch::Receiver<Weather>, [handed, held]: [Arc<AtomicU64>; 2]) {
    let Ok(outer) = TcpStream::connect(target).await else { return };
    let ((from_agent, to_agent), (from_aggregator, to_aggregator)) = (inner.into_split(), outer.into_split());
    let [carried, nobody] = <[AtomicU64; 2]>::default();
    let there = pump(from_agent, to_aggregator, weather.clone(), |weather| weather.there, [&carried, &handed, &nobody]);
    let back = pump(from_aggregator, to_agent, weather, |weather| weather.back, [&carried, &nobody, &held]);
    // Whichever ends first ends the connection.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    of: impl Fn(&Weather) -> Flow,
    [carried, handed, held]: [&AtomicU64; 3],
) {
    let mut piece = vec![0u8; 4 << 10];
    while let Ok(length) = from.read(&mut piece).await {
        if length == 0 {
            return;
        }
        if of(&weather.borrow()).cut {
            held.fetch_add(length as u64, Ordering::Relaxed);
        }
        if weather.wait_for(|weather| !of(weather).cut).await.is_err() {
            return;
        }
        let (flow, reset_after) = {
            let now = weather.borrow();
            (of(&now), now.reset_after)
        };
        let paced = Duration::from_micros((length as u64 * 1_000_000).checked_div(flow.bytes_per_second).unwrap_or(0));
        tokio::time::sleep(flow.late + paced).await;
        let so_far = carried.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
        if (reset_after > 0 && so_far > reset_after) || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
        handed.fetch_add(length as u64, Ordering::Relaxed);
    }
}
