//! What is damaged is named, what can be mended is, and nothing that goes on at the same time is taken for a fault.

use super::*;
use crate::store::partition::day_of;
use crate::store::places::At;
use ledger::Table;

const DAY: i64 = 86_400_000;

/// A store with blocks of two days, a row of level 0, and records in every table.
async fn filled(fixture: &Fixture) -> Store {
    let store = fixture.open();
    append(&store, batch(&["a", "b"], T0, 60, 0.0, 0)).await.unwrap();
    append(&store, batch(&["a", "c"], T0 - DAY, 60, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    append(&store, batch(&["a"], T0 + 700_000, 5, 0.0, 0)).await.unwrap();
    let record = serde_json::json!({"some": "record"});
    store
        .write(move |tx| {
            [Table::Agent, Table::Key, Table::Rule].into_iter().try_for_each(|table| tx.put(table, 1, "x", &record))?;
            tx.put_place(1, At { key: "x", host: "web-1", path: "/x.pem", slot: 0 }, false, &record)?;
            tx.add_event(1, T0 - 2 * DAY, "created", &record)?;
            tx.add_gap(1, T0, &record)?;
            tx.put_token(1, "t", &record)?;
            tx.put_alert(1, "x", true, T0, &record)?;
            tx.add_history(1, "x", T0, &record)?;
            tx.add_notification(1, "k", "x", "mail", T0, &record)
        })
        .await
        .unwrap();
    store
}

/// Runs SQL on a file of the store, as one who tampers would.
fn tamper(fixture: &Fixture, file: &str, sql: &str) {
    let connection = rusqlite::Connection::open(fixture.dir.path().join(file)).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn flip(table: &str, at: &str, which: &str) -> String {
    let at = format!("({at})");
    // One in 256 is zero already.
    let other = format!("CASE substr(body, {at}, 1) WHEN x'00' THEN x'01' ELSE x'00' END");
    format!("UPDATE {table} SET body = CAST(substr(body, 1, {at} - 1) || {other} || substr(body, {at} + 1) AS BLOB) WHERE {which}")
}

fn today() -> String {
    format!("days/{}.db", day_name(T0))
}

fn day_name(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(day_of(at_ms) * DAY).unwrap().strftime("%Y-%m-%d").to_string()
}

fn offline(fixture: &Fixture) -> Verified {
    verify_at(fixture.dir.path(), &fixture.master, &Progress::silent()).unwrap()
}

#[tokio::test]
async fn a_store_that_is_whole_has_no_fault_served_or_not() {
    let fixture = Fixture::new();
    let store = filled(&fixture).await;
    let expected = Verified { files: 3, blocks: 2, samples: 240, series: 3, level0_rows: 1, records: 10, ..Verified::default() };
    assert_eq!(store.verify(&Progress::silent()).await.unwrap(), expected);
    drop(store);
    let bytes = || walk(fixture.dir.path()).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).filter(|(_, bytes)| !bytes.is_empty());
    let databases = || bytes().filter(|(file, _)| !file.to_string_lossy().ends_with("-shm")).collect::<std::collections::BTreeMap<_, _>>();
    let before = databases();
    assert_eq!(offline(&fixture), expected);
    assert_eq!(databases(), before, "a look changes nothing");
}

#[tokio::test]
async fn each_kind_of_damage_is_named_with_file_table_and_row() {
    let day = today();
    let day = day.as_str();
    let cases: Vec<(&str, String, &str, &str, &str)> = vec![
        (day, flip("block", "length(body) - 3", "id = 1"), "block", "1", "it does not open"),
        (day, flip("block", "40", "id = 1"), "block", "1", "it does not open"),
        (day, flip("block", "1", "id = 1"), "block", "1", "it does not open"),
        (day, "UPDATE block SET body = substr(body, 1, length(body) - 1)".into(), "block", "1", "it does not open"),
        (day, "UPDATE block SET samples = samples + 1".into(), "block", "1", "samples is 121 for 120"),
        (day, "UPDATE block SET t_min = t_min - 10000".into(), "block", "1", "t_min is"),
        (day, "UPDATE block SET t_max = t_max - 10000, series_max = 1".into(), "block", "1", "series_max is 1 for 2"),
        (day, "UPDATE block SET window = window + 7200000".into(), "block", "1", "window is"),
        (day, "UPDATE block SET id = 2".into(), "block", "2", "it does not open"),
        ("main.db", "DELETE FROM series WHERE id = 3".into(), "block", "1", "1 of its series have no row in main.db, so that no query finds them: 3"),
        ("main.db", flip("series", "40", "id = 1"), "series", "1", "it does not open"),
        ("main.db", "UPDATE series SET tenant = 7 WHERE id = 1".into(), "series", "1", "tenant 7"),
        ("main.db", flip("level0", "length(body)", "1"), "level0", "3", "it does not open"),
        ("main.db", flip("agent", "30", "1"), "agent", "x", "it does not open"),
        ("main.db", flip("key", "30", "1"), "key", "x", "it does not open"),
        ("main.db", flip("place", "30", "1"), "place", "x", "it does not open"),
        ("main.db", "UPDATE place SET at = zeroblob(16)".into(), "place", "x", "it does not open"),
        ("main.db", "UPDATE rule SET id = 'y'".into(), "rule", "y", "it does not open"),
        ("main.db", "UPDATE event SET at_ms = at_ms + 1".into(), "event", "1", "it does not open"),
        ("main.db", flip("gap", "30", "1"), "gap", "1", "it does not open"),
        ("main.db", flip("enroll_token", "30", "1"), "enroll_token", "t", "it does not open"),
        ("main.db", flip("alert", "30", "1"), "alert", "x", "it does not open"),
        ("main.db", flip("alert_history", "30", "1"), "alert_history", "x", "it does not open"),
        ("main.db", "UPDATE outbox SET unique_key = 'other'".into(), "outbox", "other", "it does not open"),
        ("main.db", "DROP TABLE outbox".into(), "outbox", "", "its rows cannot be read"),
    ];
    for (file, sql, table, row, words) in cases {
        let fixture = Fixture::new();
        drop(filled(&fixture).await);
        tamper(&fixture, file, &sql);
        let found = offline(&fixture);
        let named = |fault: &&Fault| fault.table == table && fault.row.split(' ').next() == Some(row) && fault.what.contains(words);
        let fault = found.first_faults.iter().find(named).unwrap_or_else(|| panic!("{sql}: {:?}", found.first_faults));
        assert!(
            !fault.advice.is_empty()
                && fault.file == if table == "block" && file == "main.db" { format!("days/{}.db", day_name(T0 - DAY)) } else { file.into() },
            "{fault:?}"
        );
        assert!(found.faults <= 2, "{sql}: no fault but of what was damaged: {:?}", found.first_faults);
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_and_a_page_that_is_torn_are_faults_and_the_rest_is_read() {
    let fixture = Fixture::new();
    drop(filled(&fixture).await);
    let path = fixture.dir.path().join(today());
    let mut bytes = std::fs::read(&path).unwrap();
    let torn = bytes.len() - 1_000;
    bytes[torn..].fill(0x5a);
    bytes[2_048..2_148].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    let found = offline(&fixture);
    assert!(found.faults > 0 && found.first_faults.iter().all(|fault| fault.file == today()), "{found:?}");
    std::fs::write(&path, "no database").unwrap();
    let found = offline(&fixture);
    assert!(found.faults > 0 && found.first_faults[0].what.contains("not a database"), "{found:?}");
    assert_eq!((found.blocks, found.samples), (1, 120), "the other day");
}

#[tokio::test]
async fn all_faults_are_counted_and_a_hundred_are_told() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for n in 0..150 {
        let record = serde_json::json!(n);
        store.write(move |tx| tx.put(Table::Key, 1, &n.to_string(), &record)).await.unwrap();
    }
    drop(store);
    tamper(&fixture, "main.db", &flip("key", "30", "1"));
    let found = offline(&fixture);
    assert_eq!((found.faults, found.first_faults.len()), (150, 100));
}

#[tokio::test]
async fn reindex_sets_right_what_rows_say_and_leaves_what_does_not_open() {
    let fixture = Fixture::new();
    let store = filled(&fixture).await;
    tamper(&fixture, &today(), "UPDATE block SET samples = 9, t_max = t_min, series_min = 2, window = 0");
    let yesterday = format!("days/{}.db", day_name(T0 - DAY));
    tamper(&fixture, &yesterday, &flip("block", "length(body) - 3", "1"));
    assert_eq!(store.verify(&Progress::silent()).await.unwrap().faults, 2);
    let done = store.reindex(&Progress::silent()).await.unwrap();
    assert_eq!(done, Reindexed { files: 3, blocks: 2, mended: 1, damaged: 1, ..Reindexed::default() });
    let found = store.verify(&Progress::silent()).await.unwrap();
    assert!(found.faults == 1 && found.first_faults[0].file == yesterday, "{found:?}");
    assert_eq!(read(&store, "a", T0, T0 + 600_000).await.len(), 60);
}

#[tokio::test]
async fn a_series_that_the_index_lost_is_named_and_found_again() {
    let fixture = Fixture::new();
    let store = filled(&fixture).await;
    assert_eq!(store.index().remove([2]), 1);
    let found = store.verify(&Progress::silent()).await.unwrap();
    assert!(found.faults == 1 && found.first_faults[0].row == "2" && found.first_faults[0].what.contains("not in the index"), "{found:?}");
    let done = store.reindex(&Progress::silent()).await.unwrap();
    let again = store.verify(&Progress::silent()).await.unwrap();
    assert_eq!((done.series_added, again.faults), (1, 0), "{again:?}");
    assert_eq!(read(&store, "b", T0, T0 + 600_000).await.len(), 60);
}

#[tokio::test]
async fn cleanup_says_what_would_go_and_then_that_goes_also_from_memory() {
    let fixture = Fixture::new();
    let store = filled(&fixture).await;
    append(&store, batch(&["a"], T0 - 2 * DAY, 5, 0.0, 0)).await.unwrap();
    let before_ms = day_of(T0) * DAY;
    let dry = store.cleanup(before_ms, true, &Progress::silent()).await.unwrap();
    assert_eq!((&dry.days, dry.records), (&vec![day_name(T0 - DAY)], 1));
    assert_eq!(store.verify(&Progress::silent()).await.unwrap().blocks, 2, "nothing was changed");
    let done = store.cleanup(before_ms, false, &Progress::silent()).await.unwrap();
    assert_eq!((&done.days, done.records), (&vec![day_name(T0 - 2 * DAY), day_name(T0 - DAY)], 1));
    assert!(done.bytes >= dry.bytes && dry.bytes > 0);
    assert_eq!(read(&store, "a", 0, T0 + DAY).await.len(), 65);
    let found = store.verify(&Progress::silent()).await.unwrap();
    assert_eq!((found.files, found.records, found.faults), (2, 9, 0));
}

#[tokio::test]
async fn what_a_crash_left_in_level_0_does_not_come_back_when_its_day_was_given_up() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0 - 2 * DAY, 5, 0.0, 0)).await.unwrap();
    // The blocks are committed, the rows are not deleted yet: then the process dies.
    store.0.shared.write_blocks().unwrap().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.verify(&Progress::silent()).await.unwrap().level0_rows, 1);
    assert_eq!(store.cleanup(T0, false, &Progress::silent()).await.unwrap().days.len(), 1);
    drop(store);
    let store = fixture.open();
    assert_eq!((store.head_points(), store.verify(&Progress::silent()).await.unwrap().level0_rows), (0, 0));
    assert_eq!(read(&store, "a", 0, T0).await, []);
}

