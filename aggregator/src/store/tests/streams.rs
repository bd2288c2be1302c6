//! What is settled of streams: across restarts, from a store of the version before, and until nobody goes on with them.

use super::*;
use keyvigil_common::sequence::Range;

fn stream() -> Stream {
    Stream { tenant: 1, agent: "a".into(), epoch: [1; 16] }
}

fn range(first: u64, last: u64) -> Range {
    Range { first, last }
}

async fn settle(store: &Store, numbers: &[u64], hash: u8, declared: Declared) -> Result<Vec<Settled>, StoreError> {
    let numbers = numbers.to_vec();
    let settle = move |tx: &Tx<'_>| {
        let stream = stream();
        let mut settling = tx.settling(&stream, &declared)?;
        let settled = numbers.iter().map(|seq| settling.settle(*seq, &[hash; 32], 1)).collect::<Result<Vec<_>, _>>()?;
        settling.close(T0).map(|_| settled)
    };
    store.write(settle).await
}

async fn standing(store: &Store) -> (u64, Vec<Range>) {
    let standing = store.write(|tx| tx.standing(&stream())).await.unwrap();
    (standing.cursor, standing.beyond.as_slice().to_vec())
}

#[tokio::test]
async fn a_stream_is_settled_once_and_jumps_only_over_what_was_declared() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let none = Declared::default;
    assert_eq!(settle(&store, &[1], 1, none()).await.unwrap(), [Settled::New]);
    assert_eq!(settle(&store, &[1], 1, none()).await.unwrap(), [Settled::Repeat]);
    assert!(matches!(settle(&store, &[1], 2, none()).await, Err(StoreError::Fork(1))));
    assert!(matches!(settle(&store, &[5], 1, none()).await, Err(StoreError::Gap { expected: 2, got: 5 })));
    let dropped = Declared { dropped: [range(2, 4)].into_iter().collect(), ..none() };
    assert_eq!(settle(&store, &[5], 1, dropped).await.unwrap(), [Settled::New]);
    let waiting = Declared { waiting: [range(6, 8)].into_iter().collect(), ..none() };
    assert_eq!(settle(&store, &[9, 10], 1, waiting).await.unwrap(), [Settled::New, Settled::New]);
    assert!(matches!(settle(&store, &[4], 1, none()).await, Err(StoreError::Fork(4))), "it was declared lost");
    drop(store);
    let store = fixture.open();
    assert_eq!(standing(&store).await, (5, vec![range(9, 10)]));
    assert_eq!(settle(&store, &[6, 7, 8, 9], 1, none()).await.unwrap(), [Settled::New, Settled::New, Settled::New, Settled::Repeat]);
    assert_eq!(standing(&store).await, (10, vec![]));
    let stored = store.write(|tx| tx.stored_of(&stream(), range(1, 7))).await.unwrap();
    assert_eq!(stored, (4, 4), "1, 5, 6 and 7");
}

#[tokio::test]
async fn who_was_another_agent_before_knows_what_that_one_delivered() {
    let fixture = Fixture::new();
    let store = fixture.open();
    settle(&store, &[1, 2, 3], 1, Declared::default()).await.unwrap();
    let go_on = |tx: &Tx<'_>| {
        tx.inherit_streams(1, "a", "b")?;
        tx.inherit_streams(1, "a", "b")?;
        let (stream, none) = (Stream { agent: "b".into(), ..stream() }, Declared::default());
        let mut settling = tx.settling(&stream, &none)?;
        let settled = [settling.settle(3, &[1; 32], 1)?, settling.settle(4, &[1; 32], 1)?];
        settling.close(T0).map(|standing| (settled, standing.cursor))
    };
    assert_eq!(store.write(go_on).await.unwrap(), ([Settled::Repeat, Settled::New], 4));
    assert_eq!(standing(&store).await, (3, vec![]), "and counts for itself from there on");
}

#[tokio::test]
async fn of_losses_that_are_told_again_only_what_is_new_counts() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let declare = async |range: Range, items: u64| store.write(move |tx| tx.declare_lost(&stream(), range, items, T0)).await.unwrap();
    assert_eq!(declare(range(10, 19), 30).await, Some((range(10, 19), 30)));
    assert_eq!(declare(range(10, 19), 30).await, None, "the same again");
    assert_eq!(declare(range(12, 14), 9).await, None, "a part of it");
    assert_eq!(declare(range(10, 24), 40).await, Some((range(20, 24), 10)), "it grew");
    assert_eq!(declare(range(5, 9), 5).await, Some((range(5, 9), 5)), "beside it");
    assert_eq!(declare(range(8, 11), 100).await, None, "over the border of both");
    assert_eq!(declare(range(40, 49), 20).await, Some((range(40, 49), 20)));
    assert_eq!(declare(range(45, 54), 20).await, Some((range(50, 54), 10)), "half of what was told lies in it");
    assert_eq!(declare(range(1, 60), 1_000).await, Some((range(1, 60), 1_000 - 75)), "around all of them");
    assert_eq!(declare(range(1, 60), 1_000).await, None);
    assert_eq!(declare(range(70, 70), 0).await, Some((range(70, 70), 0)), "nobody knows how much");
    assert_eq!(declare(range(70, 71), 4).await, Some((range(71, 71), 4)));
    let other = |tx: &Tx<'_>| {
        tx.inherit_streams(1, "a", "b")?;
        let [b, c] = ["b", "c"].map(|agent| Stream { agent: agent.into(), ..stream() });
        let elsewhere = Stream { epoch: [2; 16], ..stream() };
        Ok([b, c, elsewhere].map(|stream| tx.declare_lost(&stream, range(10, 19), 30, T0).unwrap().is_some()))
    };
    assert_eq!(store.write(other).await.unwrap(), [false, true, true], "who was this agent before has told it; others have not");
    store.write(|tx| tx.forget_streams(T0 + 91 * 86_400_000)).await.unwrap();
    assert!(declare(range(10, 19), 30).await.is_some(), "forgotten with the stream");
}

