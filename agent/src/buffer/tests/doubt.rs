//! A commit failed, and nobody knows whether its batches are on disk; memory delivers them. Whatever the disk turns out to hold,
//! each is stored once, and no number is given to two.

use super::model::{Answer, Server};
use super::*;
use rusqlite::{Error, ffi};

/// A queue two batches of which lie on disk, and which then left it over the commit of a third that `landed` or did not: memory
/// has it now. Repairs find no place.
fn in_doubt(dir: &Path, landed: bool) -> Queue {
    let mut queue = open(dir, WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 2);
    let before = queue.file.state.clone();
    if landed {
        fill(&mut queue, Class::Sample, 10, [T0 + 2]);
        queue.file.state = before;
    }
    std::fs::create_dir(dir.join("buffer.db.new")).unwrap();
    let failed = BufferError::Sqlite(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None));
    queue.recover(failed, true, T0 + 2).unwrap();
    fill(&mut queue, Class::Sample, 10, [T0 + 2]);
    assert!(queue.level().degraded.is_some());
    queue
}

/// Delivers all that waits.
fn deliver(queue: &mut Queue, server: &mut Server, now_ms: i64) {
    while let Some(front) = queue.front(Lane::Live, ROOMY, now_ms).unwrap() {
        match server.push(&front) {
            Answer::Ack(cursor, beyond) => queue.acked(front.epoch, cursor, beyond, now_ms).unwrap(),
            Answer::Fork(seq) => panic!("number {seq} was given to two batches"),
            Answer::Gap(expected) => panic!("number {expected} is missing and was not declared"),
        };
    }
}

/// What was stored, by the instant that its frame is made of.
fn stored(server: &Server) -> Vec<i64> {
    let mut stored: Vec<i64> = server.stored.values().map(|frame| i64::from(frame[0])).collect();
    stored.sort_unstable();
    stored
}

fn instants(at: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut instants: Vec<i64> = at.into_iter().map(|at| (T0 + at) % 251).collect();
    instants.sort_unstable();
    instants
}

#[test]
fn batches_of_a_commit_in_doubt_are_stored_once_though_the_agent_ends_before_the_disk_is_back() {
    for landed in [true, false] {
        let (dir, mut server) = (tempfile::tempdir().unwrap(), Server::default());
        let mut queue = in_doubt(dir.path(), landed);
        deliver(&mut queue, &mut server, T0 + 3);
        fill(&mut queue, Class::Sample, 10, [T0 + 3]);
        deliver(&mut queue, &mut server, T0 + 3);
        assert_eq!(stored(&server), instants(2..4), "memory does not wait for the disk");
        // Killed.
        drop(queue);
        std::fs::remove_dir(dir.path().join("buffer.db.new")).unwrap();
        let mut queue = open(dir.path(), WIDE);
        fill(&mut queue, Class::Sample, 10, T0 + 4..T0 + 6);
        deliver(&mut queue, &mut server, T0 + 6);
        assert_eq!(stored(&server), instants(0..6), "each once; on disk: {landed}");
        assert_eq!(untold(&mut queue), []);
    }
}

#[test]
fn a_disk_that_is_back_in_the_same_process_holds_them_under_the_same_numbers() {
    for (landed, heard) in [(true, true), (true, false), (false, true), (false, false)] {
        let (dir, mut server) = (tempfile::tempdir().unwrap(), Server::default());
        let mut queue = in_doubt(dir.path(), landed);
        let front = live(&mut queue, T0 + 3);
        let Answer::Ack(cursor, beyond) = server.push(&front) else { panic!("it is taken") };
        if heard {
            queue.acked(front.epoch, cursor, beyond, T0 + 3).unwrap();
        }
        std::fs::remove_dir(dir.path().join("buffer.db.new")).unwrap();
        let back = T0 + 700_000;
        fill(&mut queue, Class::Sample, 10, [back]);
        assert_eq!(queue.level().degraded, None);
        deliver(&mut queue, &mut server, back);
        assert_eq!((stored(&server), untold(&mut queue)), (instants([0, 1, 2, 700_000]), vec![]), "on disk: {landed}, acknowledged: {heard}");
    }
}

