//! Files that are damaged, foreign, or no files: the queue goes on, what can be read is delivered, and that something is lost is
//! told.

use super::*;
use std::os::unix::fs::{FileExt, symlink};

/// A closed buffer with batches 1 to 30, of which 1 to 5 are acknowledged, large enough for many pages.
fn closed(dir: &Path) -> (Vec<(u64, Vec<u8>)>, [u8; 16]) {
    let mut queue = open(dir, WIDE);
    for at in 1..=30u8 {
        let batch = New { frame: vec![at; if at % 3 == 0 { 5_000 } else { 400 }], ..new(Class::Sample, 1, T0) };
        queue.append(vec![batch], vec![("keystore", "a".into(), Some(vec![at]))], vec![], T0).unwrap();
    }
    let front = live(&mut queue, T0);
    queue.acked(front.epoch, 5, vec![], T0).unwrap();
    queue.close(T0).unwrap();
    (front.frames, front.epoch)
}

/// Opens what is left and takes everything out: frames of the old epoch, and the causes of all gaps.
fn survivors(dir: &Path, epoch: [u8; 16]) -> (Vec<(u64, Vec<u8>)>, Vec<String>) {
    let mut queue = open(dir, WIDE);
    assert_eq!(queue.level().degraded, None);
    queue.append(vec![new(Class::Key, 10, T0 + 50)], vec![], vec![], T0).unwrap();
    let (mut frames, mut others) = (Vec::new(), 0);
    for _ in 0..100 {
        let Some(front) = queue.front(Lane::Live, ROOMY, T0).unwrap() else { break };
        queue.acked(front.epoch, *seqs(&front).last().unwrap(), vec![], T0).unwrap();
        if front.epoch == epoch {
            frames.extend(front.frames);
        } else {
            others += front.frames.len();
        }
    }
    assert_eq!(queue.level().batches, 0, "all of it is delivered");
    assert!(others == 1 || frames.iter().any(|f| f.1 == vec![u8::try_from((T0 + 50) % 251).unwrap(); 10]), "what is new is delivered");
    (frames, untold(&mut queue).into_iter().map(|gap| gap.3).collect())
}

/// What survives is what was stored, in order, each once.
fn genuine(frames: &[(u64, Vec<u8>)], all: &[(u64, Vec<u8>)]) {
    assert!(frames.windows(2).all(|w| w[0].0 < w[1].0));
    for (seq, frame) in frames.iter().filter(|f| f.0 <= 30) {
        assert_eq!(Some(frame), all.iter().find(|f| f.0 == *seq).map(|f| &f.1));
    }
}

/// Damages a copy of a closed buffer and looks at what is left.
fn after(source: &Path, damage: impl FnOnce(&mut Vec<u8>), epoch: [u8; 16]) -> (Vec<(u64, Vec<u8>)>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["buffer.key", "buffer.id"] {
        std::fs::copy(source.join(name), dir.path().join(name)).unwrap();
    }
    let mut bytes = std::fs::read(source.join("buffer.db")).unwrap();
    damage(&mut bytes);
    std::fs::write(dir.path().join("buffer.db"), bytes).unwrap();
    survivors(dir.path(), epoch)
}

#[test]
fn a_file_cut_anywhere_gives_what_is_left_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (all, epoch) = closed(dir.path());
    let length = std::fs::metadata(dir.path().join("buffer.db")).unwrap().len() as usize;
    let mut most = 0;
    for cut in (0..length).step_by(512) {
        let (frames, causes) = after(dir.path(), |bytes| bytes.truncate(cut), epoch);
        genuine(&frames, &all);
        let told = causes.iter().any(|cause| cause.contains("was damaged"));
        assert!(told || frames.starts_with(&all[5..]), "{cut} of {length}: {causes:?}");
        most = most.max(frames.len());
    }
    assert!(most >= 20, "{most} of 25");
}

