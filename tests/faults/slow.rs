//! F26: those who take connections and give next to nothing, at the port where agents push: bodies, heads and handshakes of a
//! byte a second. An agent beside them goes on delivering.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyvigil_common::clock::SystemClock;
use keyvigil_common::tls;
use keyvigil_tests::harness::until;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::Client;
use super::stage::{Stage, drained};
use super::world::sized;

/// Of each kind.
const EACH: usize = 50;
/// What is promised of the agent beside: its acks take no longer than this, in a debug build on a busy machine.
const ACK: Duration = Duration::from_secs(5);

/// What a connection sends at once, and then a byte a second of it until it is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of the handshake.
    Hello,
    /// TLS without a certificate, then a head.
    Head,
    /// An agent's certificate, then the head of a push at once, then its body.
    Body,
    /// The same for a join, which needs no certificate.
    Join,
}

async fn drip<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, at_once: &str, closed: &AtomicUsize) {
    let mut some = [0; 256];
    let mut sent = stream.write_all(at_once.as_bytes()).await;
    while sent.is_ok() {
        tokio::select! {
            read = stream.read(&mut some) => if matches!(read, Ok(0) | Err(_)) { break },
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                sent = stream.write_all(b"a").await;
                sent = sent.and(stream.flush().await);
            }
        }
    }
    closed.fetch_add(1, Ordering::Relaxed);
}

async fn slow(kind: Kind, address: String, agent: Arc<rustls::ClientConfig>, stranger: Arc<rustls::ClientConfig>, closed: Arc<AtomicUsize>) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let request = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n");
    let (config, at_once) = match kind {
        // The first bytes of a record that never ends.
        Kind::Hello => return drip(stream, "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", &closed).await,
        Kind::Head => (stranger, "POST /v1/push HTTP/1.1\r\nhost: ".to_owned()),
        Kind::Body => (agent, request("/v1/push")),
        Kind::Join => (stranger, request("/v1/join")),
    };
    match tokio_rustls::TlsConnector::from(config).connect(tls::aggregator_name(), stream).await {
        Ok(stream) => drip(stream, &at_once, &closed).await,
        Err(_) => _ = closed.fetch_add(1, Ordering::Relaxed),
    }
}

/// Commits numbers for `time`, each once the one before it is acknowledged; how long the acks took, in order.
async fn acks(stage: &mut Stage, time: Duration) -> Vec<Duration> {
    let clock = SystemClock::shared();
    let (began, mut took) = (clock.monotonic(), Vec::new());
    while clock.monotonic() - began < time {
        let at = clock.monotonic();
        stage.commit(1).await;
        drained(stage.sender()).await;
        took.push(clock.monotonic() - at);
    }
    took.sort_unstable();
    took
}

fn handles(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn f26_two_hundred_who_send_a_byte_a_second_do_not_hold_up_an_agent_beside_them() {
    let mut stage = Stage::hasty().await;
    let client = Client::join(&stage, "slow").await;
    let clock = SystemClock::shared();
    let agent = client.identity.tls(&clock).expect("TLS");
    let roots = client.identity.ca.as_bytes();
    let pin = tls::spki_sha256(&<rustls::pki_types::CertificateDer<'static> as rustls::pki_types::pem::PemObject>::from_pem_slice(roots).expect("a CA"));
    let stranger = Arc::new(tls::pinned_client_config(pin.expect("a key"), &clock).expect("TLS"));
    stage.commit(5).await;
    drained(stage.sender()).await;
    let time = Duration::from_secs(sized(2, 20));
    let alone = acks(&mut stage, time).await;
    let (pid, closed) = (stage.aggregator().pid(), Arc::<AtomicUsize>::default());
    let before = handles(pid);
    let mut all = JoinSet::new();
    for kind in [Kind::Hello, Kind::Head, Kind::Body, Kind::Join] {
        for _ in 0..EACH {
            all.spawn(slow(kind, client.address.clone(), Arc::clone(&agent), Arc::clone(&stranger), Arc::clone(&closed)));
        }
    }
    until("they are connected", || async { (handles(pid) + closed.load(Ordering::Relaxed) >= before + 4 * EACH - 5).then_some(()) }).await;
    let began = clock.monotonic();
    let beside = acks(&mut stage, time).await;
    let at = |took: &[Duration]| (took[took.len() / 2].as_millis(), took[took.len() * 99 / 100].as_millis());
    let (alone, beside_them, worst) = (at(&alone), at(&beside), beside[beside.len() - 1]);
    assert!(worst < ACK, "an ack took {worst:?} beside them");
    // A join's body may take as long as any request; the others are closed within ten seconds.
    until("those are closed who give nothing", || async { (closed.load(Ordering::Relaxed) >= 3 * EACH).then_some(()) }).await;
    let closing = clock.monotonic() - began;
    all.shutdown().await;
    until("and all handles are given back", || async { (handles(pid) <= before + 2).then_some(()) }).await;
    let said = format!(
        "F26 beside {} slow connections: {} acks, p50 {} ms, p99 {} ms (alone {} and {} ms), {} of them closed after {} s",
        4 * EACH,
        beside.len(),
        beside_them.0,
        beside_them.1,
        alone.0,
        alone.1,
        closed.load(Ordering::Relaxed),
        closing.as_secs()
    );
    let stored = stage.judge(&said).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}
