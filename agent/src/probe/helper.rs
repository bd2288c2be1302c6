//! The helper at work: it waits for what the kernel tells, for the agent, and for its timers, and keeps what the agent has not got yet.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::budget::Budget;
use super::digest::Digests;
use super::functions::Operation;
use super::kept::{Deeds, Kept};
use super::kernel::{Kernel, Lost};
use super::layout::{AMBIGUOUS, Deed, FileId, Marked, Use, name_key};
use super::libraries::Libraries;
use super::marks::Marks;
use super::message::{Ask, FILES_MAX, Opened, Sight, Tell, Used, VERSION, What, Who, path_of};
use super::probes::Probes;
use super::programs::{self, Programs};
use super::sight;
use super::since_boot_ns;
use super::tally::Tally;
use super::told::{MACS, algorithm, opened, version, who};

/// Processes that are known by name.
const WORKERS_MAX: usize = 16_384;

/// How often it is looked for processes whose end was not told, as the kernel had no room.
const SWEEP_NS: u64 = 60_000_000_000;

/// How long the first look at libraries takes at most, usually.
const SETTLES_NS: u64 = 10_000_000_000;
const UNSETTLED: &str = "it is still being looked for libraries: attaching to them takes unusually long here";

/// How often operations are read.
pub const READ_USES: Duration = Duration::from_secs(1);

/// What it sees with.
#[derive(Debug)]
pub enum Eyes {
    /// Programs in the kernel.
    Programs(Box<Kernel>),
    /// Marks on files, as the kernel takes no programs: why.
    Marks(Box<Marks>, String),
}

/// All of its state.
#[derive(Debug)]
pub struct Helper {
    eyes: Eyes,
    probes: Probes,
    libraries: Libraries,
    began_ns: u64,
    programs: Programs,
    budget: Budget,
    tally: Tally,
    workers: HashMap<(u32, u64), Who>,
    ended: Vec<(u32, u64)>,
    swept_ns: u64,
    files: HashMap<FileId, Marked>,
    entries: HashMap<((u32, u64), u64), u32>,
    names: HashSet<u64>,
    paths: HashMap<u64, u32>,
    kept: Kept,
    told_lost: (Lost, Deeds),
    sights: Vec<Sight>,
    /// What programs consist of, where the agent wants to know.
    digests: Option<Digests>,
    id: u64,
}

impl Helper {
    /// Makes one that sees with these; `id` is its name, another with each start.
    #[must_use]
    pub fn new(mut eyes: Eyes, id: u64) -> Self {
        if let Eyes::Programs(kernel) = &mut eyes
            && let Err(e) = kernel.begin()
        {
            tracing::warn!(error = %e, "there is no thread for what the kernel tells: opens may be lost while libraries are looked into");
        }
        let mut programs = Programs::default();
        programs.leave_out_itself();
        Self {
            eyes,
            probes: Probes::default(),
            libraries: Libraries::default(),
            began_ns: since_boot_ns(),
            programs,
            budget: Budget::default(),
            tally: Tally::default(),
            workers: HashMap::new(),
            ended: Vec::new(),
            swept_ns: 0,
            files: HashMap::new(),
            entries: HashMap::new(),
            names: HashSet::new(),
            paths: HashMap::new(),
            kept: Kept::default(),
            told_lost: (Lost::default(), Deeds::default()),
            sights: Vec::new(),
            digests: None,
            id,
        }
    }

