//! The kernel programs on this machine's own kernel, with the programs that people use.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::functions::{Library, Operation};
use super::kernel::Kernel;
use super::layout::{Deed, FileId, Marked, Record, generation, name_key};
use super::place::Mounts;
use super::probes::Probes;

/// The programs loaded, or nothing where this machine does not let us.
fn kernel() -> Option<Kernel> {
    match Kernel::load() {
        Ok(kernel) => {
            assert_eq!(kernel.refused, []);
            Some(kernel)
        }
        Err(e) => {
            eprintln!("not tried: {e}");
            None
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

fn follow(kernel: &mut Kernel, path: &Path, number: u32) {
    let (dev, ino) = Mounts::read().file(path).unwrap();
    let version = super::sys::version(File::open(path).unwrap()).unwrap_or_default();
    kernel.follow(FileId { dev, ino, version: 0 }, Marked { number, version }).unwrap();
}

fn records(kernel: &mut Kernel) -> Vec<Record> {
    let mut records = Vec::new();
    records.extend(kernel.take());
    records
}

#[test]
fn every_short_reader_of_a_key_is_named() {
    let Some(mut kernel) = kernel() else { return };
    every_reader_is_named(&mut kernel);
}

#[test]
fn who_is_denied_is_named_with_what_he_asked_for() {
    let Some(mut kernel) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let key = dir.path().join("b.key");
    std::fs::write(&key, "x").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    kernel.follow_name(name_key(b"b.key")).unwrap();
    let script = format!("cd {}; ! setpriv --reuid 65534 cat ./b.key", dir.path().display());
    run("sh", &["-c", &script]);
    let denied: Vec<Record> = records(&mut kernel).into_iter().filter(|record| record.deed == Deed::Asked).collect();
    let [denied] = &denied[..] else { panic!("{denied:?}") };
    assert_eq!((denied.uid, denied.errno, &denied.asked[..]), (65_534, 13, &b"./b.key"[..]));
    assert_eq!(denied.base, dir.path().as_os_str().as_encoded_bytes());
}

fn every_reader_is_named(kernel: &mut Kernel) {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("a.key");
    std::fs::write(&key, "x").unwrap();
    follow(kernel, &key, 7);
    let script = format!("for i in $(seq 300); do cat {0}; done; exec 3<{0}", key.display());
    run("sh", &["-c", &script]);
    let opened: Vec<Record> = records(kernel).into_iter().filter(|record| record.deed == Deed::Opened).collect();
    assert_eq!(opened.iter().filter(|record| record.exe.ends_with(b"/cat")).count(), 300);
    assert_eq!(opened.len(), 301, "and the shell's own");
    assert!(opened.iter().all(|record| record.file == 7 && record.uid == 0 && !record.is_cut), "{:?}", opened[0]);
    assert_eq!(kernel.lost(), super::kernel::Lost::default());
}

/// Two subvolumes of btrfs number their files alike; elsewhere the inode of a key that is gone is used again.
#[test]
fn another_file_of_the_same_inode_is_told_apart() {
    let Some(mut kernel) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("a.key");
    std::fs::write(&key, "x").unwrap();
    let Some(version) = super::sys::version(File::open(&key).unwrap()) else { return eprintln!("not tried: the file system tells no versions") };
    let (dev, ino) = Mounts::read().file(&key).unwrap();
    let id = |version| FileId { dev, ino, version };
    let mut told = |changes: &[(FileId, u32, u32)]| {
        changes.iter().for_each(|(id, number, version)| kernel.follow(*id, Marked { number: *number, version: *version }).unwrap());
        run("cat", &[key.to_str().unwrap()]);
        records(&mut kernel).into_iter().map(|record| record.file).collect::<Vec<_>>()
    };
    assert_eq!(told(&[(id(0), 7, version ^ 1)]), [0; 0]);
    assert_eq!(told(&[(id(version), 8, version)]), [8]);
    assert_eq!(told(&[(id(0), 9, version)]), [9]);
    assert_eq!(told(&[(id(version ^ 1), 10, version ^ 1), (id(0), 11, 0)]), [8], "by its version rather than without");
}

#[test]
fn the_state_of_a_file_is_the_same_number_to_the_kernel_as_by_what_stat_says() {
    let Some(mut kernel) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("a.key");
    std::fs::write(&key, "x").unwrap();
    follow(&mut kernel, &key, 7);
    let mut state = || {
        run("cat", &[key.to_str().unwrap()]);
        let told = records(&mut kernel).pop().expect("an open").generation;
        let stat = std::fs::metadata(&key).unwrap();
        let ns = |seconds: i64, part: i64| i128::from(seconds) * 1_000_000_000 + i128::from(part);
        assert_eq!(told, generation(stat.ino(), stat.size(), ns(stat.mtime(), stat.mtime_nsec()), ns(stat.ctime(), stat.ctime_nsec())));
        told
    };
    let contents = |generation: u64| generation & 0xffff_ffff;
    let first = state();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let guarded = state();
    assert!(first != guarded && contents(first) == contents(guarded), "other rights, the same contents");
    std::fs::write(&key, "other").unwrap();
    let written = state();
    assert!(contents(written) != contents(guarded));
}

#[test]
fn signatures_of_two_keys_are_counted_each_with_its_file() {
    let Some(mut kernel) = kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ec, rsa) = (dir.path().join("ec.pem"), dir.path().join("rsa.pem"));
    run("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", ec.to_str().unwrap()]);
    run("openssl", &["genpkey", "-algorithm", "RSA", "-out", rsa.to_str().unwrap()]);
    follow(&mut kernel, &ec, 1);
    follow(&mut kernel, &rsa, 2);
    let mut probes = Probes::default();
    let library = File::open("/usr/lib/x86_64-linux-gnu/libcrypto.so.3").unwrap();
    let faults = probes.attach(&mut kernel, Library::Crypto, 0, &library).unwrap();
    assert_eq!(faults, []);
    for probe in probes.all() {
        eprintln!("{} {:?} cheap {}", probe.function.symbol, probe.function.role, probe.is_cheap);
    }
    for (key, times) in [(&ec, 3), (&rsa, 5)] {
        for _ in 0..times {
            run("openssl", &["dgst", "-sha256", "-sign", key.to_str().unwrap(), "-out", "/dev/null", "/etc/hostname"]);
        }
    }
    // What a program opened before is not what the one uses that took its place.
    let other = dir.path().join("other.pem");
    run("openssl", &["genpkey", "-algorithm", "RSA", "-out", other.to_str().unwrap()]);
    let script = format!("exec 3< {}; exec openssl dgst -sha256 -sign {} -out /dev/null /etc/hostname", ec.display(), other.display());
    run("sh", &["-c", &script]);
    let mut counted = std::collections::BTreeMap::new();
    for (used, count) in kernel.uses().unwrap() {
        *counted.entry((used.first, used.second, probes.operation(used.call), used.kind)).or_insert(0) += count;
    }
    let wanted = [((0, 0, Some(Operation::Sign), 6), 1), ((1, 0, Some(Operation::Sign), 408), 3), ((2, 0, Some(Operation::Sign), 6), 5)];
    assert_eq!(counted.into_iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_record_of_any_numbers_is_read() {
    let mut bytes = vec![0xff; super::layout::RECORD_BYTES];
    assert!(Record::read(&bytes).is_none(), "no such kind");
    bytes.fill(0);
    bytes[0] = 2;
    let at = bytes.len();
    for from in (4..at - 4).step_by(4) {
        let mut bytes = bytes.clone();
        bytes[from..from + 4].copy_from_slice(&i32::MIN.to_ne_bytes());
        let _ = Record::read(&bytes);
    }
}
