//! A link that fails by a seed: connections that are refused, or break after some bytes in either direction, so that
//! requests are cut and acks are lost. The same seed fails the same way.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use keyvigil_agent::http::{Dialer, Stream};
use keyvigil_common::clock::{Clock, SharedClock, Sleep};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The system's clock, on which waiting goes twenty times as fast: what backs off for minutes on a link that fails again and
/// again is through in seconds, and tries as often.
#[derive(Debug)]
pub struct Hasty(pub SharedClock);

const HASTE: u32 = 20;

impl Clock for Hasty {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() * HASTE
    }

    fn since_boot(&self) -> Duration {
        self.0.since_boot()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration / HASTE)
    }
}

/// Where the faults come from.
#[derive(Debug, Clone)]
pub struct Link {
    random: Arc<Mutex<u64>>,
    address: Arc<Mutex<String>>,
    whole: Arc<AtomicBool>,
    /// Connections that were refused or broken.
    pub faults: Arc<AtomicU64>,
}

impl Link {
    /// A link to `address` that fails by `seed`.
    #[must_use]
    pub fn new(seed: u64, address: &str) -> Self {
        Self { random: Arc::new(Mutex::new(seed | 1)), address: Arc::new(Mutex::new(address.to_owned())), whole: Arc::default(), faults: Arc::default() }
    }

    /// The other end has moved.
    pub fn lead_to(&self, address: &str) {
        address.clone_into(&mut self.address.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    /// xorshift64: the same numbers for the same seed.
    #[must_use]
    pub fn random(&self) -> u64 {
        let mut state = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// The dialer of an agent on this link.
    #[must_use]
    pub fn dialer(&self) -> Dialer {
        let this = self.clone();
        Dialer::new(move |_| {
            let this = this.clone();
            async move { this.connect().await }
        })
    }

    async fn connect(self) -> io::Result<Box<dyn Stream>> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.whole.load(Ordering::Relaxed) {
            return Ok(Box::new(TcpStream::connect(address).await?));
        }
        let fate = self.random();
        if fate.is_multiple_of(5) {
            self.faults.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        // A handshake takes some 2 kB each way; beyond it a request or its ack is hit.
        let (up, down) = (1_000 + self.random() % 60_000, 1_000 + self.random() % 6_000);
        Ok(Box::new(Frail { inner: TcpStream::connect(address).await?, up, down, link: self }))
    }
}

/// A stream with so many bytes left in each direction.
struct Frail {
    inner: TcpStream,
    up: u64,
    down: u64,
    link: Link,
}

impl Frail {
    fn broken(&self) -> io::Error {
        self.link.faults.fetch_add(1, Ordering::Relaxed);
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Frail {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.down == 0 {
            return Poll::Ready(Err(self.broken()));
        }
        let before = buf.filled().len();
        let ready = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.down = self.down.saturating_sub((buf.filled().len() - before) as u64);
        ready
    }
}

impl AsyncWrite for Frail {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.up == 0 {
            return Poll::Ready(Err(self.broken()));
        }
        let most = usize::try_from(self.up).unwrap_or(usize::MAX).min(bytes.len());
        let ready = Pin::new(&mut self.inner).poll_write(cx, &bytes[..most]);
        if let Poll::Ready(Ok(n)) = &ready {
            self.up -= *n as u64;
        }
        ready
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
