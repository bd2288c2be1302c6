//! What fits is stored, whatever else comes with it, and what did not fit is not there after a start either.

use super::*;
use crate::index::Selector;

const LIMITS: Limits = Limits { per_tenant: 6, per_agent: 3 };

fn series(name: &str, tags: &[(&str, &str)]) -> Series {
    Series::new(name, MetricType::Gauge, Tags::new(tags.iter().copied()).unwrap()).unwrap()
}

/// Which of `names` the store takes from `host`, one sample each; the limits that the others met.
async fn taken(store: &Store, host: &'static str, names: &[&'static str]) -> Vec<Result<&'static str, Limit>> {
    let mut batch = batch(names, T0, 1, 0.0, 0);
    let body = store.seal_batch(1, host, &encode_batch(&batch).unwrap()).unwrap();
    let names = names.to_vec();
    let put = move |tx: &Tx<'_>| {
        let tenant = tx.tenant("default")?;
        let resolved = tx.resolve(tenant, Some(host), &batch.series)?;
        let refused = tx.append_batch(tenant, &mut batch, &resolved, &body)?;
        assert_eq!(refused.values().sum::<u64>(), resolved.refused.len() as u64, "one sample each");
        Ok((0..).zip(&names).map(|(place, name)| resolved.refusal(place).map_or(Ok(*name), Err)).collect())
    };
    store.write(put).await.unwrap()
}

/// The same for what a foreign protocol brings.
async fn foreign(store: &Store, all: &[Series]) -> Vec<Option<Limit>> {
    let runs = (0..).zip(all).map(|(at, _)| level0::Run { series: series::FRESH | at, start_ms: 0, end: at + 1 }).collect();
    let rows = level0::Rows { runs, times: vec![T0; all.len()], values: vec![1.0; all.len()] };
    let appended = store.append(1, rows, all.to_vec(), store.generation(), None).await.unwrap();
    let places: Vec<u32> = appended.refused.iter().map(|run| run.fresh).collect();
    assert_eq!(places, appended.resolved.refused.iter().map(|refused| refused.0).collect::<Vec<_>>());
    (0..).zip(all).map(|(at, _)| appended.resolved.refusal(at)).collect()
}

fn names(store: &Store) -> Vec<String> {
    store.index().select(1, &Selector::parse("**", []).unwrap(), 100).into_iter().map(|(_, series)| series.to_string()).collect()
}

#[tokio::test]
async fn of_new_series_as_many_as_fit_are_taken_and_known_ones_always() {
    let fixture = Fixture::new();
    let store = fixture.open_within(LIMITS);
    assert_eq!(taken(&store, "a", &["1", "2"]).await, [Ok("1"), Ok("2")]);
    assert_eq!(taken(&store, "a", &["2", "3", "4", "5", "1"]).await, [Ok("2"), Ok("3"), Err(Limit::Agent), Err(Limit::Agent), Ok("1")]);
    assert_eq!(taken(&store, "b", &["1", "2"]).await, [Ok("1"), Ok("2")], "a neighbour has its own");
    assert_eq!(taken(&store, "c", &["1", "2"]).await, [Ok("1"), Err(Limit::Tenant)]);
    assert_eq!(taken(&store, "a", &["4"]).await, [Err(Limit::Agent)], "whose fault it is comes first");
    assert_eq!((store.index().len(), store.head_points()), (6, 8), "what was refused took nothing");
    assert_eq!(*store.0.shared.next_series.lock().unwrap(), 7, "not even a number");
}

