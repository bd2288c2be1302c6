//! Series leave and come back as others; nobody gets a sample of somebody else, and nothing that has samples leaves.

use super::*;
use crate::index::Selector;

const EVER: i64 = i64::MAX;

fn ids(store: &Store, pattern: &str) -> Vec<SeriesId> {
    store.index().select(1, &Selector::parse(pattern, []).unwrap(), 10_000).into_iter().map(|(id, _)| id).collect()
}

/// A sample of each of `names`, into blocks, and dropped again with their day: as retention leaves them.
async fn expired(store: &Store, names: &[&str]) {
    append(store, batch(names, T0 - 40 * 86_400_000, 1, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    let day = partition::day_of(T0 - 40 * 86_400_000);
    store.alone(move |shared| shared.partitions.remove(day)).await.unwrap();
    store.0.shared.head.cool();
}

#[tokio::test]
async fn a_series_that_was_forgotten_comes_back_under_another_id_and_its_place_was_free_meanwhile() {
    let fixture = Fixture::new();
    let limits = Limits { per_tenant: 10, per_agent: 2 };
    let store = fixture.open_within(limits);
    expired(&store, &["a", "b"]).await;
    let (a, b) = (ids(&store, "a"), ids(&store, "b"));
    append(&store, batch(&["c"], T0, 1, 0.0, 0)).await.unwrap();
    assert!(ids(&store, "c").is_empty(), "there is no place");
    assert_eq!(store.forget_series([&b[..], &b, &[77]].concat()).await.unwrap(), 1);
    assert_eq!((ids(&store, "a"), ids(&store, "b")), (a.clone(), vec![]));
    drop(store);
    let store = fixture.open_within(limits);
    assert_eq!((ids(&store, "a"), ids(&store, "b")), (a.clone(), vec![]), "after a start");
    append(&store, batch(&["b", "c"], T0, 3, 5.0, 0)).await.unwrap();
    let again = ids(&store, "b");
    assert!(again[0] > b[0], "the number of the one that was the last is not given again: {again:?} {b:?}");
    assert!(ids(&store, "c").is_empty());
    drop(store);
    let store = fixture.open_within(limits);
    assert_eq!((ids(&store, "a"), ids(&store, "b")), (a, again));
    assert_eq!(read(&store, "b", 0, EVER).await.len(), 3, "only its own samples");
}

#[tokio::test]
async fn what_has_samples_in_memory_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    expired(&store, &["old", "active", "frozen", "late"]).await;
    append(&store, batch(&["frozen"], T0, 1, 0.0, 0)).await.unwrap();
    let frozen = store.0.shared.head.freeze().unwrap();
    append(&store, batch(&["active"], T0, 1, 0.0, 0)).await.unwrap();
    let all = ids(&store, "**");
    assert_eq!(all.len(), 4);
    let before = store.generation();
    assert_eq!(store.forget_series(all.clone()).await.unwrap(), 2, "old and late");
    assert_eq!((ids(&store, "{active,frozen}").len(), store.index().len()), (2, 2));
    assert!(store.generation() > before);
    store.0.shared.head.unfreeze(|_| true);
    drop(frozen);
    store.flush().await.unwrap();
    let before = store.generation();
    assert_eq!(store.forget_series(vec![]).await.unwrap() + store.forget_series(vec![999]).await.unwrap(), 0);
    assert_eq!(store.generation(), before, "nobody is sent away for nothing");
    assert_eq!(read(&store, "frozen", 0, EVER).await.len(), 1);
}

#[tokio::test]
async fn whoever_found_an_id_before_is_told_to_come_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    expired(&store, &["a", "b"]).await;
    let old = store.write(|tx| tx.resolve(1, Some("web-1"), &batch(&["a", "b"], T0, 1, 0.0, 0).series)).await.unwrap();
    assert_eq!(store.forget_series(ids(&store, "a")).await.unwrap(), 1);
    let mut more = batch(&["a", "b"], T0, 1, 0.0, 0);
    let body = store.seal_batch(1, "web-1", &encode_batch(&more).unwrap()).unwrap();
    let stale = old.clone();
    let refused = store.write(move |tx| tx.append_batch(1, &mut more, &stale, &body)).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    let rows = || level0::Rows { runs: vec![level0::Run { series: old.ids[0], start_ms: 0, end: 1 }], times: vec![T0], values: vec![1.0] };
    assert!(matches!(store.append(1, rows(), Vec::new(), old.generation, None).await, Err(StoreError::Busy)));
    assert_eq!(store.head_points(), 0);
    append(&store, batch(&["a", "b"], T0, 1, 0.0, 0)).await.unwrap();
    assert_eq!((read(&store, "a", 0, EVER).await.len(), ids(&store, "a") > old.ids.to_vec()), (1, true), "it comes again, and is stored");
}

