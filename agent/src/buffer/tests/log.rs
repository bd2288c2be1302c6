//! The log beside the file: that it is gone after a kill is told, another file's is not taken for it, and an orderly end leaves none.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn log(dir: &Path) -> PathBuf {
    dir.join("buffer.db-wal")
}

/// A buffer that was killed: batches 1 to 3 lie in the file, 4 to 6 in its log alone.
fn killed(dir: &Path) -> [u8; 16] {
    let mut queue = open(dir, WIDE);
    fill(&mut queue, Class::Sample, 500, T0..T0 + 3);
    queue.close(T0).unwrap();
    drop(queue);
    let mut queue = open(dir, WIDE);
    fill(&mut queue, Class::Sample, 500, T0 + 3..T0 + 6);
    queue.level().epoch
}

#[test]
fn a_log_that_is_gone_after_a_kill_is_told_and_new_batches_get_numbers_of_their_own() {
    for empty in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let epoch = killed(dir.path());
        if empty {
            std::fs::write(log(dir.path()), "").unwrap();
        } else {
            std::fs::remove_file(log(dir.path())).unwrap();
        }
        let mut queue = open(dir.path(), WIDE);
        let gaps = queue.gaps(T0).unwrap();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert!(gaps[0].1.class == Class::Alert && gaps[0].1.items == 0 && gaps[0].1.cause.contains("its log is gone"), "{gaps:?}");
        assert!(queue.level().epoch != epoch, "the aggregator may have what was in it");
        assert_eq!(seqs(&live(&mut queue, T0)), [1, 2, 3], "what was in the file is there");
        drop(queue);
        assert_eq!(untold(&mut open(dir.path(), WIDE)).len(), 1, "told once, though the log lies there after another kill");
    }
}

#[test]
fn a_fresh_buffer_of_which_all_lay_in_the_log_is_missed_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 500, T0..T0 + 3);
    drop(queue);
    std::fs::remove_file(log(dir.path())).unwrap();
    let mut queue = open(dir.path(), WIDE);
    assert!(untold(&mut queue)[0].3.contains("was damaged"));
}

#[test]
fn a_log_that_was_emptied_on_a_full_disk_is_missed_when_it_goes_later() {
    let emptied = |dir: &Path| {
        let mut queue = open(dir, WIDE);
        fill(&mut queue, Class::Sample, 500, T0..T0 + 3);
        let full = BufferError::Sqlite(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None));
        queue.recover(full, true, T0).unwrap();
        queue
    };
    let dir = tempfile::tempdir().unwrap();
    drop(emptied(dir.path()));
    assert_eq!(untold(&mut open(dir.path(), WIDE)), [], "a kill right after that is no loss");
    let dir = tempfile::tempdir().unwrap();
    let mut queue = emptied(dir.path());
    fill(&mut queue, Class::Sample, 500, T0..T0 + 3);
    drop(queue);
    std::fs::remove_file(log(dir.path())).unwrap();
    assert!(untold(&mut open(dir.path(), WIDE))[0].3.contains("its log is gone"));
}

#[test]
fn a_kill_at_any_other_moment_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = killed(dir.path());
    for _ in 0..3 {
        // Killed before anything is stored, with a log that was begun and no more.
        let mut queue = open(dir.path(), WIDE);
        let front = live(&mut queue, T0);
        assert_eq!((front.epoch, seqs(&front), untold(&mut queue)), (epoch, (1..=6).collect(), vec![]));
        drop(queue);
        let mut queue = open(dir.path(), WIDE);
        queue.close(T0).unwrap();
        assert_eq!(std::fs::metadata(log(dir.path())).unwrap().len(), 0);
        drop(queue);
        assert!(!log(dir.path()).exists(), "an orderly end leaves none");
    }
    let mut queue = open(dir.path(), WIDE);
    queue.close(T0).unwrap();
    // Whoever goes on after the end needs the log again.
    fill(&mut queue, Class::Sample, 500, [T0]);
    drop(queue);
    assert_eq!(open(dir.path(), WIDE).level().batches, 7);
    std::fs::remove_file(log(dir.path())).unwrap();
    assert!(untold(&mut open(dir.path(), WIDE))[0].3.contains("its log is gone"));
}

#[test]
fn the_log_of_another_buffer_costs_only_what_our_own_log_held() {
    for own_key in [false, true] {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let epoch = killed(dir.path());
        if own_key {
            std::fs::copy(dir.path().join("buffer.key"), other.path().join("buffer.key")).unwrap();
        }
        // All of it lies in its log: applied to ours it is a whole file.
        let mut foreign = open(other.path(), WIDE);
        fill(&mut foreign, Class::Sample, 3_000, T0..T0 + 40);
        std::fs::copy(log(other.path()), log(dir.path())).unwrap();
        let mut queue = open(dir.path(), WIDE);
        assert!(untold(&mut queue)[0].3.contains("was damaged"));
        let front = live(&mut queue, T0);
        assert_eq!((front.epoch, seqs(&front)), (epoch, vec![1, 2, 3]));
        assert!(front.frames.iter().all(|(_, frame)| frame.len() == 500), "ours, not the other's");
    }
}

#[test]
fn what_lies_in_the_logs_place_and_leads_elsewhere_is_neither_followed_nor_waited_for() {
    let makers: [fn(&Path, &Path); 3] = [
        |log, target| symlink(target, log).unwrap(),
        |log, _| rustix::fs::mknodat(rustix::fs::CWD, log, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
        |log, _| std::fs::create_dir(log).unwrap(),
    ];
    for make in makers {
        let dir = tempfile::tempdir().unwrap();
        killed(dir.path());
        std::fs::remove_file(log(dir.path())).unwrap();
        let target = dir.path().join("of somebody else");
        std::fs::write(&target, "theirs").unwrap();
        make(&log(dir.path()), &target);
        let mut queue = open(dir.path(), WIDE);
        fill(&mut queue, Class::Sample, 500, [T0]);
        assert_eq!((queue.level().batches, queue.level().degraded), (4, None));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "theirs");
    }
}

#[test]
fn nobody_else_reads_what_lies_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, [T0]);
    let modes = || std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap()).map(|e| (e.file_name(), e.metadata().unwrap().permissions().mode() & 0o777));
    assert!(modes().count() >= 5 && modes().all(|(_, mode)| mode == 0o600), "{:?}", modes().collect::<Vec<_>>());
}

#[tokio::test]
async fn when_the_handle_is_closed_no_file_is_open_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = Buffer::open(place(dir.path()), key(dir.path()), WIDE, T0).unwrap();
    buffer.append(vec![new(Class::Sample, 10, T0)], vec![], vec![], T0).await.unwrap();
    assert!(log(dir.path()).exists());
    buffer.close(T0).await.unwrap();
    assert!(!log(dir.path()).exists());
    assert!(matches!(buffer.gaps(T0).await, Err(BufferError::Gone)));
    assert_eq!(open(dir.path(), WIDE).level().batches, 1);
}

#[test]
fn opening_a_file_writes_nothing_to_it() {
    let dir = tempfile::tempdir().unwrap();
    killed(dir.path());
    open(dir.path(), WIDE).close(T0).unwrap();
    // What comes before all checks could come upon a file, or a log, of somebody else.
    let file = file::File::on_disk(&place(dir.path()), &dir.path().join("buffer.db"), &key(dir.path()), 1 << 30, T0).unwrap();
    assert_eq!(std::fs::metadata(log(dir.path())).unwrap().len(), 0);
    drop(file);
}
