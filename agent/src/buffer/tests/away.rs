//! The disk takes nothing for a while: memory stands in, and nothing is lost or sent under two numbers.

use super::*;
use rusqlite::{Error, ffi};

fn fails(code: i32) -> BufferError {
    BufferError::Sqlite(Error::SqliteFailure(ffi::Error::new(code), None))
}

#[test]
fn a_state_directory_that_is_missing_is_stood_in_for_and_taken_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(place(&dir.path().join("state")), key(dir.path()), WIDE, T0).unwrap();
    assert!(queue.level().degraded.is_some_and(|why| why.contains("unable to open")));
    fill(&mut queue, Class::Sample, 10, T0..T0 + 3);
    let front = live(&mut queue, T0);
    assert_eq!(seqs(&front), [1, 2, 3], "what memory holds is delivered");
    queue.acked(front.epoch, 2, vec![], T0).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    fill(&mut queue, Class::Sample, 10, [T0 + 9_999]);
    assert!(queue.level().degraded.is_some(), "not tried all the time");
    fill(&mut queue, Class::Sample, 10, [T0 + 10_000]);
    assert_eq!(queue.level().degraded, None);
    let front = live(&mut queue, T0);
    assert_eq!((front.epoch, seqs(&front)), (queue.level().epoch, vec![3, 4, 5]), "numbers stay: the aggregator knows them");
    drop(queue);
    let mut queue = Queue::open(place(&dir.path().join("state")), key(dir.path()), WIDE, T0).unwrap();
    assert_eq!(live(&mut queue, T0), front, "and it is on disk");
}

#[test]
fn a_file_that_became_read_only_is_left_where_it_is_and_delivered_after_the_disk_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    let remember = |value: Option<u8>| vec![("keystore", "a".to_owned(), value.map(|v| vec![v]))];
    queue.append(vec![new(Class::Sample, 10, T0)], remember(Some(1)), vec![(Class::Key, 5, "not encoded")], T0).unwrap();
    let old = live(&mut queue, T0);
    let (gap, _) = queue.gaps(T0).unwrap().remove(0);
    queue.file.connection.pragma_update(None, "query_only", true).unwrap();
    let told = vec![New { told: vec![gap], ..new(Class::Alert, 10, T0 + 1) }];
    queue.append(told, remember(None), vec![], T0 + 1).unwrap();
    assert!(queue.level().degraded.is_some());
    assert_eq!(queue.level().batches, 2, "what lies on disk is counted as it was");
    let new_one = live(&mut queue, T0 + 2);
    assert_eq!((new_one.epoch, seqs(&new_one), &new_one.waiting[..]), (old.epoch, vec![3], &[range(1, 2)][..]), "memory counts on");
    queue.acked(old.epoch, 2, vec![], T0 + 3).unwrap();
    let back = T0 + 20_000;
    let front = live(&mut queue, back);
    assert_eq!(queue.level().degraded, None);
    assert_eq!((front.epoch, &front.frames), (new_one.epoch, &new_one.frames), "the ack of what was on its way counts");
    assert!(queue.gaps(back).unwrap().is_empty(), "the gap on disk was told by a batch in memory");
    assert!(queue.remembered("keystore", back).unwrap().unwrap().is_empty(), "what was forgotten meanwhile is forgotten");
    queue.set_aside(front.epoch, 3, "refused".into(), back).unwrap();
    assert_eq!(queue.gaps(back).unwrap().len(), 2, "and is to be told again");
}

#[test]
fn what_sensors_remembered_on_a_disk_that_is_away_at_the_start_is_told_when_it_is_back() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (state, away) = (dir.path().join("state"), elsewhere.path().join("state"));
    std::fs::create_dir(&state).unwrap();
    let remember = |key: &str, value: u8| vec![("keystore", key.to_owned(), Some(vec![value]))];
    let mut queue = Queue::open(place(&state), key(dir.path()), WIDE, T0).unwrap();
    queue.append(vec![], [remember("a", 1), remember("b", 1)].concat(), vec![], T0).unwrap();
    queue.close(T0).unwrap();
    drop(queue);
    std::fs::rename(&state, &away).unwrap();
    let mut queue = Queue::open(place(&state), key(dir.path()), WIDE, T0).unwrap();
    assert_eq!(queue.remembered("keystore", T0).unwrap(), None, "unknown, not nothing");
    queue.append(vec![], [remember("a", 2), remember("c", 2)].concat(), vec![], T0).unwrap();
    std::fs::rename(&away, &state).unwrap();
    let back = T0 + 20_000;
    let before = vec![("a".to_owned(), vec![1]), ("b".to_owned(), vec![1])];
    assert_eq!(queue.remembered("keystore", back).unwrap(), Some(before), "as it was before this start");
    queue.close(back).unwrap();
    drop(queue);
    let mut queue = Queue::open(place(&state), key(dir.path()), WIDE, T0).unwrap();
    let now = ["a", "b", "c"].map(str::to_owned).into_iter().zip([vec![2], vec![1], vec![2]]).collect();
    assert_eq!(queue.remembered("keystore", T0).unwrap(), Some(now), "and what came since is kept");
}

#[test]
fn memory_is_bounded_and_what_does_not_fit_is_declared() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(place(&dir.path().join("state")), key(dir.path()), WIDE, T0).unwrap();
    fill(&mut queue, Class::Detail, 1 << 20, T0..T0 + 20);
    let level = queue.level();
    assert!(level.bytes <= 8 << 20, "{}", level.bytes);
    assert_eq!(untold(&mut queue), [(1, 13, 130, "buffer full".into())]);
}

