//! Requests that come again, out of order and at once, and such as are cut, lie about their length, or hold poison. A client
//! with an agent's identity sends what the uplink never would.

use std::sync::{Arc, Mutex};

use keyvigil_agent::buffer::New;
use keyvigil_agent::http::{Answer, Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::sequence::Range;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::tls;
use keyvigil_common::wire::{Class, Push, Sender, decode_ack, encode_batch, encode_push};
use keyvigil_tests::link::Link;
use keyvigil_tests::oracle::{ITEMS, Issued, Stored, batch};
use keyvigil_tests::sender;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::stage::{Stage, drained, judge, sized};

const EPOCH: [u8; 16] = [13; 16];
/// Requests that are out of order among themselves.
const SHUFFLED: usize = 120;

/// A host of which the test writes every request.
struct Client {
    identity: Identity,
    address: String,
    tasks: Tasks,
    base_ms: i64,
}

impl Client {
    async fn join(stage: &Stage, name: &str) -> Self {
        let dir = stage.path(name);
        sender::join(&stage.client(), &dir, name).await;
        let identity = Identity::load(&dir).expect("an identity").expect("it has joined");
        Self { identity, address: stage.aggregator().ingest_address(), tasks: Tasks::new(Stop::new()), base_ms: stage.base_ms }
    }

    async fn connect(&self) -> Connection {
        let config = self.identity.tls(&SystemClock::shared()).expect("TLS");
        Connection::open(&Dialer::tcp(), &self.address, config, &self.tasks).await.expect("a connection")
    }

    /// A push of the numbers of `range`.
    fn push(&self, range: Range) -> Vec<u8> {
        let frames = (range.first..=range.last).map(|n| (n, encode_batch(&batch(n, self.base_ms)).expect("valid")));
        self.body(frames.collect(), Vec::new())
    }

    fn body(&self, frames: Vec<(u64, Vec<u8>)>, waiting: Vec<Range>) -> Vec<u8> {
        let wall_ms = SystemClock::shared().now_ms();
        let trusts = self.identity.trusts().expect("a CA");
        let sender = Sender { instance: [1; 16], machine: [2; 32], boot: [3; 16], boot_ms: 60_000, wall_ms, trusts };
        encode_push(&Push { epoch: EPOCH, sender: Some(sender), waiting, frames, dropped: Vec::new() }).expect("valid")
    }

    /// Sends bytes as they are over TLS, and reads what comes until the other side ends it; `all`: nothing more will come.
    async fn raw(&self, bytes: &[u8], all: bool) -> String {
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

async fn post(connection: &mut Connection, body: &[u8]) -> Answer {
    connection.push("live", body.to_vec()).await.expect("an answer")
}

/// What a repeat may not change: all but the time.
fn said(answer: &Answer) -> (u16, [u8; 16], u64, Vec<Range>) {
    let ack = decode_ack(&answer.body).expect("an ack");
    (answer.status.as_u16(), ack.epoch, ack.cursor, ack.beyond)
}

fn ranges(count: u64, random: &Link) -> Vec<Range> {
    let mut all: Vec<Range> = Vec::new();
    while all.last().is_none_or(|range| range.last < count) {
        let first = all.last().map_or(1, |range| range.last + 1);
        all.push(Range { first, last: (first + random.random() % 6).min(count) });
    }
    all
}

fn shuffle<T>(list: &mut [T], random: &Link) {
    (1..list.len()).rev().for_each(|at| list.swap(at, usize::try_from(random.random() % (at as u64 + 1)).expect("small")));
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_push_that_comes_again_is_answered_again_and_stored_once() {
    let seed = keyvigil_common::backoff::random_u64();
    println!("seed {seed}");
    let random = Link::new(seed, "");
    let mut stage = Stage::hasty().await;
    let mut client = Client::join(&stage, "again").await;
    let count = sized(150, 2_000);
    let ranges = ranges(count, &random);
    let bodies: Vec<Arc<Vec<u8>>> = ranges.iter().map(|range| Arc::new(client.push(*range))).collect();
    let mut queue: Vec<Arc<Vec<u8>>> = bodies.iter().flat_map(|body| vec![Arc::clone(body); 1 + (random.random() % 4) as usize]).collect();
    // Far enough that most come before what they need, near enough that it ends.
    queue.reverse();
    queue.chunks_mut(SHUFFLED).for_each(|part| shuffle(part, &random));
    let (sent, queue) = (queue.len(), Arc::new(Mutex::new(queue)));
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (mut connection, queue) = (client.connect().await, Arc::clone(&queue));
        workers.spawn(async move {
            loop {
                let Some(body) = queue.lock().expect("whole").pop() else { return };
                let answer = post(&mut connection, &body).await;
                match answer.status.as_u16() {
                    200 => {}
                    // What lies before it has not come yet.
                    409 => {
                        let mut queue = queue.lock().expect("whole");
                        let later = queue.len().saturating_sub(2 * SHUFFLED);
                        queue.insert(later, body);
                    }
                    other => panic!("{other}: {}", answer.detail()),
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker");
    }
    let issued = Issued { attempted: (1..=count).collect(), committed: (1..=count).collect() };
    let before =
        judge(&format!("F13 {sent} requests for {} pushes, shuffled, four at a time", bodies.len()), &stage.client(), "again", stage.base_ms, &issued).await;
    let mut connection = client.connect().await;
    let first = said(&post(&mut connection, &bodies[0]).await);
    assert_eq!(first, (200, EPOCH, count, Vec::new()));
    for restart in [false, true] {
        if restart {
            stage.kill();
            stage.start();
            client.address = stage.aggregator().ingest_address();
            connection = client.connect().await;
        }
        for body in &bodies {
            assert_eq!(said(&post(&mut connection, body).await), first, "equal replies");
        }
        let after = Stored::ask(&stage.client(), "again", stage.base_ms).await.expect("an answer");
        assert_eq!(after, before, "nothing has changed");
    }
    stage.stop_sender().await;
}

/// A request with a body that is not what its head says.
fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST /v1/push HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/vnd.keyvigil.push\r\n{head}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_what_is_cut_or_lies_about_its_length_stores_nothing_and_neighbours_go_on() {
    let mut stage = Stage::hasty().await;
    let client = Client::join(&stage, "broken").await;
    let push = client.push(Range { first: 1, last: 4 });
    let length = format!("content-length: {}", push.len());
    let step = usize::try_from(sized(push.len() as u64 / 24, 1)).expect("small").max(1);
    let none = |answer: &str| !answer.starts_with("HTTP/1.1 2");
    let mut tried = 0;
    for offset in (0..push.len()).step_by(step) {
        // The body is cut on its way, or is whole and shorter than it should be, or longer.
        let cut = client.raw(&request(&length, &push[..offset]), true).await;
        let short = client.raw(&request(&format!("content-length: {offset}"), &push), false).await;
        let chunked = [format!("{offset:x}\r\n").as_bytes(), &push[..offset], b"\r\n"].concat();
        let chunked = client.raw(&request("transfer-encoding: chunked", &chunked), true).await;
        assert!(none(&cut) && none(&chunked), "at {offset}: {cut} {chunked}");
        assert!(short.starts_with("HTTP/1.1 4"), "at {offset}: {short}");
        tried += 3;
        // Each time somebody else delivers.
        stage.commit(2).await;
    }
    let bad = client.raw(&request("transfer-encoding: chunked", b"zz\r\nhello\r\n"), true).await;
    let lies = client.raw(&request("content-length: -1", &push), true).await;
    let both = client.raw(&request(&format!("{length}\r\ncontent-length: 5"), &push), true).await;
    assert!([&bad, &lies, &both].iter().all(|answer| none(answer)), "{bad} {lies} {both}");
    let nothing = Stored::ask(&stage.client(), "broken", stage.base_ms).await.expect("an answer");
    assert_eq!(nothing, Stored::default(), "nothing of it is stored");
    let mut connection = client.connect().await;
    assert_eq!(said(&post(&mut connection, &push).await).2, 4, "and the whole of it is new");
    let stored = stage.judge(&format!("F14 beside {tried} broken requests")).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_poison_is_set_aside_alone_and_forks_and_holes_of_one_host_are_no_other_hosts_matter() {
    let mut stage = Stage::hasty().await;
    let client = Client::join(&stage, "neighbour").await;
    let mut connection = client.connect().await;
    let mut neighbour = 0;
    for round in 0..sized(8, 100) {
        stage.commit(10).await;
        // Cut short inside, as no reader will ever take it.
        let n = stage.issued.committed.len() as u64 + 1;
        let mut frame = encode_batch(&batch(n, stage.base_ms)).expect("valid");
        frame.truncate(frame.len() / 2);
        let poison = New { class: Class::Sample, items: ITEMS, at_ms: SystemClock::shared().now_ms(), frame, told: Vec::new() };
        stage.sender().buffer.append(vec![poison], Vec::new(), Vec::new(), SystemClock::shared().now_ms()).await.expect("committed");
        stage.issued.attempted.insert(n);
        stage.issued.committed.insert(n);
        stage.commit(10).await;
        // The neighbour sends what is good between what is not: another batch under a known number, and numbers after a hole.
        neighbour += 1;
        assert_eq!(said(&post(&mut connection, &client.push(Range { first: neighbour, last: neighbour })).await).2, neighbour);
        let other = vec![(neighbour, encode_batch(&batch(neighbour + 500_000, stage.base_ms)).expect("valid"))];
        let fork = post(&mut connection, &client.body(other, Vec::new())).await;
        let hole = post(&mut connection, &client.push(Range { first: neighbour + 5, last: neighbour + 5 })).await;
        assert_eq!((fork.code().as_deref(), hole.code().as_deref()), (Some("fork"), Some("gap")), "round {round}");
        let half = push_with_poison(&client, neighbour + 1);
        let poisoned = post(&mut connection, &half).await;
        assert_eq!((poisoned.status.as_u16(), poisoned.member("batch").as_u64()), (422, Some(neighbour + 2)), "{}", poisoned.detail());
    }
    drained(stage.sender()).await;
    stage.commit(2).await;
    let stored = stage.judge("F14 poison in good pushes").await;
    assert_eq!(stored.gaps.len() as u64, sized(8, 100), "{:?}", stored.gaps);
    let issued = Issued { attempted: (1..=neighbour).collect(), committed: (1..=neighbour).collect() };
    let stored = judge("F14 its neighbour, between forks, holes and poison", &stage.client(), "neighbour", stage.base_ms, &issued).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}

/// Three batches from `first` on, the second of which can never be read.
fn push_with_poison(client: &Client, first: u64) -> Vec<u8> {
    let frame = |n: u64| encode_batch(&batch(n, client.base_ms)).expect("valid");
    let poison = frame(first + 1)[..20].to_vec();
    client.body(vec![(first, frame(first)), (first + 1, poison), (first + 2, frame(first + 2))], Vec::new())
}
