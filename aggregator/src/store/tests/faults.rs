//! What disks and clocks do to a store, and what must not come of it.

use super::*;

const HOUR: i64 = 3_600_000;

async fn push(store: Store) -> Result<Settled, StoreError> {
    let mut more = batch(&["base"], T0 + 100_000, 5, 100.0, 0);
    let body = store.seal_batch(1, "web-1", &encode_batch(&more).unwrap()).unwrap();
    store
        .write(move |tx| {
            let stream = Stream { tenant: 1, agent: "a".into(), epoch: [1; 16] };
            let declared = Declared::default();
            let mut settling = tx.settling(&stream, &declared)?;
            let settled = settling.settle(1, &[1; 32], 5)?;
            settling.close(T0)?;
            if settled == Settled::New {
                put(tx, &mut more, &body)?;
            }
            Ok(settled)
        })
        .await
}

#[tokio::test]
async fn work_that_panics_is_undone_and_neither_its_neighbours_nor_who_comes_later_notice() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let blocker = store.write(move |_| {
        let _ = wait.recv();
        Ok(())
    });
    let panics = store.write(|tx| {
        tx.append_batch(1, &mut batch(&["poison"], T0, 5, 0.0, 0), &tx.resolve(1, Some("web-1"), &batch(&["poison"], T0, 5, 0.0, 0).series)?, b"x")?;
        assert!(tx.connection.is_autocommit(), "on purpose: a transaction is open");
        Ok(())
    });
    let (_, panicked, neighbour, ()) = tokio::join!(blocker, panics, push(store.clone()), async move { go.send(()).unwrap() });
    assert!(matches!(panicked, Err(StoreError::Closed)), "{panicked:?}");
    assert_eq!(neighbour.unwrap(), Settled::New);
    assert_eq!(push(store.clone()).await.unwrap(), Settled::Repeat, "the store goes on");
    assert_eq!(read(&store, "base", T0, T0 + 1_000_000).await.len(), 5);
    let lines: i64 = store.read(|connection, _| Ok(connection.query_row("SELECT count(*) FROM level0", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!(lines, 1, "nothing of it is there");
}

#[tokio::test]
async fn a_disk_that_is_full_within_a_group_commits_nothing_of_its_neighbours() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["base"], T0, 5, 0.0, 0)).await.unwrap();
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let (began, begun) = tokio::sync::oneshot::channel();
    let blocker = store.write(move |_| {
        let _ = began.send(());
        let _ = wait.recv();
        Ok(())
    });
    let full = store.write(|tx| {
        let pages: i64 = tx.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        tx.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        let failed = tx.connection.execute("INSERT INTO gap (tenant, at_ms, body) VALUES (1, 1, zeroblob(1000000))", []);
        tx.connection.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()))?;
        failed?;
        Ok(())
    });
    let both = async {
        begun.await.unwrap();
        // Polled in this order: the two are one group by the time the blocker lets go.
        let (full, third, ()) = tokio::join!(full, push(store.clone()), async move { go.send(()).unwrap() });
        (full, third)
    };
    let (_, (full, third)) = tokio::join!(blocker, both);
    assert!(full.is_err() && third.is_err(), "nobody hears that it is stored: {full:?} {third:?}");
    assert_eq!(push(store.clone()).await.unwrap(), Settled::New, "what was not acknowledged was not stored");
    assert_eq!(read(&store, "base", T0, T0 + 1_000_000).await.len(), 10);
    store.flush().await.unwrap();
    drop(store);
    assert_eq!(read(&fixture.open(), "base", T0, T0 + 1_000_000).await.len(), 10);
}

#[tokio::test]
async fn the_zero_of_a_counter_overwrites_no_sample_that_is_in_blocks() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["c"], T0 - 10_000, 2, 600.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    drop(store);
    let store = fixture.open();
    append(&store, batch(&["c"], T0 + 10_000, 1, 5.0, T0)).await.unwrap();
    assert_eq!(read(&store, "c", T0 - 10_000, T0 + 10_000).await, [(T0 - 10_000, 600.0), (T0, 601.0), (T0 + 10_000, 5.0)]);
}

