//! F05: the buffer is damaged while nobody has it open, with a backlog in it. The next sender delivers what can be read, declares
//! what is lost, and serves.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::world::{World, sized};

type Damage = Box<dyn Fn(&Path)>;

fn open(path: &Path) -> (File, u64) {
    let file = File::options().read(true).write(true).open(path).expect("a buffer");
    let length = file.metadata().expect("it is there").len();
    (file, length)
}

/// Cuts it to a part of its length, in 64ths.
fn cut(part: u64) -> Damage {
    Box::new(move |path| {
        let (file, length) = open(path);
        file.set_len(length * part / 64 / 512 * 512).expect("it is cut");
    })
}

/// Flips a bit at a part of its length.
fn flip(part: u64) -> Damage {
    Box::new(move |path| {
        let (file, length) = open(path);
        let (at, mut byte) = (length * part / 64, [0]);
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 1 << (part % 8)], at).expect("it is written");
    })
}

fn zeros(page: u64) -> Damage {
    Box::new(move |path| open(path).0.write_all_at(&[0; 4_096], page * 4_096).expect("it is written"))
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// The log of a database that has nothing to do with ours.
fn foreign_log(path: &Path) {
    let dir = tempfile::tempdir().expect("a directory");
    let other = rusqlite::Connection::open(dir.path().join("other.db")).expect("a database");
    other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE batch (text); INSERT INTO batch VALUES (zeroblob(50000));").expect("it is filled");
    std::fs::copy(dir.path().join("other.db-wal"), log_of(path)).expect("a copy");
}

fn replace(path: &Path, make: impl Fn(&Path)) {
    std::fs::rename(path, path.with_extension("away")).expect("it was there");
    make(path);
}

fn damages() -> Vec<(String, bool, Damage)> {
    let mut all: Vec<(String, bool, Damage)> = Vec::new();
    let step = usize::try_from(sized(20, 1)).expect("small");
    for part in (0..64).step_by(step) {
        all.push((format!("cut at {part}/64"), part % 2 == 0, cut(part)));
        all.push((format!("bit flipped at {part}/64"), part % 2 == 1, flip(part)));
    }
    for page in 0..sized(2, 12) {
        all.push((format!("page {page} of zeros"), page % 2 == 0, zeros(page)));
    }
    let mut named = |name: &str, open: bool, make: fn(&Path)| all.push((name.to_owned(), open, Box::new(make)));
    named("log gone", true, |path| std::fs::remove_file(log_of(path)).expect("it was there"));
    named("foreign log", true, foreign_log);
    named("foreign log beside a whole file", false, foreign_log);
    named("wrong header", false, |path| open(path).0.write_all_at(b"SQLite format 4", 0).expect("it is written"));
    named("empty", false, |path| open(path).0.set_len(0).expect("it is cut"));
    named("gone", false, |path| std::fs::remove_file(path).expect("it was there"));
    named("a directory", true, |path| replace(path, |path| std::fs::create_dir(path).expect("made")));
    named("a link", false, |path| replace(path, |path| symlink("/dev/zero", path).expect("made")));
    named("a pipe", false, |path| {
        replace(path, |path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made"));
    });
    named("mode 000", true, |path| std::fs::set_permissions(path, Permissions::from_mode(0o000)).expect("changed"));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn f05_a_damaged_buffer_costs_what_is_declared_and_the_next_sender_serves() {
    let world = World::plain("F05").await;
    let (mut lost, mut declarations) = (BTreeSet::new(), 0);
    let damages = damages();
    for (name, while_open, damage) in &damages {
        world.go_away();
        let mut sender = world.sender("--every-ms 0 --padding 300");
        world.commits(60, &mut sender).await;
        if *while_open {
            sender.kill();
        } else {
            sender.stop().await;
        }
        damage(&world.state.join("buffer.db"));
        world.come_back();
        world.settle(3).await;
        let (stored, issued) = (world.stored().await, world.issued());
        stored.judge(&issued).unwrap_or_else(|broken| panic!("F05 {name}: {broken}"));
        assert!(issued.committed.last().is_some_and(|last| stored.samples.contains(last)), "F05 {name}: what is new is stored");
        let missing: BTreeSet<u64> = issued.committed.difference(&stored.samples).copied().collect();
        let (fresh, told) = (missing.difference(&lost).count(), stored.gaps.len() - declarations);
        println!("F05 {name}: {fresh} of 60 lost, {told} declarations");
        assert!(fresh == 0 || told > 0, "F05 {name}: {fresh} are lost and nobody says so");
        assert!(fresh == 0 || !["mode 000", "foreign log beside a whole file"].contains(&name.as_str()), "F05 {name}: it costs nothing");
        (lost, declarations) = (missing, stored.gaps.len());
    }
    world.judge(&format!("buffer damaged in {} ways", damages.len())).await;
}
