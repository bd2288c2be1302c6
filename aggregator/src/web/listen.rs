//! The accept loop of every listener: connections are counted and bounded, handshakes and headers have time-outs, and at
//! the end open requests are finished. TLS configurations are read per connection, so that a renewed certificate or trust
//! takes hold at once. Knows no route.

mod handshakes;
mod shortage;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::body::Incoming;
use hyper::{Request, service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use keyvigil_common::backoff::random_u64;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::limits::CONNECTIONS_MAX;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::Registry;
use keyvigil_common::tls::Shown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use handshakes::Handshakes;
use shortage::Shortage;

/// As long as agents wait for one: what is cut off sooner was worked on in vain, and comes again.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head, and the wait for it: hyper counts both as one.
const HEADERS: Duration = Duration::from_secs(10);
/// The same where a certificate was shown: an agent that pushes every 10 s or every minute keeps its connection, a handshake
/// costs many times what its push does.
const AGENT_HEADERS: Duration = Duration::from_secs(300);
/// A connection of an agent ends after this time, give or take a tenth, so that new certificates and new trust reach everyone.
pub const AGENT_CONNECTION_LIFE: Duration = Duration::from_secs(900);
/// Another connection.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(3_600);
const HEADER_BYTES_MAX: usize = 64 << 10;
/// What is still being answered then may take this long: work on the whole store tells how far it is all the while.
const LONGEST_ANSWER: Duration = Duration::from_secs(24 * 3_600);
const DRAIN: Duration = Duration::from_secs(5);

/// TLS of a listener; `None` for plain text on loopback.
pub type WatchedTls = Option<Arc<ArcSwap<ServerConfig>>>;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address of the socket.
    pub address: SocketAddr,
    /// The client certificate, where one was shown and verified. It may be out of its time.
    pub shown: Option<Shown>,
}

/// What all listeners tell of those whom they could not serve.
#[derive(Debug, Clone)]
pub struct Doors {
    clock: SharedClock,
    registry: Registry,
    handshakes: Arc<Handshakes>,
}

impl Doors {
    /// Registers its numbers.
    #[must_use]
    pub fn new(clock: SharedClock, registry: Registry) -> Self {
        Self { handshakes: Arc::new(Handshakes::new(Arc::clone(&clock), &registry)), clock, registry }
    }

    /// Serves `router` on `listener` until stopped; connections live for about `life`. Handlers find a [`Peer`] among the
    /// request's extensions.
    pub async fn serve(self, name: &'static str, listener: TcpListener, tls: WatchedTls, router: Router, life: Duration, tasks: Tasks) {
        let stop = tasks.stop().clone();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let failures = self.registry.counter_by("keyvigil.listen.accept_failures_total", "Attempts to accept a connection that failed.", ("listener", name));
        let mut shortage = Shortage::new(name, Arc::clone(&self.clock), failures);
        loop {
            let next = async {
                tokio::select! {
                    accepted = accept(&listener, &places) => Some(accepted),
                    () = shortage.over() => None,
                }
            };
            let (stream, address, place) = match stop.or(next).await {
                None => return,
                Some(None) => continue,
                Some(Some(Ok(accepted))) => accepted,
                Some(Some(Err(e))) => {
                    // Out of file descriptors, mostly: let some connections end first.
                    shortage.failed(&e);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, router, stop, handshakes) = (tls.as_ref().map(|t| t.load_full()), router.clone(), stop.clone(), Arc::clone(&self.handshakes));
            tasks.spawn_short("connection", async move {
                let ended = match handshake(stream, address, tls).await {
                    Ok((stream, peer)) => http(stream, peer, router, spread(life, random_u64()), &stop).await,
                    Err(e) => {
                        handshakes.failed(name, address, &*e);
                        Err(e)
                    }
                };
                if let Err(e) = ended {
                    tracing::debug!(listener = name, peer = %address, error = %e, "connection ended");
                }
                drop(place);
            });
        }
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    // A peer that is gone already is no reason to accept nobody else.
    let _ = stream.set_nodelay(true);
    Ok((stream, address, place))
}

/// A life between nine tenths and eleven tenths of `life`: agents that came at once do not all come back at once.
fn spread(life: Duration, random: u64) -> Duration {
    life.mul_f64(0.9 + 0.2 * (random as f64 / u64::MAX as f64))
}

/// The bytes of a connection, behind TLS where there is any.
trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

async fn handshake(stream: TcpStream, address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<(Box<dyn Bytes>, Peer), BoxError> {
    let Some(config) = tls else { return Ok((Box::new(stream), Peer { address, shown: None })) };
    let stream = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await??;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = shown.map(|certificate| Shown::of(certificate)).transpose()?;
    Ok((Box::new(stream), Peer { address, shown }))
}

/// How long the next request's head may take.
fn head(peer: &Peer) -> Duration {
    if peer.shown.is_some() { AGENT_HEADERS } else { HEADERS }
}

async fn http(stream: Box<dyn Bytes>, peer: Peer, router: Router, life: Duration, stop: &Stop) -> Result<(), BoxError> {
    let headers = head(&peer);
    let service = service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(headers).max_buf_size(HEADER_BYTES_MAX).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        () = stop.stopped() => {}
        () = tokio::time::sleep(life) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => return ended,
                () = stop.stopped() => {}
                () = tokio::time::sleep(LONGEST_ANSWER) => {}
            }
        }
    }
    // Ask for the end, and let the request that is being answered finish.
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(DRAIN, connection).await?
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::tls::Identity;

    #[test]
    fn an_agent_that_is_quiet_for_minutes_keeps_its_connection_and_a_stranger_does_not() {
        let identity = Identity { tenant: "t".into(), agent: "a".into() };
        let agent = Shown { identity, serial: String::new(), issuer: String::new(), not_before_ms: 0, not_after_ms: 0 };
        let seconds = [Some(agent), None].map(|shown| head(&Peer { address: SocketAddr::from(([127, 0, 0, 1], 1)), shown }).as_secs());
        assert_eq!(seconds, [300, 10]);
    }

    #[test]
    fn agents_that_came_at_once_come_back_one_by_one() {
        let seconds = [0, u64::MAX / 2, u64::MAX].map(|random| spread(AGENT_CONNECTION_LIFE, random).as_secs());
        assert_eq!(seconds, [810, 900, 990]);
    }
}