#[tokio::test]
async fn what_is_committed_together_with_the_end_of_a_series_neither_loses_nor_revives_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    expired(&store, &["before", "after", "cached"]).await;
    let known = store.write(|tx| tx.resolve(1, Some("web-1"), &batch(&["cached"], T0, 1, 0.0, 0).series)).await.unwrap();
    let all = ids(&store, "**");
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let (began, begun) = tokio::sync::oneshot::channel();
    let blocker = store.write(move |_| {
        let _ = began.send(());
        let _ = wait.recv();
        Ok(())
    });
    let rows = level0::Rows { runs: vec![level0::Run { series: known.ids[0], start_ms: 0, end: 1 }], times: vec![T0], values: vec![1.0] };
    let together = async {
        begun.await.unwrap();
        // Polled in this order: the four are one group by the time the blocker lets go.
        tokio::join!(
            append(&store, batch(&["before"], T0, 1, 0.0, 0)),
            store.forget_series(all),
            append(&store, batch(&["after"], T0, 1, 0.0, 0)),
            store.append(1, rows, Vec::new(), known.generation, None),
            async move { go.send(()).unwrap() }
        )
    };
    let (_, (before, forgotten, after, cached, ())) = tokio::join!(blocker, together);
    before.unwrap();
    assert_eq!(forgotten.unwrap(), 2);
    assert!(matches!((&after, &cached), (Err(StoreError::Busy), Err(StoreError::Busy))), "{after:?} {cached:?}");
    assert_eq!(read(&store, "before", 0, EVER).await.len(), 1);
    append(&store, batch(&["after"], T0, 1, 0.0, 0)).await.unwrap();
    assert_eq!(read(&store, "after", 0, EVER).await.len(), 1);
    assert_eq!(store.index().len(), 2);
    assert!(store.0.shared.pending.lock().unwrap().leaving.is_empty());
}

#[tokio::test]
async fn a_row_of_many_series_keeps_those_that_stay_and_an_empty_one_goes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let names: Vec<String> = (0..2_500).map(|n| format!("m{n:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    expired(&store, &names).await;
    let all = ids(&store, "**");
    // All of the second row, and every second one of the first.
    let gone: Vec<SeriesId> =
        all.iter().copied().enumerate().filter(|(at, _)| (1_000..2_000).contains(at) || (*at < 1_000 && at % 2 == 0)).map(|(_, id)| id).collect();
    assert_eq!(store.forget_series(gone.iter().rev().copied().collect()).await.unwrap(), 1_500);
    let rows =
        async |store: &Store| store.write(|tx| Ok(tx.connection.query_row("SELECT count(*) FROM series", [], |row| row.get::<_, i64>(0))?)).await.unwrap();
    assert_eq!(rows(&store).await, 2);
    let left: Vec<SeriesId> = all.iter().copied().filter(|id| gone.binary_search(id).is_err()).collect();
    assert_eq!(ids(&store, "**"), left);
    drop(store);
    let store = fixture.open();
    assert_eq!(ids(&store, "**"), left, "after a start");
    assert_eq!(store.forget_series(left[1..].to_vec()).await.unwrap(), 999);
    assert_eq!(store.forget_series(left).await.unwrap(), 1, "the first of a row is found like any other");
    assert_eq!(rows(&store).await, 0);
    drop(store);
    let store = fixture.open();
    append(&store, batch(&["new"], T0, 1, 0.0, 0)).await.unwrap();
    assert!(ids(&store, "new")[0] > *all.last().unwrap(), "no number is given twice, even when no row tells of it");
}
