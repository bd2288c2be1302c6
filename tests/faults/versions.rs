//! The version before: its agent, its buffer and its store against this aggregator and this agent, and this agent against its
//! aggregator; killed while what is stored is brought up to date.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_agent::buffer::New;
use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_aggregator::authority::Authority;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::tls;
use keyvigil_common::wire::{Batch, Class, Push, decode_ack, decode_batch, encode_batch, encode_push};
use keyvigil_tests::harness::until;
use keyvigil_tests::oracle::{ITEMS, Issued, SideLog, batch};
use keyvigil_tests::process::program;
use keyvigil_tests::sender;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::stage::{Stage, drained, judge};
use super::world::sized;

/// The frame of number `n` as an agent of version 1 wrote it: what version 2 adds at the end is missing, and times are no
/// differences to the time of sealing, which comes first.
fn version_1(n: u64, base_ms: i64) -> Vec<u8> {
    let batch = batch(n, base_ms);
    let now = encode_batch(&Batch { sealed_ms: 0, ..batch.clone() }).expect("valid");
    let mut raw = Vec::new();
    zstd::stream::read::Decoder::new(&now[12..]).expect("a frame").take(1 << 20).read_to_end(&mut raw).expect("a frame");
    assert_eq!((raw.pop(), raw[0]), (Some(0), 0), "it does not say when it was sealed");
    // A number of more than 32 bits, as bincode writes it.
    raw.splice(..1, [&[253][..], &(batch.sealed_ms.cast_unsigned() << 1).to_le_bytes()].concat());
    let mut frame = now[..12].to_vec();
    frame[3] = 1;
    frame[8..12].copy_from_slice(&u32::try_from(raw.len()).expect("small").to_le_bytes());
    frame.extend(zstd::bulk::compress(&raw, 1).expect("compressed"));
    let read = decode_batch(&frame).expect("it is understood");
    assert_eq!(read, batch);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_an_agent_of_the_version_before_delivers_its_full_buffer_once_and_is_answered_in_its_words() {
    let mut stage = Stage::hasty().await;
    let fixture = include_bytes!("../fixtures/wire/batch-v1.bin");
    assert_eq!(fixture[3], 1);
    decode_batch(fixture).expect("what was written then is understood");
    let dir = stage.path("before");
    sender::join(&stage.client(), &dir, "before").await;
    let identity = Identity::load(&dir).expect("an identity").expect("it has joined");
    let (tasks, clock) = (Tasks::new(Stop::new()), SystemClock::shared());
    let count = sized(300, 5_000);
    let mut next = 1;
    while next <= count {
        // The ack of every third push is lost: it comes again. The aggregator dies now and then.
        if next % 90 == 1 && next > 1 {
            stage.kill();
            stage.start();
        }
        let config = identity.tls(&clock).expect("TLS");
        let mut connection = Connection::open(&Dialer::tcp(), &stage.aggregator().ingest_address(), config, &tasks).await.expect("a connection");
        let frames = (next..next + 10).map(|n| (n, version_1(n, stage.base_ms))).collect();
        let body = encode_push(&Push { epoch: [9; 16], sender: None, frames, ..Push::default() }).expect("valid");
        assert_eq!(body[3], 1);
        for _ in 0..1 + u64::from(next % 30 == 1) {
            let answer = connection.post("/v1/push", "application/vnd.keyvigil.push", body.clone()).await.expect("an answer");
            assert!(answer.status.is_success() && answer.body[3] == 1, "{}", answer.detail());
            assert_eq!(decode_ack(&answer.body).expect("an ack").cursor, next + 9);
        }
        next += 10;
    }
    let issued = Issued { attempted: (1..next).collect(), committed: (1..next).collect() };
    let stored = judge("F39 agent of wire version 1", &stage.client(), "before", stage.base_ms, &issued).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}

/// Makes a buffer what it was in version 1.
fn put_back(dir: &Path, last: u64) {
    let buffer = rusqlite::Connection::open(dir.join("buffer.db")).expect("the buffer");
    let classes = "class = CASE class WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 1 THEN 3 ELSE class END";
    let back = format!(
        "ALTER TABLE batch RENAME COLUMN id TO seq; UPDATE batch SET {classes}; UPDATE gap SET {classes};
         UPDATE meta SET name = 'epoch' WHERE name = 'file_id'; DELETE FROM meta WHERE name IN ('settled', 'schema', 'origin', 'last_id');
         INSERT INTO meta VALUES ('last_seq', {last}); DROP TABLE epoch; DROP INDEX dropped_by_last; DROP INDEX gap_by_last; DROP TABLE told;
         PRAGMA user_version = 1;"
    );
    buffer.execute_batch(&back).expect("put back");
    let _ = std::fs::remove_file(dir.join("buffer.id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_a_full_buffer_of_the_version_before_is_delivered_once_though_the_agent_is_killed_while_it_takes_it_over() {
    let mut stage = Stage::hasty().await;
    stage.kill();
    let (count, at_ms, agent) = (sized(200, 2_000), SystemClock::shared().now_ms(), stage.path("agent"));
    for n in 1..=count {
        let new = New { class: Class::Sample, items: ITEMS, at_ms, frame: version_1(n, stage.base_ms), told: Vec::new() };
        stage.sender().buffer.append(vec![new], Vec::new(), Vec::new(), at_ms).await.expect("committed");
        stage.issued.attempted.insert(n);
        stage.issued.committed.insert(n);
    }
    stage.stop_sender().await;
    assert!(!agent.join("buffer.db-wal").exists(), "its files are closed");
    put_back(&agent, count);
    let log = stage.path("log");
    let mut first = SideLog::open(&log);
    first.attempt(count);
    for kill in 0..sized(6, 60) {
        let mut command = Command::new(program("fault-sender"));
        command.arg("--dir").arg(&agent).arg("--log").arg(&log).args(["--base-ms", &stage.base_ms.to_string(), "--count", "1"]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
        // At whatever it is doing then.
        tokio::time::sleep(Duration::from_millis(3 + kill % 20 * 4)).await;
        child.kill().expect("it is ours");
        child.wait().expect("it ended");
    }
    let more = SideLog::read(&log);
    stage.issued.attempted.extend(more.attempted);
    stage.issued.committed.extend(more.committed);
    stage.start();
    stage.start_sender();
    stage.commit(5).await;
    let stored = stage.judge("F39 buffer of schema 1, killed while it is taken over").await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_an_aggregator_of_the_version_before_gets_nothing_loses_nothing_and_the_words_say_upgrade() {
    let mut stage = Stage::hasty().await;
    stage.commit(20).await;
    drained(stage.sender()).await;
    let now_ms = SystemClock::shared().now_ms();
    let ca = Authority::load_or_create(&stage.path("aggregator/pki"), now_ms).expect("the CA");
    let own = ca.server_identity(&[], now_ms).expect("a certificate");
    let mut config = tls::web_config(own.chain, own.key).expect("TLS");
    config.alpn_protocols.clear();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    stage.proxy.lead_to(&listener.local_addr().expect("an address").to_string());
    let mut before = JoinSet::new();
    before.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 65_536]).await;
            let body = "{\"detail\":\"version 2 of the wire format is not known here\",\"code\":\"malformed\"}";
            let answer = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    stage.reset();
    stage.commit(20).await;
    let said = || async { stage.sender().board.read().trouble.filter(|trouble| trouble.remedy.contains("upgrade") && trouble.times > 3) };
    stage.fair();
    let trouble = until("it is told what to do", said).await;
    assert!(trouble.words.contains("version 2"), "{trouble:?}");
    assert_eq!(stage.sender().buffer.level().batches, 20, "all of it is kept");
    before.abort_all();
    stage.kill();
    stage.start();
    let stored = stage.judge("F39 aggregator of version 1, upgraded later").await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_a_store_of_the_version_before_opens_though_it_was_killed_while_it_was_brought_up_to_date() {
    let mut stage = Stage::hasty().await;
    let store = stage.path("aggregator");
    for round in 0..sized(2, 20) {
        stage.commit(60).await;
        drained(stage.sender()).await;
        stage.kill();
        let main = store.join("store/main.db");
        let back = "ALTER TABLE stream DROP COLUMN beyond; ALTER TABLE stream DROP COLUMN seen_ms; ALTER TABLE settled DROP COLUMN items; DROP TABLE lost; DROP TABLE place; PRAGMA user_version = 1";
        rusqlite::Connection::open(&main).expect("the store").execute_batch(back).expect("put back");
        stage.commit(10).await;
        for kill in 0..8 {
            let mut command = Command::new(program("keyvigil-aggregator"));
            command.arg("--dir").arg(&store).args(["run", "--output", "json", "--stop-with-stdin"]);
            for name in ["API", "INGEST", "METRICS", "HEALTH"] {
                command.env(format!("KEYVIGIL_LISTEN__{name}"), "127.0.0.1:0");
            }
            let mut child = command.env("LOG_LEVEL", "error").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
            tokio::time::sleep(Duration::from_millis(5 + kill * 10 + round)).await;
            child.kill().expect("it is ours");
            child.wait().expect("it ended");
        }
        stage.start();
        let version = rusqlite::Connection::open(&main).expect("the store").query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
        assert_eq!(version, Ok(4));
        drained(stage.sender()).await;
    }
    let stored = stage.judge("F39 store of schema 1, killed while it is brought up to date").await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}
