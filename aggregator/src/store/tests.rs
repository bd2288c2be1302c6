mod faults;
mod forget;
mod limits;
mod model;
mod streams;
mod upkeep;

use super::*;
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::seal::SealError;
use keyvigil_common::wire::{Batch, Column, Group, encode_batch};

const T0: i64 = 1_763_836_800_000;

struct Fixture {
    dir: tempfile::TempDir,
    master: MasterKey,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), master: MasterKey::generate() }
    }

    fn open(&self) -> Store {
        self.open_within(Limits::default())
    }

    fn open_within(&self, limits: Limits) -> Store {
        Store::open_within(self.dir.path(), &self.master, T0, 512 << 20, limits).unwrap()
    }
}

/// `count` points 10 s apart from `from` in each of `names`, value = position + offset.
fn batch(names: &[&str], from: i64, count: usize, offset: f64, start_ms: i64) -> Batch {
    let series = names.iter().map(|n| Series::new(*n, MetricType::Gauge, Tags::default()).unwrap()).collect();
    let times = (0..count).map(|n| from + n as i64 * 10_000).collect();
    let values = |_: usize| (0..count).map(|n| n as f64 + offset).collect();
    let columns = (0..names.len()).map(|at| Column { series: at as u32, start_ms, values: values(at) }).collect();
    Batch { sealed_ms: from, series, groups: vec![Group { sensor: "test".into(), interval_ms: 10_000, times, columns }], ..Batch::default() }
}

async fn append(store: &Store, mut batch: Batch) -> Result<(), StoreError> {
    let body = store.seal_batch(1, "web-1", &encode_batch(&batch).unwrap()).unwrap();
    store.write(move |tx| put(tx, &mut batch, &body)).await
}

fn put(tx: &Tx<'_>, batch: &mut Batch, body: &[u8]) -> Result<(), StoreError> {
    let tenant = tx.tenant("default")?;
    let ids = tx.resolve(tenant, Some("web-1"), &batch.series)?;
    tx.append_batch(tenant, batch, &ids, body).map(drop)
}

async fn read(store: &Store, name: &str, from: i64, to: i64) -> Vec<Point> {
    let selector = crate::index::Selector::parse(name, []).unwrap();
    let found = store.index().select(1, &selector, 10);
    assert_eq!(found.len(), 1, "{name}");
    assert_eq!(found[0].1.tags.get("host"), Some("web-1"));
    store.select(&[found[0].0], from, to, 1_000_000).await.unwrap().remove(0)
}

#[tokio::test]
async fn what_was_committed_is_read_from_memory_from_blocks_and_after_a_restart() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a", "b"], T0, 60, 0.0, 0)).await.unwrap();
    let expected: Vec<Point> = (0..60).map(|n| (T0 + n * 10_000, n as f64)).collect();
    assert_eq!(read(&store, "b", T0, T0 + 600_000).await, expected);
    drop(store);
    let store = fixture.open();
    assert_eq!(read(&store, "b", T0, T0 + 600_000).await, expected, "level 0 after a restart");
    let flushed = store.flush().await.unwrap();
    assert_eq!((flushed.samples, flushed.blocks), (120, 1), "two series that share their times are one block");
    assert_eq!(store.head_points(), 0);
    assert_eq!(read(&store, "b", T0 + 10_000, T0 + 20_000).await, expected[1..3]);
    drop(store);
    assert_eq!(read(&fixture.open(), "a", T0, T0 + 600_000).await, expected, "blocks after a restart");
}

#[tokio::test]
async fn late_and_corrected_samples_merge_and_small_blocks_become_one() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for part in [3i64, 0, 2, 1] {
        append(&store, batch(&["a"], T0 + part * 100_000, 10, part as f64 * 10.0, 0)).await.unwrap();
        store.flush().await.unwrap();
    }
    append(&store, batch(&["a"], T0 + 50_000, 1, 99.0, 0)).await.unwrap();
    let mut expected: Vec<Point> = (0..40).map(|n| (T0 + n * 10_000, n as f64)).collect();
    expected[5].1 = 99.0;
    assert_eq!(read(&store, "a", T0, T0 + 1_000_000).await, expected, "the later value of an instant wins over the block");
    store.flush().await.unwrap();
    assert_eq!(store.merge(T0 + 30 * 86_400_000, 0).await.unwrap(), 1);
    assert_eq!(store.merge(T0 + 30 * 86_400_000, 0).await.unwrap(), 0, "nothing left to merge");
    assert_eq!(read(&store, "a", T0, T0 + 1_000_000).await, expected);
    assert_eq!(store.size().await.unwrap().block_samples, 40);
}

#[tokio::test]
async fn a_range_over_many_days_reads_each_and_old_days_drop_whole() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let day = 86_400_000;
    for n in 0..4 {
        append(&store, batch(&["a"], T0 - n * day, 2, n as f64, 0)).await.unwrap();
    }
    store.flush().await.unwrap();
    assert_eq!(read(&store, "a", T0 - 10 * day, T0 + day).await.len(), 8);
    assert_eq!(store.retain(T0, &Policy::days(1)).await.unwrap().dropped.len(), 2);
    assert_eq!(read(&store, "a", T0 - 10 * day, T0 + day).await.len(), 4);
}