#[test]
fn a_bit_that_fell_over_anywhere_costs_little_and_hangs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (all, epoch) = closed(dir.path());
    let length = std::fs::metadata(dir.path().join("buffer.db")).unwrap().len() as usize;
    let places = (0..100).chain((100..length).step_by(1_531));
    for at in places {
        let (frames, _) = after(dir.path(), |bytes| bytes[at] ^= 1 << (at % 8), epoch);
        genuine(&frames, &all);
        assert!(frames.len() >= 18, "byte {at}: {} of 25 are left", frames.len());
    }
}

#[test]
fn a_page_of_zeros_costs_what_was_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (all, epoch) = closed(dir.path());
    let pages = std::fs::metadata(dir.path().join("buffer.db")).unwrap().len() as usize / 4_096;
    for page in 0..pages {
        let (frames, causes) = after(dir.path(), |bytes| bytes[page * 4_096..(page + 1) * 4_096].fill(0), epoch);
        genuine(&frames, &all);
        assert!(frames.len() >= 15, "page {page}: {} of 25 are left; {causes:?}", frames.len());
    }
}

#[test]
fn a_log_that_is_gone_or_belongs_to_another_file_loses_only_what_it_held() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (all, epoch) = closed(dir.path());
    let mut foreign = open(other.path(), WIDE);
    fill(&mut foreign, Class::Sample, 3_000, T0..T0 + 40);
    for foreign in [false, true] {
        let here = tempfile::tempdir().unwrap();
        for name in ["buffer.key", "buffer.id", "buffer.db"] {
            std::fs::copy(dir.path().join(name), here.path().join(name)).unwrap();
        }
        if foreign {
            std::fs::copy(other.path().join("buffer.db-wal"), here.path().join("buffer.db-wal")).unwrap();
        }
        let (frames, causes) = survivors(here.path(), epoch);
        genuine(&frames, &all);
        assert_eq!(&frames[..25], &all[5..], "{causes:?}");
    }
}

#[test]
fn what_is_no_file_or_somebody_elses_is_set_aside() {
    let makers: [fn(&Path); 6] = [
        |path| std::fs::create_dir(path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
        |path| std::fs::write(path, vec![7; 8_192]).unwrap(),
        |path| std::fs::write(path, "SQLite format 3\0 and then nothing of the kind").unwrap(),
        |path| rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap(),
    ];
    for make in makers {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("buffer.db"));
        let (_, causes) = survivors(dir.path(), [0; 16]);
        assert!(causes.len() == 1 && causes[0].ends_with("; 0 batches were saved, how many were lost is not known"), "{causes:?}");
        assert!(dir.path().join(format!("buffer.db.damaged-{T0}")).symlink_metadata().is_ok());
    }
}

#[test]
fn another_key_opens_nothing_and_the_newest_damaged_file_alone_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        closed(dir.path());
        std::fs::remove_file(dir.path().join("buffer.key")).unwrap();
        let mut queue = Queue::open(place(dir.path()), key(dir.path()), WIDE, T0 + round).unwrap();
        assert!(untold(&mut queue)[0].3.contains("was damaged"));
        queue.close(T0).unwrap();
        drop(queue);
        for name in ["buffer.db", "buffer.id"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains("damaged") && !n.ends_with("-wal") && !n.ends_with("-shm"))
        .collect();
    assert_eq!(names, [format!("buffer.db.damaged-{}", T0 + 2)]);
}

#[test]
fn a_batch_that_does_not_open_is_declared_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    fill(&mut queue, Class::Sample, 10, T0..T0 + 3);
    let epoch = queue.level().epoch;
    queue.file.connection.execute("UPDATE batch SET body = zeroblob(length(body)) WHERE id = 2", []).unwrap();
    let front = live(&mut queue, T0);
    assert_eq!((front.epoch, seqs(&front), front.dropped), (epoch, vec![1, 3], vec![range(2, 2)]));
    let gaps = untold(&mut queue);
    assert_eq!(gaps.iter().map(|g| (g.0, g.1)).collect::<Vec<_>>(), [(2, 2), (1, 1)]);
    assert!(gaps[0].3 == "damaged on disk" && gaps[1].3.contains("2 batches were saved"), "{gaps:?}");
    assert_eq!(queue.gaps(T0).unwrap()[1].1.class, Class::Alert);
}

