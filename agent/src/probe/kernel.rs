//! The kernel programs: loaded, attached to what every process does (open, fork, exit), and their tables. What this kernel refuses is
//! told, with the reason, and the rest works.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::{BtfTracePoint, FEntry, FExit, ProgramError, RawTracePoint, UProbe};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};

use super::layout::{
    BINDING_BYTES, BINDING_KEY_BYTES, CALL_BYTES, Call, FileId, Marked, Record, SETTINGS_BYTES, SPOT_BYTES, SPOT_CODE, USE_BYTES, Use, entry_key, settings,
    spot_key,
};
use super::place::Mounts;
use super::ring::Ring;

/// Compiled by `cargo xtask bpf`.
#[cfg(target_arch = "x86_64")]
const OBJECT: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/keyvigil.x86_64.bpf.o"));
#[cfg(not(target_arch = "x86_64"))]
const OBJECT: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/keyvigil.aarch64.bpf.o"));

/// The programs on the functions of the kernel that carry opens out: by path, and by handle. Not every kernel lets these be watched.
const WALK: (&str, &str) = ("path_opened", "do_filp_open");
const HANDLES: (&str, &str) = ("handle_opened", "do_file_open_root");
/// With them the program on where the kernel finds that a file's mode gives no right to it: who is denied may have asked by any path.
pub(super) const RIGHTS: &str = "right_asked";
const RIGHTS_POINT: &str = "capable_wrt_inode_uidgid";
/// Else: the program on system calls that open files, and where it is attached.
pub(super) const CALLS: &str = "call_returned";
const CALLS_POINT: &str = "sys_exit";
/// And those on another way to open: by `io_uring`, when it is asked for and when it is done.
pub(super) const URING: [&str; 2] = ["uring_asked", "uring_done"];
const URING_POINTS: [&str; 2] = ["io_uring_submit_req", "io_uring_complete"];
const RAW: [(&str, &str); 2] = [("forked", "sched_process_fork"), ("ended", "sched_process_exit")];
/// Programs that are attached to functions of libraries.
pub const ON_FUNCTIONS: [&str; 8] = ["key_returned", "key_filled", "key_passed", "key_freed", "key_used", "key_done", "handshake_called", "handshake_returned"];

/// What could not be told or counted since the helper began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Opens that were not told, and system calls at which the kernel left our program out, of which some may be opens.
    pub records: u64,
    /// Operations, likewise.
    pub counts: u64,
    /// Keys whose file is known no more.
    pub bindings: u64,
}

/// The programs and tables.
pub struct Kernel {
    ebpf: Ebpf,
    records: Ring,
    files: HashMap<MapData, [u8; 16], [u8; 8]>,
    entries: HashMap<MapData, [u8; 24], u32>,
    names: HashMap<MapData, u64, u32>,
    paths: HashMap<MapData, u64, u32>,
    settings: Array<MapData, [u8; SETTINGS_BYTES]>,
    calls: Array<MapData, [u8; CALL_BYTES]>,
    uses: PerCpuHashMap<MapData, [u8; USE_BYTES], u64>,
    bindings: HashMap<MapData, [u8; BINDING_KEY_BYTES], [u8; BINDING_BYTES]>,
    reached: PerCpuArray<MapData, u64>,
    spots: HashMap<MapData, [u8; SPOT_BYTES], u32>,
    /// The kernel tells a program which probe it serves: since 5.15.
    pub has_cookies: bool,
    lost: PerCpuArray<MapData, u64>,
    /// Why opens are not seen where the kernel carries them out, but as system calls.
    not_walking: Option<String>,
    /// What could not be attached, and why.
    pub refused: Vec<(String, String)>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel(refused: {:?})", self.refused)
    }
}

impl Kernel {
    /// Loads the programs and attaches those that watch opens.
    ///
    /// # Errors
    /// What this kernel or this user lacks, for people.
    pub fn load() -> Result<Self, String> {
        let types = Btf::from_sys_fs().map_err(|e| format!("the kernel tells no type information (CONFIG_DEBUG_INFO_BTF): {e}"))?;
        let mut loader = EbpfLoader::new();
        // The verifier's log is written where it refuses; asking for it always costs seconds.
        let mut ebpf = loader.btf(Some(&types)).verifier_log_level(VerifierLogLevel::DISABLE).load(OBJECT).map_err(|e| reason(&e))?;
        let mut kernel = Self {
            records: RingBuf::try_from(take(&mut ebpf, "records")?).map_err(|e| reason(&e)).and_then(|ring| Ring::new(ring).map_err(|e| reason(&e)))?,
            files: HashMap::try_from(take(&mut ebpf, "files")?).map_err(|e| reason(&e))?,
            entries: HashMap::try_from(take(&mut ebpf, "entries")?).map_err(|e| reason(&e))?,
            names: HashMap::try_from(take(&mut ebpf, "names")?).map_err(|e| reason(&e))?,
            paths: HashMap::try_from(take(&mut ebpf, "paths")?).map_err(|e| reason(&e))?,
            settings: Array::try_from(take(&mut ebpf, "settings")?).map_err(|e| reason(&e))?,
            calls: Array::try_from(take(&mut ebpf, "calls")?).map_err(|e| reason(&e))?,
            uses: PerCpuHashMap::try_from(take(&mut ebpf, "uses")?).map_err(|e| reason(&e))?,
            bindings: HashMap::try_from(take(&mut ebpf, "bindings")?).map_err(|e| reason(&e))?,
            reached: PerCpuArray::try_from(take(&mut ebpf, "reached")?).map_err(|e| reason(&e))?,
            spots: HashMap::try_from(take(&mut ebpf, "spots")?).map_err(|e| reason(&e))?,
            has_cookies: true,
            lost: PerCpuArray::try_from(take(&mut ebpf, "lost")?).map_err(|e| reason(&e))?,
            not_walking: None,
            refused: Vec::new(),
            ebpf,
        };
        kernel.attach_all(&types);
        Ok(kernel)
    }