#[tokio::test]
async fn a_crash_between_blocks_and_the_deletion_of_level_0_doubles_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0, 10, 0.0, 0)).await.unwrap();
    // The blocks are committed, the rows are not deleted yet: then the process dies.
    store.0.shared.write_blocks().unwrap().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.head_points(), 0, "rows that are in blocks are not read back");
    append(&store, batch(&["a"], T0 + 100_000, 10, 10.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    let expected: Vec<Point> = (0..20).map(|n| (T0 + n * 10_000, n as f64)).collect();
    assert_eq!(read(&store, "a", T0, T0 + 1_000_000).await, expected);
    assert_eq!(store.size().await.unwrap().block_samples, 20);
}

#[tokio::test]
async fn a_piece_that_fails_does_not_fail_its_neighbours_and_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut bad = batch(&["poison"], T0, 5, 0.0, 0);
    let body = store.seal_batch(1, "web-1", &encode_batch(&bad).unwrap()).unwrap();
    let failing = store.write(move |tx| {
        put(tx, &mut bad, &body)?;
        Err::<(), _>(StoreError::Refused("on purpose".into()))
    });
    let (failed, good) = tokio::join!(failing, append(&store, batch(&["good"], T0, 5, 0.0, 0)));
    assert!(matches!(failed, Err(StoreError::Refused(_))));
    good.unwrap();
    assert_eq!((store.index().len(), store.head_points()), (1, 5));
    append(&store, batch(&["poison"], T0, 5, 0.0, 0)).await.unwrap();
    drop(store);
    assert_eq!(read(&fixture.open(), "poison", T0, T0 + 100_000).await.len(), 5);
}

#[tokio::test]
async fn the_wrong_master_key_opens_nothing_and_changes_nothing() {
    let fixture = Fixture::new();
    append(&fixture.open(), batch(&["a"], T0, 5, 0.0, 0)).await.unwrap();
    let error = Store::open(fixture.dir.path(), &MasterKey::generate(), T0, 512 << 20).unwrap_err();
    assert!(matches!(error, StoreError::Seal(SealError::WrongKey)), "{error}");
    assert_eq!(read(&fixture.open(), "a", T0, T0 + 100_000).await.len(), 5);
}

#[tokio::test]
async fn names_and_tags_are_not_readable_in_the_files() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["marker_metric_name"], T0, 5, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    drop(store);
    for file in walk(fixture.dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(13).any(|w| w == b"marker_metric"), "{}", file.display());
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_counter_that_just_began_has_its_zero_and_an_old_one_has_not() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["young"], T0, 2, 5.0, T0 - 30_000)).await.unwrap();
    append(&store, batch(&["old"], T0, 2, 5.0, T0 - 30 * 86_400_000)).await.unwrap();
    assert_eq!(read(&store, "young", T0 - 60_000, T0).await, [(T0 - 30_000, 0.0), (T0, 5.0)]);
    assert_eq!(read(&store, "old", 0, T0).await, [(T0, 5.0)]);
    append(&store, batch(&["young"], T0 + 60_000, 1, 1.0, T0 + 50_000)).await.unwrap();
    assert_eq!(read(&store, "young", T0 + 50_000, T0 + 60_000).await, [(T0 + 50_000, 0.0), (T0 + 60_000, 1.0)], "a restart is a reset to zero");
}

#[tokio::test]
async fn a_series_with_as_many_tags_as_there_may_be_does_not_keep_the_store_from_starting() {
    let fixture = Fixture::new();
    let mut wide = batch(&["wide"], T0, 1, 0.0, 0);
    let tags = (0..keyvigil_common::limits::TAGS_MAX).map(|n| (format!("t{n}"), "x"));
    wide.series[0].tags = Tags::new(tags).unwrap();
    append(&fixture.open(), wide).await.unwrap();
    assert_eq!(read(&fixture.open(), "wide", T0, T0).await.len(), 1);
}

#[tokio::test]
async fn more_samples_than_one_block_holds_are_read_back_and_merged_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let count = 40_000;
    for part in 0..2 {
        let mut dense = batch(&["dense"], T0, count, 0.0, 0);
        dense.groups[0].times = (0..count as i64).map(|n| T0 + 2 * n + part).collect();
        append(&store, dense).await.unwrap();
        store.flush().await.unwrap();
    }
    assert_eq!(read(&store, "dense", T0, T0 + 1_000_000).await.len(), 2 * count);
    assert_eq!(store.merge(T0 + 30 * 86_400_000, 0).await.unwrap(), 1);
    assert_eq!(store.merge(T0 + 30 * 86_400_000, 0).await.unwrap(), 0, "long columns are not merged again and again");
    assert_eq!(read(&store, "dense", T0, T0 + 1_000_000).await.len(), 2 * count);
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_is_not_read_on() {
    let fixture = Fixture::new();
    let store = fixture.open();
    append(&store, batch(&["a"], T0, 10, 0.0, 0)).await.unwrap();
    store.flush().await.unwrap();
    let id = store.index().select(1, &crate::index::Selector::parse("a", []).unwrap(), 1)[0].0;
    let gone = AtomicBool::new(true);
    assert!(matches!(store.0.shared.points_of(plan::Of::Raw, &[id], (0, T0 * 2), &gone), Err(StoreError::Gone)));
    gone.store(false, Ordering::Relaxed);
    assert_eq!(store.0.shared.points_of(plan::Of::Raw, &[id], (0, T0 * 2), &gone).unwrap()[0].len(), 10);
}