    /// Becomes readable when there is something to take.
    #[must_use]
    pub fn readable(&self) -> BorrowedFd<'_> {
        match &self.eyes {
            Eyes::Programs(kernel) => kernel.readable(),
            Eyes::Marks(marks, _) => marks.readable(),
        }
    }

    /// Who is not told: the helper itself, and the agent.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_out(&mut self, agent: u32) -> Result<(), String> {
        match &mut self.eyes {
            Eyes::Programs(kernel) if super::is_numbered_by_the_kernel() => kernel.leave_out(std::process::id(), agent),
            // Its numbers may be those of others, who would not be seen.
            Eyes::Programs(kernel) => kernel.leave_out(0, 0).and(Err("the helper runs in a namespace of processes of its own".to_owned())),
            Eyes::Marks(marks, _) => {
                marks.leave_out(agent);
                Ok(())
            }
        }
    }

    /// Takes what the kernel has told.
    pub fn take(&mut self) {
        let records = match &mut self.eyes {
            Eyes::Programs(kernel) => kernel.take(),
            Eyes::Marks(marks, _) => return marks.drain().into_iter().for_each(|opened| self.keep(What::Opened(opened))),
        };
        for record in records {
            match record.deed {
                Deed::Opened | Deed::Asked => {
                    let exe_sha256 = self.digests.as_mut().and_then(|digests| digests.hash(&record)).unwrap_or_default();
                    let opened = Opened { exe_sha256, ..opened(&record) };
                    if opened.errno == 0 {
                        self.programs.read_key(&opened.who, record.exe_id);
                    }
                    self.keep(What::Opened(opened));
                }
                Deed::Worked => {
                    // Who is here already keeps its name.
                    if self.workers.len() < WORKERS_MAX {
                        self.workers.insert((record.pid, record.started_ns), who(&record));
                    }
                }
                Deed::Ended => self.ended.push((record.pid, record.started_ns)),
            }
        }
    }

    /// Reads what was done with keys since the last time. `now_ns` is since boot.
    pub fn read_uses(&mut self, now_ns: u64) {
        // Those that ended before this reading have done their last.
        let ended = std::mem::take(&mut self.ended);
        self.take();
        let Eyes::Programs(kernel) = &mut self.eyes else { return };
        let uses = match kernel.uses() {
            Ok(uses) => uses,
            Err(e) => {
                tracing::warn!(error = %e, "operations cannot be read; they are told with the next reading");
                self.ended.extend(ended);
                return;
            }
        };
        for (used, count) in self.tally.news(&uses) {
            if let Some(told) = self.used(&used, count, now_ns) {
                if let Some(probe) = self.probes.get(used.call).filter(|probe| used.first == 0 && probe.function.is_bound()) {
                    self.programs.used_unknown(&told.who, probe.library, &self.libraries);
                }
                self.keep(What::Used(told));
            }
        }
        for process in ended {
            if let Eyes::Programs(kernel) = &mut self.eyes {
                self.tally.forget(process.0, process.1).iter().for_each(|used| kernel.forget(used));
            }
            self.workers.remove(&process);
        }
        if now_ns.saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.swept_ns = now_ns;
            self.sweep();
        }
        if let Eyes::Programs(kernel) = &mut self.eyes {
            self.budget.read(now_ns, kernel, &mut self.probes, &self.libraries);
        }
    }

    /// Takes processes that are gone as ended; what they did last is told with the next reading.
    fn sweep(&mut self) {
        let known: HashSet<(u32, u64)> = self.workers.keys().copied().chain(self.tally.processes()).collect();
        self.ended.extend(known.into_iter().filter(|(pid, started_ns)| !programs::is_same(*pid, *started_ns)));
    }

    fn used(&self, used: &Use, count: u64, at_ns: u64) -> Option<Used> {
        let probe = self.probes.get(used.call)?;
        let unknown = || Who { pid: used.pid, started_ns: used.started_ns, ..Who::default() };
        if MACS.contains(&used.kind) {
            return None;
        }
        let mut files = vec![(used.first, used.generations[0]), (used.second, used.generations[1])];
        files.retain(|(file, _)| !matches!(*file, 0 | AMBIGUOUS));
        let is_handshake = self.probes.operation(used.call)? == Operation::Handshake;
        Some(Used {
            at_ns,
            who: self.workers.get(&(used.pid, used.started_ns)).cloned().unwrap_or_else(unknown),
            operation: self.probes.operation(used.call)?.as_str().to_owned(),
            library: self.libraries.path(probe.library).to_owned(),
            files: files.iter().map(|(file, _)| *file).collect(),
            generations: files.iter().map(|(_, generation)| *generation).collect(),
            is_ambiguous: used.first == AMBIGUOUS,
            algorithm: if is_handshake { version(used.kind) } else { algorithm(used.kind) },
            is_server: used.detail & 1 != 0,
            is_resumed: used.detail & 2 != 0,
            count,
        })
    }

    /// What was lost since the start, where that is news or `always`.
    fn lost(&mut self, always: bool) -> Option<Tell> {
        let by_eyes = match &self.eyes {
            Eyes::Programs(kernel) => kernel.lost(),
            Eyes::Marks(marks, _) => Lost { records: marks.lost(), ..Lost::default() },
        };
        let lost = (by_eyes, self.kept.given_up());
        let is_news = std::mem::replace(&mut self.told_lost, lost) != lost;
        let what = What::Lost { opens: lost.0.records + lost.1.opens, operations: lost.0.counts + lost.1.operations };
        (is_news || always).then_some(Tell { seq: 0, what })
    }

    /// Looks for libraries. What changed since the last time of how things stand; and whether all was looked at, or it is to go on soon.
    pub fn look(&mut self) -> (Vec<Tell>, bool) {
        let mut is_whole = true;
        if let Eyes::Programs(kernel) = &mut self.eyes {
            is_whole = self.libraries.look(kernel, &mut self.probes);
            self.programs.look(&self.libraries);
        }
        let mut tells: Vec<Tell> = self.lost(false).into_iter().collect();
        let sights = self.sight();
        if sights != self.sights {
            self.sights.clone_from(&sights);
            tells.push(Tell { seq: 0, what: What::Sight(sights) });
        }
        (tells, is_whole)
    }

    /// How well everything is seen.
    fn sight(&self) -> Vec<Sight> {
        let none = (!self.libraries.any()).then(|| "there is no cryptographic library of a kind that can be looked into".to_owned());
        match &self.eyes {
            Eyes::Programs(kernel) if !self.libraries.is_settled() => {
                // How well operations are seen is not known yet, and said only where that lasts.
                let is_soon = since_boot_ns().saturating_sub(self.began_ns) < SETTLES_NS;
                let mut sights = sight::of_programs(&kernel.refused, kernel.tricks(), Some(UNSETTLED.to_owned()));
                sights.retain(|sight| !is_soon || sight.what != "operations");
                sights
            }
            Eyes::Programs(kernel) => {
                let all = sight::of_programs(&kernel.refused, kernel.tricks(), none).into_iter().chain(self.libraries.sight());
                all.chain(self.budget.sight(&self.probes, &self.libraries)).chain(self.programs.sight()).collect()
            }
            Eyes::Marks(marks, why) => sight::of_marks(why, marks.refused.as_deref(), &marks.audited()),
        }
    }

    /// What an agent gets when it says hello; from then on it is the one that listens.
    pub fn hello(&mut self, have: Option<(u64, u64)>) -> Vec<Tell> {
        self.kept.begin(have.filter(|(helper, _)| *helper == self.id).map_or(0, |(_, seq)| seq));
        let missed: Vec<Tell> = self.unsent().cloned().collect();
        let hello = Tell { seq: 0, what: What::Hello { version: VERSION, helper: self.id } };
        // How well is seen comes last of what stands: with it the agent knows the helper.
        let sight = Tell { seq: 0, what: What::Sight(self.sight()) };
        [hello].into_iter().chain(self.lost(true)).chain([sight]).chain(missed).collect()
    }

    /// What the agent that listens was not sent yet; it is now.
    pub fn unsent(&mut self) -> impl Iterator<Item = &Tell> {
        self.kept.unsent()
    }

    /// From now on opens are told with what the program consists of, or without.
    pub fn tell_hashes(&mut self, wanted: bool) {
        if wanted != self.digests.is_some() {
            self.digests = wanted.then(Digests::default);
        }
    }

    /// Does what the agent asks.
    ///
    /// # Errors
    /// It asks for what cannot be done; the connection is to be closed.
    pub fn follow(&mut self, ask: &Follow<'_>) -> Result<(), String> {
        if [ask.files.len(), ask.entries.len(), ask.names.len(), ask.paths.len()].into_iter().any(|len| len > FILES_MAX) {
            return Err(format!("more than {FILES_MAX} files"));
        }
        let kernel = match &mut self.eyes {
            Eyes::Programs(kernel) => kernel,
            Eyes::Marks(marks, _) => {
                marks.follow(ask.files, ask.paths);
                return Ok(());
            }
        };
        let entries = ask.entries.iter().map(|(dev, ino, name, number)| (((*dev, *ino), *name), *number)).collect();
        let paths = ask.paths.iter().map(|(path, number)| (name_key(path_of(path).as_os_str().as_encoded_bytes()), *number)).collect();
        replace(&mut self.files, marked(ask.files), kernel, Kernel::leave, Kernel::follow)?;
        replace(
            &mut self.entries,
            entries,
            kernel,
            |kernel, (dir, name)| kernel.leave_entry(dir, name),
            |kernel, (dir, name), number| kernel.follow_entry(dir, name, number),
        )?;
        replace(&mut self.paths, paths, kernel, Kernel::leave_path, Kernel::follow_path)?;
        let wanted: HashSet<u64> = ask.names.iter().copied().collect();
        self.names.difference(&wanted).for_each(|name| kernel.leave_name(*name));
        self.names.retain(|name| wanted.contains(name));
        for name in wanted {
            if !self.names.contains(&name) {
                kernel.follow_name(name)?;
                self.names.insert(name);
            }
        }
        Ok(())
    }

    fn keep(&mut self, what: What) {
        self.kept.keep(what);
    }

    /// Forgets what the agent keeps itself; no more than it was sent.
    pub fn had(&mut self, seq: u64) {
        self.kept.had(seq);
    }
}