#[tokio::test]
async fn steps_lead_to_the_end_and_nobody_who_waits_is_the_end() {
    let fixture = Fixture::new();
    let store = filled(&fixture).await;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let (told, gone) = (Arc::clone(&steps), Arc::new(AtomicBool::new(false)));
    let progress = Progress::new(Arc::clone(&gone), move |step| told.lock().unwrap().push(step));
    store.verify(&progress).await.unwrap();
    let all = std::mem::take(&mut *steps.lock().unwrap());
    assert_eq!(all.first().map(|step| (step.step.as_str(), step.done, step.total)), Some(("main.db", 0, 15)));
    assert!(all.is_sorted_by_key(|step| step.done) && all.last().unwrap().step == today(), "{all:?}");
    store.compact(&progress).await.unwrap();
    let all = std::mem::take(&mut *steps.lock().unwrap());
    assert_eq!(all.iter().map(|step| step.step.clone()).collect::<Vec<_>>(), [day_name(T0 - DAY), day_name(T0)]);
    gone.store(true, Ordering::Relaxed);
    assert!(matches!(store.verify(&progress).await, Err(StoreError::Gone)));
    assert!(matches!(store.compact(&progress).await, Err(StoreError::Gone)));
    assert!(matches!(store.reindex(&progress).await, Err(StoreError::Gone)));
    assert!(matches!(store.cleanup(T0, false, &progress).await, Err(StoreError::Gone)));
    assert_eq!(store.verify(&Progress::silent()).await.unwrap().blocks, 3, "no day was dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_that_goes_on_meanwhile_is_a_fault() {
    const ROUNDS: i64 = 24;
    let fixture = Fixture::new();
    let store = fixture.open();
    let writing = async {
        for n in 0..ROUNDS {
            let name = format!("s{n}");
            for day in 0..4 {
                append(&store, batch(&["a", &name], T0 - day * DAY + n * 300_000, 30, n as f64, 0)).await.unwrap();
            }
            store.flush().await.unwrap();
            if n % 3 == 0 {
                store.merge(T0 + DAY, T0).await.unwrap();
            }
            if n % 6 == 5 {
                // The oldest day goes, and comes again with the next round.
                store.retain(day_of(T0) * DAY, &Policy::days(2)).await.unwrap();
                store.reindex(&Progress::silent()).await.unwrap();
            }
        }
    };
    let looks = std::cell::Cell::new(0);
    let looking = async {
        loop {
            let found = store.verify(&Progress::silent()).await.unwrap();
            assert_eq!(found.faults, 0, "look {}: {:?}", looks.get(), found.first_faults);
            looks.set(looks.get() + 1);
        }
    };
    tokio::select! {
        () = writing => {}
        () = looking => {}
    }
    println!("{} looks", looks.get());
    assert!(looks.get() > 0);
    assert_eq!(store.verify(&Progress::silent()).await.unwrap().faults, 0);
    assert_eq!(read(&store, "a", day_of(T0) * DAY, T0 + DAY).await.len() as i64, ROUNDS * 30);
}