#[test]
fn a_disk_that_is_full_frees_its_reserve_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = dir.path().join("buffer.reserve");
    let mut queue = open(dir.path(), Bounds { bytes: 8 << 20, ..WIDE });
    fill(&mut queue, Class::Sample, 10, [T0]);
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1 << 20);
    queue.recover(fails(ffi::SQLITE_FULL), true, T0).unwrap();
    assert!(!reserve.exists() && queue.level().degraded.is_none());
    fill(&mut queue, Class::Sample, 10, [T0 + 1]);
    assert_eq!(seqs(&live(&mut queue, T0)), [1, 2], "nothing was given up for it");
    fill(&mut queue, Class::Sample, 10, [T0 + 2_000]);
    assert!(reserve.exists(), "made again when there is room");
}

#[test]
fn a_disk_that_stays_full_is_stood_in_for_by_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 1_000, T0..T0 + 20);
    let pages: i64 = queue.file.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    queue.file.connection.pragma_update(None, "max_page_count", pages).unwrap();
    fill(&mut queue, Class::Security, 100_000, [T0 + 21]);
    assert!(queue.level().degraded.is_some_and(|why| why.contains("full")));
    fill(&mut queue, Class::Security, 10, [T0 + 20_000]);
    assert_eq!(queue.level().degraded, None, "a new connection may grow again");
    let held = queue.level().batches + untold(&mut queue).iter().map(|gap| gap.1 - gap.0 + 1).sum::<u64>();
    assert_eq!(held, 22);
}

#[test]
fn free_space_of_the_file_system_bounds_the_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), Bounds { min_free_bytes: u64::MAX / 2, ..WIDE });
    for at in (T0..T0 + 40_000).step_by(1_000) {
        fill(&mut queue, Class::Detail, 100_000, [at]);
    }
    let level = queue.level();
    assert!((900_000..2_000_000).contains(&level.bytes), "it does not grow past its floor: {level:?}");
    assert!(!dir.path().join("buffer.reserve").exists());
}

#[test]
fn after_a_write_that_failed_the_file_is_not_trusted_and_what_it_held_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 4);
    let old = live(&mut queue, T0);
    queue.acked(old.epoch, 1, vec![], T0).unwrap();
    queue.recover(fails(ffi::SQLITE_IOERR_FSYNC), true, T0).unwrap();
    fill(&mut queue, Class::Sample, 10, [T0 + 5]);
    assert_eq!(queue.level().degraded, None);
    let front = live(&mut queue, T0);
    assert_eq!((front.epoch, &front.frames[..]), (old.epoch, &old.frames[1..]), "under the old numbers");
    queue.acked(old.epoch, 4, vec![], T0).unwrap();
    let front = live(&mut queue, T0);
    assert!(front.epoch != old.epoch);
    assert_eq!((seqs(&front), front.dropped), (vec![1], vec![]));
    assert_eq!(untold(&mut queue), [], "all was read again: nothing is said to be lost");
    let aside = std::fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(&T0.to_string())).count();
    assert_eq!(aside, 1, "kept for a look");
}

#[test]
fn a_repair_for_which_there_is_no_place_waits_and_gives_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 4);
    let old = live(&mut queue, T0);
    let place_of_new = dir.path().join("buffer.db.new");
    std::fs::create_dir(&place_of_new).unwrap();
    queue.recover(fails(ffi::SQLITE_IOERR_FSYNC), true, T0).unwrap();
    let times = || (1..9).map(|n| T0 + n * 400_000);
    fill(&mut queue, Class::Key, 10, times());
    assert!(queue.level().degraded.is_some());
    std::fs::remove_dir(&place_of_new).unwrap();
    fill(&mut queue, Class::Key, 10, [T0 + 4_000_000]);
    assert_eq!((queue.level().degraded, queue.level().batches), (None, 13));
    let front = live(&mut queue, T0 + 4_000_000);
    assert_eq!((front.epoch, &front.frames[..4], seqs(&front)), (old.epoch, &old.frames[..], (1..=13).collect()));
    assert_eq!(untold(&mut queue), []);
}

#[test]
fn what_a_failed_transaction_left_on_disk_is_not_sent_beside_what_memory_held_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, [T0]);
    let before = queue.file.state.clone();
    fill(&mut queue, Class::Sample, 10, [T0 + 1]);
    // As if that append had failed only after its pages were written.
    queue.file.state = before;
    queue.recover(fails(ffi::SQLITE_CANTOPEN), false, T0).unwrap();
    fill(&mut queue, Class::Sample, 10, [T0 + 1]);
    let back = T0 + 20_000;
    let mut frames = Vec::new();
    while let Some(front) = queue.front(Lane::Live, ROOMY, back).unwrap() {
        queue.acked(front.epoch, *seqs(&front).last().unwrap(), vec![], back).unwrap();
        frames.extend(front.frames.into_iter().map(|f| f.1));
    }
    assert_eq!(frames.len(), 2);
}

#[tokio::test]
async fn the_handle_answers_from_its_thread_and_says_so_when_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(place(dir.path()), key(dir.path()), WIDE, T0).unwrap();
    let other = buffer.clone();
    buffer.append(vec![new(Class::Sample, 10, T0)], vec![], vec![], T0).await.unwrap();
    assert_eq!(other.level().batches, 1);
    let front = other.front(Lane::Live, ROOMY, T0).await.unwrap().unwrap();
    assert_eq!(buffer.acked(front.epoch, 1, vec![], T0).await.unwrap(), 1);
    assert_eq!(buffer.level().batches, 0);
    let died = buffer.ask(|_| -> Result<(), BufferError> { panic!("a fault of ours") }).await;
    assert!(matches!(died, Err(BufferError::Gone)));
    assert!(matches!(other.front(Lane::Live, ROOMY, T0).await, Err(BufferError::Gone)));
}