/// What the agent wants followed, as in [`Ask::Follow`].
#[derive(Debug, Clone, Copy)]
pub struct Follow<'a> {
    /// Files.
    pub files: &'a [(u32, u64, u32, u32)],
    /// Names in directories.
    pub entries: &'a [(u32, u64, u64, u32)],
    /// Hashes of names.
    pub names: &'a [u64],
    /// Paths.
    pub paths: &'a [(String, u32)],
}

/// The files as the kernel programs look for them: the first of a device and inode by those alone.
fn marked(files: &[(u32, u64, u32, u32)]) -> HashMap<FileId, Marked> {
    let mut marked = HashMap::new();
    for (dev, ino, version, number) in files.iter().copied() {
        let first = FileId { dev, ino, version: 0 };
        let file = if marked.contains_key(&first) { FileId { version, ..first } } else { first };
        marked.entry(file).or_insert(Marked { number, version });
    }
    marked
}

/// Makes a table of the kernel hold what is wanted and no more: what goes, goes first, as there may be no room for both.
fn replace<K: Copy + Eq + Hash, V: Copy + PartialEq>(
    have: &mut HashMap<K, V>,
    wanted: HashMap<K, V>,
    kernel: &mut Kernel,
    leave: impl Fn(&mut Kernel, K),
    follow: impl Fn(&mut Kernel, K, V) -> Result<(), String>,
) -> Result<(), String> {
    have.retain(|key, _| {
        let stays = wanted.contains_key(key);
        if !stays {
            leave(kernel, *key);
        }
        stays
    });
    for (key, number) in &wanted {
        if have.get(key) == Some(number) {
            continue;
        }
        follow(kernel, *key, *number)?;
        // What could not be told to the kernel is tried again the next time.
        have.insert(*key, *number);
    }
    Ok(())
}

