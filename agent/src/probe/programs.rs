//! Programs whose use of keys is not counted, or not with the right key, and why: they read a key and bring their own cryptography, or
//! had read theirs before anybody looked. Each is told, as silence about it would look like a key that is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use super::functions::Library;
use super::libraries::Libraries;
use super::library::section;
use super::message::{Sight, Who};
use super::place::{Mounts, open_file};

/// Programs that are told; those beyond share a row.
const TOLD_MAX: usize = 64;
/// Programs that are known, also those of which there is nothing to tell.
const KNOWN_MAX: usize = 512;
/// Looks until a process that stays has its libraries.
const LOOKS: u8 = 4;
/// Bytes of a program's constants that are searched.
const CONSTANTS_MAX: usize = 16 << 20;

/// What a program holds among its constants that brings cryptography within itself.
const WITHIN: [(&str, &str); 9] = [
    ("crypto_sign_ed25519_open failed", "OpenSSH signs with Ed25519 keys by code of its own: of those no uses are counted"),
    ("rustls", "it brings rustls within itself, whose operations are not counted"),
    ("ring-core", "it brings ring within itself, whose operations are not counted"),
    ("AWS-LC", "it brings AWS-LC within itself, whose operations are not counted"),
    ("BoringSSL", "it brings BoringSSL within itself, without the names of its functions: its operations are not counted"),
    ("mbed TLS", "it brings Mbed TLS within itself, whose operations are not counted"),
    ("wolfSSL", "it brings wolfSSL within itself, whose operations are not counted"),
    ("crypto/evp/evp_enc.c", "it brings OpenSSL within itself, without the names of its functions: its operations are not counted"),
    ("libtomcrypt", "it brings LibTomCrypt within itself, whose operations are not counted"),
];
const GO: &str = "it is written in Go, whose own cryptography is not counted";
const JAVA: &str = "it runs in Java, whose own cryptography is not counted";
const OTHER: &str = "it reads keys and has no cryptographic library that is known: if it uses them, that is not counted";
const LATE: &str =
    "it ran before it could be seen which key it loads: what it does is counted, with an unknown key, until it loads its keys anew (reload or restart it)";

/// A program.
#[derive(Debug)]
struct Program {
    reader: Option<(u32, u64)>,
    looks: u8,
    fault: Option<&'static str>,
}

/// Those that read keys, and those that were late, by path.
#[derive(Debug, Default)]
pub struct Programs {
    /// Device and inode of this program.
    own: Option<(u32, u64)>,
    readers: BTreeMap<String, Program>,
    late: BTreeSet<String>,
    left_out: bool,
}

impl Programs {
    /// This program itself reads keys only to show that it sees that.
    pub fn leave_out_itself(&mut self) {
        self.own = Mounts::read().file(Path::new("/proc/self/exe")).ok();
    }

    /// A process opened a key.
    ///
    /// `exe` is the program's device and inode.
    pub fn read_key(&mut self, who: &Who, exe: (u32, u64)) {
        if who.exe.is_empty() || self.own == Some(exe) {
            return;
        }
        let has_room = self.readers.len() < KNOWN_MAX;
        match self.readers.get_mut(&who.exe) {
            // Settled, or being looked at.
            Some(program) if program.fault.is_some() || program.reader.is_some() => {}
            Some(program) => (program.reader, program.looks) = (Some((who.pid, who.started_ns)), 0),
            None if has_room => {
                // At once, as a short one is gone soon.
                let file = program_of(who, exe);
                let fault = file.as_ref().and_then(within);
                let reader = (fault.is_none()).then_some((who.pid, who.started_ns));
                self.readers.insert(who.exe.clone(), Program { reader, looks: 0, fault });
            }
            None => self.left_out = true,
        }
    }

    /// A process used a key that is not known.
    pub fn used_unknown(&mut self, who: &Who, library: usize, libraries: &Libraries) {
        let is_late = libraries.since(library).is_some_and(|(since_ns, _)| who.started_ns < since_ns);
        if is_late && !who.exe.is_empty() {
            if self.late.len() < TOLD_MAX {
                self.late.insert(who.exe.clone());
            } else {
                self.left_out |= !self.late.contains(&who.exe);
            }
        }
    }

    /// Looks at those that stay.
    pub fn look(&mut self, libraries: &Libraries) {
        for program in self.readers.values_mut() {
            let Some((pid, started_ns)) = program.reader else { continue };
            program.looks += 1;
            let is_there = is_same(pid, started_ns);
            match libraries.is_user(pid).filter(|_| is_there) {
                Some(false) if program.looks >= LOOKS => (program.fault, program.reader) = (Some(fault_of(pid)), None),
                Some(true) => program.reader = None,
                _ if !is_there => program.reader = None,
                _ => {}
            }
        }
    }