#[tokio::test]
async fn the_source_of_a_foreign_series_is_its_host_or_its_instance_or_nobody() {
    let fixture = Fixture::new();
    let store = fixture.open_within(Limits { per_tenant: 8, per_agent: 2 });
    let both = |name| series(name, &[("host", "a"), ("instance", "i")]);
    let instance = |name| series(name, &[("instance", "i")]);
    assert_eq!(foreign(&store, &[both("1"), both("2"), both("3")]).await, [None, None, Some(Limit::Agent)]);
    let all = [instance("1"), instance("2"), instance("3")];
    assert_eq!(foreign(&store, &all).await, [None, None, Some(Limit::Agent)], "those that have a host are the host's");
    let nobody = |name| series(name, &[("host", "")]);
    let all = [nobody("1"), nobody("2"), nobody("3"), nobody("4"), nobody("5")];
    assert_eq!(foreign(&store, &all).await, [None, None, None, None, Some(Limit::Tenant)]);
    assert_eq!(foreign(&store, &[nobody("1"), both("2"), instance("1")]).await, [None; 3], "known ones");
    let twice = [both("4"), both("4")];
    assert_eq!(foreign(&store, &twice).await, [Some(Limit::Agent); 2]);
}

#[tokio::test]
async fn what_is_not_committed_yet_counts_and_what_fails_does_not() {
    let fixture = Fixture::new();
    let store = fixture.open_within(LIMITS);
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let (began, begun) = tokio::sync::oneshot::channel();
    let blocker = store.write(move |_| {
        let _ = began.send(());
        let _ = wait.recv();
        Ok(())
    });
    let failing = store.write(|tx| {
        assert!(tx.resolve(1, Some("a"), &batch(&["x", "y", "z"], T0, 1, 0.0, 0).series)?.refused.is_empty());
        Err::<(), _>(StoreError::Refused("on purpose".into()))
    });
    let together = async {
        begun.await.unwrap();
        // Polled in this order: the three are one group by the time the blocker lets go.
        tokio::join!(failing, taken(&store, "a", &["1", "2"]), taken(&store, "a", &["2", "3", "4"]), async move { go.send(()).unwrap() })
    };
    let (_, (failed, first, second, ())) = tokio::join!(blocker, together);
    assert!(failed.is_err());
    assert_eq!(first, [Ok("1"), Ok("2")]);
    assert_eq!(second, [Ok("2"), Ok("3"), Err(Limit::Agent)]);
    let pending = store.0.shared.pending.lock().unwrap();
    assert_eq!(format!("{pending:?}"), format!("{:?}", limit::Pending::default()), "all of it has gone");
}

#[tokio::test]
async fn what_was_refused_stays_refused_after_a_start_even_where_it_would_fit_by_then() {
    let fixture = Fixture::new();
    let store = fixture.open_within(LIMITS);
    taken(&store, "a", &["1", "2", "3", "4"]).await;
    foreign(&store, &[series("f", &[("host", "a")]), series("g", &[])]).await;
    let (kept, points) = (names(&store), store.head_points());
    assert_eq!((kept.len(), points), (4, 4));
    drop(store);
    let store = fixture.open_within(LIMITS);
    assert_eq!((names(&store), store.head_points()), (kept, points));
    assert_eq!(taken(&store, "a", &["4", "3"]).await, [Err(Limit::Agent), Ok("3")], "the count comes back too");
    drop(store);
    let store = fixture.open();
    assert_eq!(taken(&store, "a", &["4"]).await, [Ok("4")]);
    let points = store.head_points();
    assert_eq!(points, 4 + 1 + 1);
    drop(store);
    let store = fixture.open();
    assert_eq!(store.head_points(), points, "what was declared lost stays lost");
    drop(store);
    let store = fixture.open_within(Limits { per_tenant: 1, per_agent: 1 });
    assert_eq!(taken(&store, "a", &["4", "9"]).await, [Ok("4"), Err(Limit::Agent)], "a lower limit takes nothing away");
}

#[test]
fn a_reason_says_which_limit_and_what_to_do() {
    let reason = |limit, of: &Series| LIMITS.reason(limit, of);
    let expected = "instance=\"i\" has 3 series, its limit (limits.series_per_agent): remove a tag that has many values, or raise the limit";
    assert_eq!(reason(Limit::Agent, &series("m", &[("instance", "i"), ("host", "")])), expected);
    assert!(reason(Limit::Tenant, &series("m", &[])).contains("has 6 series, its limit (limits.series_per_tenant)"));
    assert!(reason(Limit::All, &series("m", &[])).contains("2000000 series, as many as it can hold"));
}
