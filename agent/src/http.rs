//! HTTP/1.1 over TLS to the aggregator. The dialer is an argument: how bytes get there is a test's to decide. One request
//! at a time on a connection that is kept; answers are bounded.

mod fault;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use keyvigil_common::stop::Tasks;
use keyvigil_common::tls;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use fault::Fault;

/// Connecting, the handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// One request with its answer, and as much more as a slow link needs for the body.
const REQUEST: Duration = Duration::from_secs(30);
const SLOWEST_BYTES_PER_SECOND: u64 = 2 << 10;
/// The longest that an answer may ask this agent to be silent: a number that makes no sense must not end delivery.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Connects to `host:port`.
#[derive(Clone)]
pub struct Dialer(Arc<dyn Fn(String) -> Dialing + Send + Sync>);

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialer")
    }
}

impl Dialer {
    /// A dialer made from a function.
    pub fn new<F>(dial: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Box<dyn Stream>>> + Send + 'static,
    {
        Self(Arc::new(move |address| Box::pin(dial(address))))
    }

    /// TCP.
    #[must_use]
    pub fn tcp() -> Self {
        Self::new(async |address: String| {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
    /// What the other side asked to wait.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// What a refusal says in words: the `detail` of a problem document.
    #[must_use]
    pub fn detail(&self) -> String {
        let problem: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let detail = problem.as_ref().and_then(|p| p["detail"].as_str()).map(str::to_owned);
        let mut text = detail.unwrap_or_else(|| String::from_utf8_lossy(&self.body).chars().take(200).collect());
        keyvigil_common::key::clamp_text(&mut text);
        format!("{}: {text}", self.status)
    }

    /// What a refusal says to a program: the `code` of a problem document.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        self.member("code").as_str().map(|code| code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(32).collect())
    }

    /// A member of a problem document.
    #[must_use]
    pub fn member(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&self.body).map(|p| p[name].clone()).unwrap_or_default()
    }
}

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: String,
}

impl Connection {
    /// Connects to `address` and shakes hands.
    ///
    /// # Errors
    /// What failed, in words.
    pub async fn open(dialer: &Dialer, address: &str, config: Arc<ClientConfig>, tasks: &Tasks) -> Result<Self, HttpError> {
        let connect = async {
            let stream = (dialer.0)(address.to_owned()).await.map_err(|source| HttpError::Connect { address: address.to_owned(), source })?;
            let stream = TlsConnector::from(config)
                .connect(tls::aggregator_name(), stream)
                .await
                .map_err(|source| HttpError::Handshake { address: address.to_owned(), source })?;
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Http)
        };
        let (sender, driver) = tokio::time::timeout(CONNECT, connect).await.map_err(|_| HttpError::Timeout)??;
        tasks.spawn_short("connection", async move {
            if let Err(e) = driver.await {
                tracing::debug!(error = %e, "connection ended");
            }
        });
        Ok(Self { sender, address: address.to_owned() })
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Posts `body`.
    ///
    /// # Errors
    /// The connection broke, or no answer came in time.
    pub async fn post(&mut self, path: &str, content_type: &str, body: Vec<u8>) -> Result<Answer, HttpError> {
        self.send(Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, content_type), body).await
    }

    /// Posts a push of that lane.
    ///
    /// # Errors
    /// As [`Connection::post`].
    pub async fn push(&mut self, lane: &str, body: Vec<u8>) -> Result<Answer, HttpError> {
        self.send(
            Request::builder().method(Method::POST).uri("/v1/push").header(CONTENT_TYPE, "application/vnd.keyvigil.push").header("keyvigil-lane", lane),
            body,
        )
        .await
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// As [`Connection::post`].
    pub async fn get(&mut self, path: &str) -> Result<Answer, HttpError> {
        self.send(Request::builder().method(Method::GET).uri(path), Vec::new()).await
    }

    async fn send(&mut self, request: Builder, body: Vec<u8>) -> Result<Answer, HttpError> {
        let patience = REQUEST + Duration::from_secs(body.len() as u64 / SLOWEST_BYTES_PER_SECOND);
        let request = request.header(HOST, &self.address).body(Full::new(Bytes::from(body)));
        let request = request.map_err(|e| HttpError::Body(e.to_string()))?;
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| HttpError::Body(e.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, body, retry_after: head.headers.get(RETRY_AFTER).and_then(|v| retry_after(v.as_bytes())) })
        };
        tokio::time::timeout(patience, exchange).await.map_err(|_| HttpError::Timeout)?
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed.
    #[error("the TLS handshake with {address} failed")]
    Handshake {
        /// With whom.
        address: String,
        /// What TLS said.
        source: io::Error,
    },
    /// HTTP failed.
    #[error("the request failed")]
    Http(#[from] hyper::Error),
    /// An answer that is too long or broke off.
    #[error("the answer cannot be read: {0}")]
    Body(String),
    /// Too slow.
    #[error("no answer in time")]
    Timeout,
}

impl HttpError {
    /// What mends it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            _ if Fault::of(self).is_some() => Fault::of(self).map_or("", Fault::words),
            Self::Connect { .. } => "check that the aggregator runs, and that this host may connect to it (`keyvigil-agent doctor`)",
            Self::Handshake { .. } => "`keyvigil-agent doctor` says which certificate or clock is wrong",
            Self::Http(_) | Self::Body(_) => "nothing to do if it passes; else look for what cuts connections between this host and the aggregator",
            Self::Timeout => "the aggregator or the way to it is very slow: look at its load and at the network",
        }
    }
}

/// How long an answer asks to wait; dates are not understood.
fn retry_after(value: &[u8]) -> Option<Duration> {
    let seconds: u64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Lane;
    use crate::uplink::courier::{Courier, Holds};

    #[test]
    fn no_answer_silences_the_agent_for_longer_than_makes_sense() {
        assert_eq!(retry_after(b"7"), Some(Duration::from_secs(7)));
        assert_eq!([retry_after(b"soon"), retry_after(b"-1"), retry_after(b"\xff")], [None, None, None]);
        let asked = retry_after(b"18446744073709551615");
        let waits = Courier::default().failed(Lane::Live, Holds::All, asked, Duration::from_secs(1), u64::MAX);
        assert_eq!(waits, Duration::from_secs(5_400), "an hour, spread over half of it");
    }
}