#[test]
fn numbers_that_nobody_wrote_are_damage_and_nothing_is_counted_with_them() {
    let broken = [
        "UPDATE gap SET last = first - 1",
        "UPDATE gap SET first = -9",
        "UPDATE dropped SET last = -1",
        "UPDATE epoch SET first_seq = -1",
        "UPDATE batch SET items = 9223372036854775807",
        "UPDATE batch SET items = -9, bytes = -9",
    ];
    for sql in broken {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = open(dir.path(), WIDE);
        fill(&mut queue, Class::Sample, 10, T0..T0 + 3);
        queue.append(vec![], vec![], vec![(Class::Key, 7, "not encoded")], T0).unwrap();
        queue.file.connection.execute_batch(sql).unwrap();
        drop(queue);
        let mut queue = open(dir.path(), WIDE);
        fill(&mut queue, Class::Sample, 10, [T0 + 3]);
        assert!(!untold(&mut queue).is_empty() && queue.level().degraded.is_none(), "{sql}");
        let mut got = 0;
        while let Some(front) = queue.front(Lane::Live, ROOMY, T0).unwrap() {
            got += front.frames.len();
            queue.acked(front.epoch, *seqs(&front).last().unwrap(), vec![], T0).unwrap();
        }
        assert_eq!((got, queue.level().batches), (4, 0), "{sql}");
    }
}

#[test]
fn a_repair_that_was_killed_is_ended_or_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (all, epoch) = closed(dir.path());
    let at = |name: &str| dir.path().join(name);
    // Killed between the two names: the new file is whole, the old one's log is still there.
    std::fs::rename(at("buffer.db"), at("buffer.db.new")).unwrap();
    std::fs::write(at("buffer.db-wal"), "of the file that was moved away").unwrap();
    let (frames, causes) = survivors(dir.path(), epoch);
    assert_eq!((&frames[..25], causes.len()), (&all[5..], 0));
    // Killed before: what was begun is thrown away.
    std::fs::write(at("buffer.db.new"), "half of a file").unwrap();
    let mut queue = open(dir.path(), WIDE);
    assert!(untold(&mut queue).is_empty() && !at("buffer.db.new").exists());
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let connection = rusqlite::Connection::open(dir.path().join("buffer.db")).unwrap();
    connection.execute_batch("PRAGMA user_version = 3; UPDATE meta SET value = 3 WHERE name = 'schema'").unwrap();
    drop(connection);
    let said = Queue::open(place(dir.path()), key(dir.path()), WIDE, T0).unwrap_err().to_string();
    assert!(said.contains("upgrade the agent"), "{said}");
}

#[test]
fn a_file_that_is_damaged_again_and_again_is_repaired_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path(), WIDE);
    for round in 0..8 {
        queue.append((0..64).map(|_| new(Class::Sample, 3_900, T0 + round)).collect(), vec![], vec![], T0).unwrap();
    }
    let epoch = queue.level().epoch;
    queue.close(T0).unwrap();
    drop(queue);
    for (round, page) in [40, 300, 0].into_iter().enumerate() {
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("buffer.db")).unwrap();
        file.write_all_at(&[0; 4_096], page * 4_096).unwrap();
        let mut queue = open(dir.path(), WIDE);
        let (level, gaps) = (queue.level(), queue.gaps(T0).unwrap());
        assert!(level.degraded.is_none() && level.batches >= 509 && level.epoch != epoch, "{level:?}");
        // Without its first page only batches are found.
        let alerts = gaps.iter().filter(|(_, gap)| gap.class == Class::Alert).count();
        assert_eq!(alerts, if page == 0 { 1 } else { round + 1 });
        // All batches are of the first epoch. Numbers of later ones are those of losses that were not told yet; how many of them
        // are declared anew depends on what of them can still be known.
        let holes: u64 = gaps.iter().filter(|(_, gap)| gap.epoch == Some(epoch)).map(|(_, gap)| gap.range.count()).sum();
        assert_eq!(level.batches + holes, 512, "each is held or declared: {gaps:?}");
        queue.close(T0).unwrap();
    }
}
