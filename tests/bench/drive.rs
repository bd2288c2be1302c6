//! Requests over keep-alive connections, as cheaply as can be: the driver shares its processors with the server. Bodies are
//! encoded before, one thread drives all connections, an answer is awaited before the next request; plain hyper costs half
//! the CPU of reqwest on top of it. Knows addresses and paths, not servers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Where a server listens and what lets one in.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `host:port`, on loopback.
    pub(crate) address: String,
    /// Bearer token.
    pub(crate) token: Option<String>,
}

/// One connection, one request at a time.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Ends with the connection.
    _io: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(at: &Endpoint) -> Result<Self, String> {
        let stream = TcpStream::connect(&at.address).await.map_err(|e| format!("cannot connect to {}: {e}", at.address))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let (sender, io) = handshake(TokioIo::new(stream)).await.map_err(|e| format!("{}: {e}", at.address))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = io.await;
        });
        let text = |text: &str| HeaderValue::from_str(text).map_err(|e| e.to_string());
        let mut headers = vec![(HOST, text(&at.address)?)];
        if let Some(token) = &at.token {
            headers.push((AUTHORIZATION, text(&format!("Bearer {token}"))?));
        }
        Ok(Self { sender, headers, _io: tasks })
    }

    async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Bytes, String> {
        request.headers_mut().extend(self.headers.iter().map(|(name, value)| (Some(name.clone()), value.clone())).collect::<Vec<_>>());
        self.sender.ready().await.map_err(|e| format!("the connection is gone: {e}"))?;
        let answer = self.sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| format!("the answer broke off: {e}"))?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes, String> {
        self.empty(Method::GET, path).await
    }

    pub(crate) async fn post(&mut self, path: &str) -> Result<Bytes, String> {
        self.empty(Method::POST, path).await
    }

    async fn empty(&mut self, method: Method, path: &str) -> Result<Bytes, String> {
        let request = Request::builder().method(method).uri(path).body(Full::default()).map_err(|e| format!("{path}: {e}"))?;
        self.send(request).await.map_err(|e| format!("{path}: {e}"))
    }

    /// One remote-write request.
    async fn write(&mut self, path: &str, body: Bytes) -> Result<(), String> {
        let request = Request::post(path)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .header(CONTENT_ENCODING, HeaderValue::from_static("snappy"))
            .header(HeaderName::from_static("x-prometheus-remote-write-version"), HeaderValue::from_static("0.1.0"))
            .body(Full::new(body))
            .map_err(|e| e.to_string())?;
        self.send(request).await.map(|_| ()).map_err(|e| format!("{path}: {e}"))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
    format!("answered {}: {}", status.as_u16(), if text.trim().is_empty() { status.canonical_reason().unwrap_or_default() } else { text.trim() })
}

/// How long requests took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Of the whole, connections side by side.
    pub(crate) took: Duration,
    each: Vec<Duration>,
}

impl Times {
    pub(crate) fn add(&mut self, mut other: Self) {
        self.took += other.took;
        self.each.append(&mut other.each);
    }

    pub(crate) fn count(&self) -> usize {
        self.each.len()
    }

    /// The time that `share` of the requests did not exceed (nearest rank), ms.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.each.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
    }
}

/// Sends each queue over its own connection; all were acknowledged when this returns.
pub(crate) async fn write(connections: &mut Vec<Connection>, path: &'static str, queues: Vec<Vec<Bytes>>) -> Result<Times, String> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for (mut connection, queue) in std::mem::take(connections).into_iter().zip(queues) {
        tasks.spawn(async move {
            let mut each = Vec::with_capacity(queue.len());
            for body in queue {
                let sent = Instant::now();
                connection.write(path, body).await?;
                each.push(sent.elapsed());
            }
            Ok::<_, String>((connection, each))
        });
    }
    let mut times = Times::default();
    while let Some(done) = tasks.join_next().await {
        let (connection, each) = done.map_err(|e| e.to_string())??;
        connections.push(connection);
        times.each.extend(each);
    }
    times.took = began.elapsed();
    Ok(times)
}

/// Asks for all paths over `connections` connections, each path once; ends early after `most`.
pub(crate) async fn read(at: &Endpoint, connections: usize, paths: &[String], most: Duration) -> Result<Times, String> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for share in 0..connections {
        let mut connection = Connection::open(at).await?;
        let paths: Vec<String> = paths.iter().skip(share).step_by(connections).cloned().collect();
        tasks.spawn(async move {
            let mut each = Vec::with_capacity(paths.len());
            for path in &paths {
                let sent = Instant::now();
                connection.get(path).await?;
                each.push(sent.elapsed());
                if began.elapsed() > most {
                    break;
                }
            }
            Ok::<_, String>(each)
        });
    }
    let mut times = Times::default();
    while let Some(done) = tasks.join_next().await {
        times.each.extend(done.map_err(|e| e.to_string())??);
    }
    times.took = began.elapsed();
    Ok(times)
}