    /// Why no open is seen, if none is.
    #[must_use]
    pub fn blind_to_opens(&self) -> Option<&str> {
        self.refused.iter().find(|(name, _)| name == CALLS).map(|(_, why)| why.as_str())
    }

    /// How a program can hide that it opens a file, where it can.
    #[must_use]
    pub fn tricks(&self) -> Option<String> {
        let uring_disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        self.not_walking.as_ref().map(|why| super::sight::tricks(why, uring_disabled.as_deref()))
    }

    fn attach_all(&mut self, types: &Btf) {
        self.not_walking = self.attach_walk(WALK, types).err();
        if let Some(why) = &self.not_walking {
            tracing::info!("opens are seen as system calls, as the kernel does not let its functions be watched: {why}");
            for (name, point) in URING.into_iter().zip(URING_POINTS) {
                let attached = self.attach_raw(name, point);
                self.note(name, attached);
            }
        } else {
            let attached = self.program::<FEntry>(RIGHTS).and_then(|program| {
                program.load(RIGHTS_POINT, types).map_err(|e| reason(&e))?;
                program.attach().map(drop).map_err(|e| reason(&e))
            });
            self.note(RIGHTS, attached);
        }
        if self.not_walking.is_some() || self.attach_walk(HANDLES, types).is_err() {
            let attached = self.program::<BtfTracePoint>(CALLS).and_then(|program| {
                program.load(CALLS_POINT, types).map_err(|e| reason(&e))?;
                program.attach().map(drop).map_err(|e| reason(&e))
            });
            self.note(CALLS, attached);
        }
        for (name, point) in RAW {
            let attached = self.attach_raw(name, point);
            self.note(name, attached);
        }
        for name in ON_FUNCTIONS {
            let loaded = self.program::<UProbe>(name).and_then(|program| program.load().map_err(|e| reason(&e)));
            self.note(name, loaded);
        }
    }

    fn attach_walk(&mut self, (name, function): (&str, &str), types: &Btf) -> Result<(), String> {
        let program = self.program::<FExit>(name)?;
        program.load(function, types).map_err(|e| reason(&e))?;
        program.attach().map(drop).map_err(|e| reason(&e))
    }

    fn attach_raw(&mut self, name: &str, point: &str) -> Result<(), String> {
        let program = self.program::<RawTracePoint>(name)?;
        program.load().map_err(|e| reason(&e))?;
        program.attach(point).map(drop).map_err(|e| reason(&e))
    }

    fn note(&mut self, what: &str, result: Result<(), String>) {
        if let Err(e) = result {
            self.refused.push((what.to_owned(), e));
        }
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, String>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        self.ebpf.program_mut(name).ok_or_else(|| format!("there is no program {name}"))?.try_into().map_err(|e: ProgramError| reason(&e))
    }

    /// A program for functions of libraries, to be attached.
    ///
    /// # Errors
    /// It is not there or was refused.
    pub fn on_function(&mut self, name: &str) -> Result<&mut UProbe, String> {
        self.program(name)
    }