/// Reads a line of the agent.
///
/// # Errors
/// It is none.
pub fn read(line: &[u8]) -> Result<Ask, String> {
    serde_json::from_slice(line).map_err(|e| format!("not a message of an agent of this version: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper() -> Option<Helper> {
        let marks = Marks::begin().inspect_err(|e| eprintln!("not tried: {e}")).ok()?;
        Some(Helper::new(Eyes::Marks(Box::new(marks), String::new()), 7))
    }

    #[test]
    fn files_of_one_number_are_all_followed() {
        let marked = marked(&[(1, 2, 5, 70), (1, 2, 6, 80), (1, 3, 0, 90)]);
        let of = |ino, version| marked.get(&FileId { dev: 1, ino, version }).map(|marked| (marked.number, marked.version));
        assert_eq!([of(2, 0), of(2, 6), of(3, 0), of(2, 5)], [Some((70, 5)), Some((80, 6)), Some((90, 0)), None]);
    }

    #[test]
    fn who_ended_untold_is_forgotten_and_who_lives_keeps_its_name() {
        let Some(mut helper) = helper() else { return };
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        let (own, another) = ((std::process::id(), ticks * 10_000_000), (std::process::id(), 5));
        let before = (std::process::id(), 6);
        [own, another].into_iter().for_each(|process| drop(helper.workers.insert(process, Who::default())));
        helper.tally.news(&[(Use { started_ns: before.1, pid: before.0, call: 1, first: 0, second: 0, kind: 6, detail: 0, generations: [0; 2] }, 1)]);
        helper.sweep();
        helper.ended.sort_unstable();
        assert_eq!(helper.ended, [another, before]);
    }
}