#[tokio::test]
async fn a_batch_whose_bytes_are_not_known_any_more_is_never_passed_over_in_silence() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let numbers: Vec<u64> = (1..=4_200).collect();
    settle(&store, &numbers, 1, Declared::default()).await.unwrap();
    assert_eq!(settle(&store, &[105], 1, Declared::default()).await.unwrap(), [Settled::Repeat]);
    assert!(matches!(settle(&store, &[104], 1, Declared::default()).await, Err(StoreError::Fork(104))));
}

#[tokio::test]
async fn numbers_that_lie_in_too_many_pieces_are_refused_whole() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let numbers: Vec<u64> = (1..=2_050).map(|n| 2 * n).collect();
    let declared = || Declared { waiting: [range(1, 5_000)].into_iter().collect(), ..Declared::default() };
    assert!(matches!(settle(&store, &numbers, 1, declared()).await, Err(StoreError::Refused(_))));
    assert_eq!(standing(&store).await, (0, vec![]));
    settle(&store, &numbers[..1_000], 1, declared()).await.unwrap();
}

#[tokio::test]
async fn a_store_of_the_version_before_is_brought_up_to_date_and_knows_what_it_knew() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0, 5, 0.0, 0)).await.unwrap();
    settle(&store, &[1, 2], 1, Declared::default()).await.unwrap();
    drop(store);
    let back = "ALTER TABLE stream DROP COLUMN beyond; ALTER TABLE stream DROP COLUMN seen_ms; ALTER TABLE settled DROP COLUMN items; DROP TABLE lost; DROP TABLE place; PRAGMA user_version = 1";
    rusqlite::Connection::open(fixture.dir.path().join("main.db")).unwrap().execute_batch(back).unwrap();
    let store = fixture.open();
    assert_eq!(standing(&store).await, (2, vec![]));
    assert_eq!(settle(&store, &[2, 3], 1, Declared::default()).await.unwrap(), [Settled::Repeat, Settled::New]);
    assert_eq!(read(&store, "a", T0, T0 + 100_000).await.len(), 5);
    drop(store);
    rusqlite::Connection::open(fixture.dir.path().join("main.db")).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    let later = Store::open(fixture.dir.path(), &fixture.master, T0, 512 << 20).unwrap_err();
    assert!(matches!(later, StoreError::SchemaVersion { found: 9, .. }), "{later}");
}

#[tokio::test]
async fn a_stream_that_nobody_goes_on_with_is_forgotten_and_one_of_an_unknown_age_is_not() {
    let fixture = Fixture::new();
    let store = fixture.open();
    settle(&store, &[1], 1, Declared::default()).await.unwrap();
    let forget = async |at_ms: i64| store.write(move |tx| tx.forget_streams(at_ms)).await.unwrap();
    assert_eq!(forget(T0 + 89 * 86_400_000).await, 0);
    store.write(|tx| Ok(tx.connection.execute("UPDATE stream SET seen_ms = 0", [])?)).await.unwrap();
    assert_eq!(forget(T0 + 200 * 86_400_000).await, 0, "how old it is, is not known: it counts from now");
    assert_eq!(forget(T0 + 291 * 86_400_000).await, 1);
    assert_eq!(standing(&store).await, (0, vec![]));
}

#[tokio::test]
async fn of_an_agent_that_begins_anew_again_and_again_the_last_streams_are_remembered() {
    let fixture = Fixture::new();
    let store = fixture.open();
    settle(&store, &[1], 1, Declared::default()).await.unwrap();
    let many = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 1024)
                INSERT INTO stream SELECT tenant, agent, CAST(printf('%016d', i) AS BLOB), 1, 1, x'', seen_ms + i FROM stream, n";
    store.write(move |tx| Ok(tx.connection.execute(many, [])?)).await.unwrap();
    assert_eq!(store.write(|tx| tx.forget_streams(T0 + 86_400_000)).await.unwrap(), 1, "the oldest");
    assert_eq!(standing(&store).await, (0, vec![]));
    assert_eq!(store.write(|tx| tx.forget_streams(T0 + 86_400_000)).await.unwrap(), 0);
}