#[test]
fn an_orderly_end_of_a_start_that_stored_nothing_does_not_make_good_the_one_before() {
    let (dir, mut server) = (tempfile::tempdir().unwrap(), Server::default());
    let mut queue = in_doubt(dir.path(), false);
    deliver(&mut queue, &mut server, T0 + 3);
    drop(queue);
    std::fs::remove_dir(dir.path().join("buffer.db.new")).unwrap();
    for _ in 0..2 {
        let mut queue = open(dir.path(), WIDE);
        queue.close(T0 + 4).unwrap();
    }
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, [T0 + 4]);
    deliver(&mut queue, &mut server, T0 + 5);
    assert_eq!(stored(&server), instants([0, 1, 2, 4]));
}

#[test]
fn numbers_that_an_agent_gave_before_it_was_killed_are_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, [T0]);
    let first = queue.level().epoch;
    drop(queue);
    let mut queue = open(dir.path(), WIDE);
    assert_eq!((live(&mut queue, T0).epoch, seqs(&live(&mut queue, T0))), (first, vec![1]), "what lies on disk keeps its number");
    fill(&mut queue, Class::Sample, 10, [T0]);
    let second = queue.level();
    assert!(second.epoch != first && second.last_seq == 1);
    queue.close(T0).unwrap();
    drop(queue);
    let level = open(dir.path(), WIDE).level();
    assert_eq!((level.epoch, level.last_seq), (second.epoch, 1), "an orderly end leaves nothing in doubt");
}

/// A queue with four batches that are acknowledged up to `acked`, on a disk that then took nothing more: memory has the fifth.
fn left(dir: &Path, acked: u64) -> Queue {
    let mut queue = open(dir, WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 4);
    let front = live(&mut queue, T0);
    queue.acked(front.epoch, acked, vec![], T0).unwrap();
    queue.file.connection.pragma_update(None, "query_only", true).unwrap();
    fill(&mut queue, Class::Sample, 10, [T0 + 4]);
    assert!(queue.level().degraded.is_some());
    queue
}

#[test]
fn another_buffer_in_its_place_takes_nothing_over_from_the_one_that_was_left() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut queue = left(dir.path(), 4);
    std::fs::copy(dir.path().join("buffer.key"), other.path().join("buffer.key")).unwrap();
    let mut theirs = open(other.path(), WIDE);
    fill(&mut theirs, Class::Sample, 10, T0 + 10..T0 + 13);
    theirs.close(T0).unwrap();
    drop(theirs);
    for name in ["buffer.db-wal", "buffer.db-shm"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    for name in ["buffer.db", "buffer.id"] {
        std::fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    }
    let mut server = Server::default();
    deliver(&mut queue, &mut server, T0 + 20_000);
    assert_eq!((queue.level().degraded, stored(&server)), (None, instants([4, 10, 11, 12])));
}

#[test]
fn a_file_that_holds_less_than_when_it_was_left_is_damaged_and_what_is_missing_declared() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = left(dir.path(), 1);
    let connection = rusqlite::Connection::open(dir.path().join("buffer.db")).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.execute("DELETE FROM batch WHERE id > 2", []).unwrap();
    connection.execute("UPDATE meta SET value = ?1 WHERE name = 'last_id'", [2u64.to_le_bytes()]).unwrap();
    drop(connection);
    for back in [20_000, 60_000] {
        queue.front(Lane::Live, ROOMY, T0 + back).unwrap();
    }
    let gaps = untold(&mut queue);
    assert_eq!((queue.level().degraded, gaps.len(), &gaps[0]), (None, 2, &(3, 4, 0, "damaged on disk".to_owned())));
    assert!(gaps[1].3.contains("it holds less than it did"), "{gaps:?}");
}