#[tokio::test]
async fn a_correction_stays_whatever_is_merged_after_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let day = T0.div_euclid(24 * HOUR) * 24 * HOUR;
    append(&store, batch(&["a"], day + HOUR, 1, 1.0, 0)).await.unwrap();
    append(&store, batch(&["a"], day + 10 * HOUR, 1, 1.0, 0)).await.unwrap();
    store.compact(&Progress::silent()).await.unwrap();
    append(&store, batch(&["a"], day + 10 * HOUR, 1, 2.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    for late in 1..3 {
        append(&store, batch(&["a"], day + HOUR + late * 10_000, 1, 3.0, 0)).await.unwrap();
        store.flush().await.unwrap();
    }
    let expected = [(day + HOUR, 1.0), (day + HOUR + 10_000, 3.0), (day + HOUR + 20_000, 3.0), (day + 10 * HOUR, 2.0)];
    assert_eq!(store.merge(day + 20 * HOUR, 0).await.unwrap(), 1, "the window of the late ones");
    assert_eq!(read(&store, "a", day, day + 11 * HOUR).await, expected);
    store.compact(&Progress::silent()).await.unwrap();
    assert_eq!(read(&store, "a", day, day + 11 * HOUR).await, expected, "and of the whole day");
}

#[tokio::test]
async fn the_log_of_a_day_that_was_dropped_half_is_not_taken_for_that_of_a_new_one() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a", "b"], T0, 5, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    let path = store.0.shared.partitions.path(partition::day_of(T0));
    // A reader in a transaction keeps the log from being emptied.
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM block;").unwrap();
    append(&store, batch(&["a", "b"], T0 + 60_000, 5, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    let log = path.with_extension("db-wal");
    let bytes = std::fs::read(&log).unwrap();
    assert!(!bytes.is_empty());
    drop(reader);
    store.retain(T0 + 60 * 24 * HOUR, &Policy::days(30)).await.unwrap();
    // As after a power cut between the two removals.
    std::fs::write(&log, &bytes).unwrap();
    drop(store);
    let store = fixture.open();
    append(&store, batch(&["a"], T0 + 300_000, 5, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(read(&store, "a", T0, T0 + 1_000_000).await.len(), 5);
}

#[tokio::test]
async fn a_flush_that_dies_half_way_is_done_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0, 5, 0.0, 0)).await.unwrap();
    // A directory has the name of the day's file.
    let path = store.0.shared.partitions.path(partition::day_of(T0));
    std::fs::create_dir(&path).unwrap();
    assert!(store.flush().await.is_err());
    assert_eq!((store.head_points(), read(&store, "a", T0, T0 + 1_000_000).await.len()), (5, 5));
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(store.flush().await.unwrap().samples, 5);
    assert_eq!(read(&store, "a", T0, T0 + 1_000_000).await.len(), 5);
}

#[tokio::test]
async fn a_start_makes_a_new_data_key_and_what_older_ones_sealed_still_opens() {
    let fixture = Fixture::new();
    let open = |at_ms: i64| Store::open(fixture.dir.path(), &fixture.master, at_ms, 512 << 20).unwrap();
    let keys = async |store: &Store| {
        store.read(|connection, _| Ok(connection.query_row("SELECT count(*) FROM data_key", [], |row| row.get::<_, i64>(0))?)).await.unwrap()
    };
    for (start, at_ms, expected) in [(0, T0, 1), (1, T0 + 60_000, 1), (2, T0 + 2 * HOUR, 2), (3, T0 - 48 * HOUR, 3)] {
        let store = open(at_ms);
        assert_eq!(keys(&store).await, expected, "start {start}; the last one's clock was set back");
        append(&store, batch(&["a"], T0 + start * 10_000, 1, 0.0, 0)).await.unwrap();
        if start == 1 {
            store.flush().await.unwrap();
        }
        assert_eq!(read(&store, "a", T0, T0 + HOUR).await.len(), usize::try_from(start).unwrap() + 1);
    }
}

#[tokio::test]
async fn a_file_that_a_crash_left_without_blocks_hides_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0, 10, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    drop(store.0.shared.partitions.writer(partition::day_of(T0) + 1).unwrap());
    drop(store);
    assert_eq!(read(&fixture.open(), "a", T0, T0 + 1_000_000).await.len(), 10);
}

#[tokio::test]
async fn whoever_asks_for_a_flush_and_leaves_stops_none_that_come_after() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0, 10, 0.0, 0)).await.unwrap();
    // As far as a blocking thread is at work on it, then the asker is gone.
    let mut flush = Box::pin(store.flush());
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(flush.as_mut().poll(context).is_pending())).await);
    drop(flush);
    for round in 1..4 {
        append(&store, batch(&["a"], T0 + round * 100_000, 10, 0.0, 0)).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(store.head_points(), 0, "round {round}");
    }
    assert_eq!(read(&store, "a", T0, T0 + 1_000_000).await.len(), 40);
}

#[tokio::test]
async fn series_of_a_group_that_failed_are_made_anew_by_the_next() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut more = batch(&["fresh"], T0, 5, 0.0, 0);
    let body = store.seal_batch(1, "web-1", &encode_batch(&more).unwrap()).unwrap();
    let mut again = batch(&["fresh"], T0, 5, 0.0, 0);
    let failing = store.write(move |tx| {
        put(tx, &mut more, &body)?;
        // As a disk that is full does.
        tx.connection.execute_batch("ROLLBACK")?;
        Ok(())
    });
    let body = store.seal_batch(1, "web-1", &encode_batch(&again).unwrap()).unwrap();
    let next = async {
        // Right behind it in the queue, but in another group.
        loop {
            let body = body.clone();
            let mut batch = std::mem::take(&mut again);
            let (result, back) = store
                .write(move |tx| {
                    let result = put(tx, &mut batch.clone(), &body);
                    Ok((result, std::mem::take(&mut batch)))
                })
                .await
                .map_or_else(|e| (Err(e), None), |(result, back)| (result, Some(back)));
            match (result, back) {
                (Ok(()), _) => break,
                (Err(_), back) => again = back.unwrap_or_else(|| super::batch(&["fresh"], T0, 5, 0.0, 0)),
            }
        }
    };
    let (failed, ()) = tokio::join!(failing, next);
    assert!(failed.is_err());
    drop(store);
    assert_eq!(read(&fixture.open(), "fresh", T0, T0 + 1_000_000).await.len(), 5);
}
