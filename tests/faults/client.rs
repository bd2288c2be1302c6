//! A host of which the test writes every request: it has an agent's identity, and sends what the uplink never would.

use keyvigil_agent::http::{Answer, Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::sequence::Range;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::tls;
use keyvigil_common::wire::{Push, Sender, decode_ack, encode_batch, encode_push};
use keyvigil_tests::oracle::batch;
use keyvigil_tests::sender;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::Stage;

pub(crate) const EPOCH: [u8; 16] = [13; 16];

/// A host of which the test writes every request.
pub(crate) struct Client {
    pub(crate) identity: Identity,
    pub(crate) address: String,
    tasks: Tasks,
    pub(crate) base_ms: i64,
}

impl Client {
    pub(crate) async fn join(stage: &Stage, name: &str) -> Self {
        let dir = stage.path(name);
        sender::join(&stage.client(), &dir, name).await;
        let identity = Identity::load(&dir).expect("an identity").expect("it has joined");
        Self { identity, address: stage.aggregator().ingest_address(), tasks: Tasks::new(Stop::new()), base_ms: stage.base_ms }
    }

    pub(crate) async fn connect(&self) -> Connection {
        let config = self.identity.tls(&SystemClock::shared()).expect("TLS");
        Connection::open(&Dialer::tcp(), &self.address, config, &self.tasks).await.expect("a connection")
    }

    /// A push of the numbers of `range`.
    pub(crate) fn push(&self, range: Range) -> Vec<u8> {
        let frames = (range.first..=range.last).map(|n| (n, encode_batch(&batch(n, self.base_ms)).expect("valid")));
        self.body(frames.collect(), Vec::new())
    }

    pub(crate) fn body(&self, frames: Vec<(u64, Vec<u8>)>, waiting: Vec<Range>) -> Vec<u8> {
        let wall_ms = SystemClock::shared().now_ms();
        let trusts = self.identity.trusts().expect("a CA");
        let sender = Sender {
            instance: [1; 16],
            machine: [2; 32],
            boot: [3; 16],
            boot_ms: 60_000,
            wall_ms,
            trusts,
            blind: None,
            canaries: keyvigil_common::canary::Canaries::default(),
        };
        encode_push(&Push { epoch: EPOCH, sender: Some(sender), waiting, frames, dropped: Vec::new() }).expect("valid")
    }

    /// Sends bytes as they are over TLS, and reads what comes until the other side ends it; `all`: nothing more will come.
    pub(crate) async fn raw(&self, bytes: &[u8], all: bool) -> String {
        let config = self.identity.tls(&SystemClock::shared()).expect("TLS");
        let stream = TcpStream::connect(&self.address).await.expect("a connection");
        let mut stream = tokio_rustls::TlsConnector::from(config).connect(tls::aggregator_name(), stream).await.expect("TLS");
        stream.write_all(bytes).await.expect("written");
        stream.flush().await.expect("written");
        if all {
            stream.shutdown().await.expect("ended");
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub(crate) async fn post(connection: &mut Connection, body: &[u8]) -> Answer {
    connection.push("live", body.to_vec()).await.expect("an answer")
}

/// What a repeat may not change: all but the time.
pub(crate) fn said(answer: &Answer) -> (u16, [u8; 16], u64, Vec<Range>) {
    let ack = decode_ack(&answer.body).expect("an ack");
    (answer.status.as_u16(), ack.epoch, ack.cursor, ack.beyond)
}