    /// Who is not told: the helper itself, and the agent.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_out(&mut self, itself: u32, agent: u32) -> Result<(), String> {
        let root = Mounts::read().file(Path::new("/")).map_err(|e| e.to_string())?;
        self.settings.set(0, settings(itself, agent, root, self.not_walking.is_none()), 0).map_err(|e| reason(&e))
    }

    /// Follows a file from now on, under this number.
    ///
    /// # Errors
    /// There are too many.
    pub fn follow(&mut self, file: FileId, marked: Marked) -> Result<(), String> {
        self.files.insert(file.key(), marked.bytes(), 0).map_err(|e| reason(&e))
    }

    /// Follows it no more.
    pub fn leave(&mut self, file: FileId) {
        let _ = self.files.remove(&file.key());
    }

    /// Follows whatever lies in a directory under a name of this hash.
    ///
    /// # Errors
    /// There are too many.
    pub fn follow_entry(&mut self, directory: (u32, u64), name: u64, number: u32) -> Result<(), String> {
        self.entries.insert(entry_key(directory.0, directory.1, name), number, 0).map_err(|e| reason(&e))
    }

    /// Follows it no more.
    pub fn leave_entry(&mut self, directory: (u32, u64), name: u64) {
        let _ = self.entries.remove(&entry_key(directory.0, directory.1, name));
    }

    /// Follows whatever is asked for by a path of this hash.
    ///
    /// # Errors
    /// There are too many.
    pub fn follow_path(&mut self, hash: u64, number: u32) -> Result<(), String> {
        self.paths.insert(hash, number, 0).map_err(|e| reason(&e))
    }

    /// Follows it no more.
    pub fn leave_path(&mut self, hash: u64) {
        let _ = self.paths.remove(&hash);
    }

    /// Follows opens that are denied, of files of this name.
    ///
    /// # Errors
    /// There are too many.
    pub fn follow_name(&mut self, hash: u64) -> Result<(), String> {
        self.names.insert(hash, 1, 0).map_err(|e| reason(&e))
    }

    /// Follows them no more.
    pub fn leave_name(&mut self, hash: u64) {
        let _ = self.names.remove(&hash);
    }

    /// Says what a probe means, before it is attached.
    ///
    /// # Errors
    /// There are too many.
    pub fn set_call(&mut self, number: u32, call: &Call) -> Result<(), String> {
        self.calls.set(number, call.bytes(), 0).map_err(|e| reason(&e))
    }

    /// Says which probe lies at a place of a file, for kernels that do not tell. Gives the one that looked the same before.
    ///
    /// # Errors
    /// There are too many.
    pub fn set_spot(&mut self, number: u32, offset: u64, code: &[u8; SPOT_CODE]) -> Result<Option<u32>, String> {
        let key = spot_key(offset, code);
        let before = self.spots.get(&key, 0).ok();
        self.spots.insert(key, number, 0).map_err(|e| reason(&e))?;
        Ok(before)
    }

    /// Takes records off the kernel's ring from now on, whatever the helper does.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&mut self) -> io::Result<()> {
        self.records.begin()
    }

    /// All records that have come.
    pub fn take(&mut self) -> VecDeque<Record> {
        self.records.take()
    }

    /// Becomes readable when records come, once it [begins](Self::begin).
    #[must_use]
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.records.readable()
    }

    /// All counts since the helper began.
    ///
    /// # Errors
    /// The system's.
    pub fn uses(&self) -> Result<Vec<(Use, u64)>, String> {
        let mut uses = Vec::new();
        for row in self.uses.iter() {
            let (key, counts) = row.map_err(|e| reason(&e))?;
            uses.push((Use::read(&key), counts.iter().sum()));
        }
        Ok(uses)
    }

    /// Forgets a count; only of a process that is gone, as else what comes in between is lost.
    pub fn forget(&mut self, used: &Use) {
        let _ = self.uses.remove(&used.bytes());
    }

    /// Forgets which files the keys in memory came from: nobody looked at what became of them.
    pub fn forget_keys(&mut self) {
        let keys: Vec<_> = self.bindings.keys().filter_map(Result::ok).collect();
        for key in keys {
            let _ = self.bindings.remove(&key);
        }
    }

    /// How often a probe was reached.
    #[must_use]
    pub fn reached(&self, number: u32) -> u64 {
        self.reached.get(&number, 0).map_or(0, |counts| counts.iter().sum())
    }

    /// What was lost.
    #[must_use]
    pub fn lost(&self) -> Lost {
        let lost = |why: u32| self.lost.get(&why, 0).map_or(0, |counts| counts.iter().sum());
        let missed = |names: &[&str]| names.iter().map(|name| self.missed(name)).sum::<u64>();
        Lost {
            records: lost(0) + self.records.lost() + missed(&[WALK.0, HANDLES.0, RIGHTS, CALLS, URING[0], URING[1]]),
            counts: lost(1) + missed(&ON_FUNCTIONS),
            bindings: lost(2),
        }
    }

    /// How often the kernel did not run a program when it should have; kernels before 5.12 do not tell.
    fn missed(&self, name: &str) -> u64 {
        let Some(Ok(fd)) = self.ebpf.program(name).map(aya::programs::Program::fd) else { return 0 };
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()));
        info.map_or(0, |info| misses(&info))
    }
}

/// Of `/proc/PID/fdinfo` of a program.
fn misses(info: &str) -> u64 {
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok()).unwrap_or_default()
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, String> {
    ebpf.take_map(name).ok_or_else(|| format!("there is no table {name}"))
}

/// An error with all its causes, as the first alone often says nothing.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_left_out_is_read_where_it_tells() {
        let info = "pos:\t0\nflags:\t02000002\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t17\nverified_insns:\t900\n";
        assert_eq!((misses(info), misses("prog_type:\t26\n")), (17, 0));
    }
}
