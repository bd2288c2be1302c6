//! Requests that are cut, lie about their length, hold poison, or have a flipped bit: nothing of them is stored in part, and
//! neighbours go on.

use keyvigil_agent::buffer::New;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::sequence::Range;
use keyvigil_common::wire::{Class, encode_batch};
use keyvigil_tests::oracle::{ITEMS, Issued, Stored, batch};

use super::client::{Client, EPOCH, post, said};
use super::stage::{Stage, drained, judge};
use super::world::sized;

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

/// The numbers of an epoch that the aggregator has on disk.
fn numbers_of(stage: &Stage, epoch: [u8; 16]) -> u64 {
    let store = rusqlite::Connection::open(stage.path("aggregator/store/main.db")).expect("the store");
    let count: i64 = store.query_row("SELECT count(*) FROM settled WHERE epoch = ?1", [epoch], |row| row.get(0)).expect("a count");
    count.unsigned_abs()
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_a_push_with_a_flipped_bit_is_refused_or_stored_whole_and_never_in_part() {
    let mut stage = Stage::hasty().await;
    let client = Client::join(&stage, "flipped").await;
    let good = client.push(Range { first: 1, last: 4 });
    let at = good.windows(EPOCH.len()).position(|bytes| bytes == EPOCH).expect("its epoch");
    let bits = good.len() as u64 * 8;
    let (mut refused, mut whole, mut connection) = (0u64, 0u64, client.connect().await);
    let step = usize::try_from(sized(bits / 250, 1)).expect("small").max(1);
    // A flip in the epoch makes it another stream's: no part of what is stored tells of it.
    let of_epoch = at as u64 * 8..(at as u64 + 16) * 8;
    for (turn, bit) in (0..bits).step_by(step).filter(|bit| !of_epoch.contains(bit)).enumerate() {
        // Each under an epoch of its own, so that what is left of it is told from the others.
        let mut epoch = [0xee; 16];
        epoch[..8].copy_from_slice(&(turn as u64).to_le_bytes());
        let mut body = good.clone();
        body[at..at + 16].copy_from_slice(&epoch);
        let byte = usize::try_from(bit / 8).expect("small");
        body[byte] ^= 1 << (bit % 8);
        let answer = post(&mut connection, &body).await;
        match answer.status.as_u16() {
            200 => {
                assert_eq!(numbers_of(&stage, epoch), 4, "bit {bit}: all of it");
                whole += 1;
            }
            400..500 => {
                assert_eq!(numbers_of(&stage, epoch), 0, "bit {bit}: nothing of it ({})", answer.detail());
                refused += 1;
                connection = client.connect().await;
            }
            other => panic!("bit {bit}: {other}: {}", answer.detail()),
        }
        if turn % 20 == 0 {
            stage.commit(1).await;
        }
    }
    assert!(refused > whole, "{refused} were refused, {whole} taken");
    let stored =
        stage.judge(&format!("F14 beside {} pushes with a flipped bit: {refused} refused, {whole} another valid push, none in part", refused + whole)).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}