    /// What is told of them.
    #[must_use]
    pub fn sight(&self) -> Vec<Sight> {
        let sight = |what: &str, accuracy: &str, reason: &str| Sight { what: what.to_owned(), accuracy: accuracy.to_owned(), reason: reason.to_owned() };
        let faults = self.readers.iter().filter_map(|(exe, program)| Some((exe, program.fault?)));
        let mut sights: Vec<Sight> =
            faults.clone().take(TOLD_MAX).map(|(exe, fault)| sight(exe, if fault == WITHIN[0].1 { "at least" } else { "none" }, fault)).collect();
        sights.extend(self.late.iter().map(|exe| sight(&format!("keys of {exe}"), "at least", LATE)));
        if self.left_out || faults.count() > TOLD_MAX {
            sights.push(sight("programs", "none", "more programs use keys than can be told each; of those beyond it is not known what is not counted"));
        }
        sights
    }
}

/// The program's file: of the process where it is still there, else by its path, where that is the same file still; a container's path
/// may lead to another program of the host's.
fn program_of(who: &Who, exe: (u32, u64)) -> Option<File> {
    let by_process = open_file(Path::new(&format!("/proc/{}/exe", who.pid))).ok().filter(|_| is_same(who.pid, who.started_ns));
    by_process.or_else(|| open_file(Path::new(&who.exe)).ok().filter(|file| Mounts::read().open(file).is_ok_and(|place| place == exe)))
}

/// What a program brings within itself; `None` where that is not known.
fn within(file: &File) -> Option<&'static str> {
    if section(file, ".go.buildinfo", 1).is_some() {
        return Some(GO);
    }
    // A program that names a library to be loaded tells of that library in its constants as well.
    let names = section(file, ".dynstr", CONSTANTS_MAX).unwrap_or_default();
    let constants = section(file, ".rodata", CONSTANTS_MAX)?;
    let loads = Library::ALL.iter().any(|(_, prefix, _)| has(&names, prefix));
    // OpenSSH, the first, has both.
    let may_be = if loads { &WITHIN[..1] } else { &WITHIN[1..] };
    may_be.iter().find(|(word, _)| has(&constants, word)).map(|(_, fault)| *fault)
}

fn has(text: &[u8], word: &str) -> bool {
    let Some(first) = word.bytes().next() else { return true };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(word.as_bytes()) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Why a process that stays, and has no library that is known, is not counted.
fn fault_of(pid: u32) -> &'static str {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    if maps.lines().any(|line| line.ends_with("/libjvm.so")) { JAVA } else { OTHER }
}

/// Whether the process is still the one that was started then: numbers are used again.
pub(super) fn is_same(pid: u32, started_ns: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks: Option<u64> = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)?.parse().ok());
    // The kernel tells them here in hundredths of a second.
    ticks.is_some_and(|ticks| started_ns / 10_000_000 == ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(exe: &str) -> Who {
        Who { pid: u32::MAX, exe: exe.to_owned(), ..Who::default() }
    }

    #[test]
    fn a_program_that_reads_keys_and_brings_its_own_cryptography_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut programs = Programs::default();
        // This one stands for all: it is no different from what others build.
        let own = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        for exe in ["/usr/bin/cat", own.as_str(), "", dir.path().join("gone").to_str().unwrap()] {
            let place = Mounts::read().file(Path::new(exe)).unwrap_or_default();
            programs.read_key(&reader(exe), place);
        }
        // Gone, and another lies at its path by now: of which nothing follows for it, and which is not waited for.
        let (other, pipe) = (dir.path().join("other"), dir.path().join("pipe"));
        std::fs::copy(&own, &other).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        [other, pipe].iter().for_each(|exe| programs.read_key(&reader(exe.to_str().unwrap()), (1, 1)));
        programs.look(&Libraries::default());
        let sights = programs.sight();
        let told: Vec<(&str, &str)> = sights.iter().map(|sight| (sight.what.as_str(), sight.accuracy.as_str())).collect();
        assert_eq!(told, [(own.as_str(), "none")]);
        assert!(sights[0].reason.contains("rustls"), "{}", sights[0].reason);
    }

    #[test]
    fn words_are_found_wherever_they_lie() {
        assert!(has(b"ring ring-core", "ring-core"));
        assert!(has(b"rrust rustls", "rustls"));
        assert!(!has(b"rustl", "rustls") && !has(b"", "x"));
    }
}
