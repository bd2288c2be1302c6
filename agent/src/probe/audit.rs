//! Opens as Linux audit tells them, where the kernel takes no programs and the administrator's own rules cover a file. No rule is made or
//! asked for here: whether one covers a file is tried, by opening it and seeing whether that is told. Called by `marks`, which tells the
//! opens of all other files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::netlink::{AUDIT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt};

use super::marks;
use super::message::{Opened, Who};
use super::since_boot_ns;
use crate::parse::audit::{Call, Item, Part, message};

/// The group that everybody may join who has `CAP_AUDIT_READ`, as a bit.
const READERS: u32 = 1;
/// Bytes of a message, and of the kernel's room for those that wait.
const MESSAGE: usize = 16 << 10;
const WAITING: usize = 4 << 20;
/// Calls of which not all came yet.
const CALLS_MAX: usize = 256;
/// Files that one call comes by.
const ITEMS_MAX: usize = 16;
const NAME_ONLY: u32 = 0o10_000_000;
/// How long a trial takes that comes to nothing, and after what time one is made again where audit tells of the file nonetheless: it was
/// switched on, which it does not tell, or its rule does not cover everybody.
const PATIENCE_NS: u64 = 2_000_000_000;
const AGAIN_NS: u64 = 10_000_000_000;

/// A call, as far as it came.
#[derive(Debug, Default)]
struct Coming {
    call: Option<Call>,
    directory: String,
    items: Vec<Item>,
}

/// What is known of a followed file.
#[derive(Debug)]
enum Covered {
    /// Tried since then. What fanotify tells meanwhile is held: audit tells it as well, if it does.
    Tried { since_ns: u64, held: Vec<Opened>, is_marked: bool },
    /// By a rule: audit tells all of it.
    Yes,
    /// By none, which was found out then.
    No { since_ns: u64 },
}

/// The group's listener.
#[derive(Debug)]
pub(super) struct Audit {
    socket: OwnedFd,
    coming: BTreeMap<u64, Coming>,
    covered: HashMap<u32, Covered>,
    files: HashMap<(u32, u64), u32>,
    paths: HashMap<PathBuf, u32>,
    /// When rules were changed last.
    changed_ns: u64,
    /// Told of though no rule was thought to cover them.
    doubted: HashSet<u32>,
    /// Times that there was no room.
    pub(super) lost: u64,
}

impl Audit {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system's: it takes `CAP_AUDIT_READ`, and the network namespace of the host.
    pub(super) fn begin() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(AUDIT))?;
        sockopt::set_socket_recv_buffer_size(&socket, WAITING)?;
        bind(&socket, &SocketAddrNetlink::new(0, READERS))?;
        let (coming, covered) = (BTreeMap::new(), HashMap::new());
        Ok(Self { socket, coming, covered, files: HashMap::new(), paths: HashMap::new(), changed_ns: 0, doubted: HashSet::new(), lost: 0 })
    }

    /// Follows these, and tries whether rules cover those that are new or other files than before.
    pub(super) fn follow(&mut self, files: &HashMap<(u32, u64), u32>, paths: &HashMap<PathBuf, u32>) {
        let numbers: HashSet<u32> = paths.values().copied().collect();
        self.covered.retain(|number, _| numbers.contains(number));
        let moved: Vec<u32> = files.iter().filter(|(file, number)| self.files.get(file) != Some(number)).map(|(_, number)| *number).collect();
        (self.files, self.paths) = (files.clone(), paths.clone());
        self.try_files(|number, covered| !covered || moved.contains(&number));
    }

    /// Opens files, so that it is seen whether audit tells that. A trial that goes on already goes on.
    fn try_files(&mut self, is_due: impl Fn(u32, bool) -> bool) {
        let mut tried = HashSet::new();
        for (path, number) in &self.paths {
            let known = self.covered.get(number);
            if matches!(known, Some(Covered::Tried { .. })) || !is_due(*number, known.is_some()) || !tried.insert(*number) {
                continue;
            }
            // One that cannot be opened is covered by nothing that we could see.
            let covered = match open(path) {
                Ok(()) => Covered::Tried { since_ns: since_boot_ns(), held: Vec::new(), is_marked: false },
                Err(_) => Covered::No { since_ns: since_boot_ns() },
            };
            self.covered.insert(*number, covered);
        }
    }

    /// Our own trial, in the order in which fanotify tells it.
    pub(super) fn mark(&mut self, file: u32) {
        if let Some(Covered::Tried { is_marked, .. }) = self.covered.get_mut(&file) {
            *is_marked = true;
        }
    }

    /// An open that fanotify told: given back where it is to be told.
    pub(super) fn leave(&mut self, opened: Opened) -> Option<Opened> {
        match self.covered.get_mut(&opened.file) {
            Some(Covered::Yes) => None,
            Some(Covered::Tried { held, is_marked: true, .. }) if held.len() < CALLS_MAX => {
                held.push(opened);
                None
            }
            _ => Some(opened),
        }
    }

    /// How many of the followed files rules cover.
    pub(super) fn covers(&self) -> (usize, usize) {
        (self.covered.values().filter(|covered| matches!(covered, Covered::Yes)).count(), self.covered.len())
    }

    /// Takes all that has come, but what `ours` did.
    pub(super) fn drain(&mut self, ours: [u32; 2]) -> Vec<Opened> {
        let (mut opens, mut room) = (Vec::new(), vec![0; MESSAGE]);
        loop {
            match recvfrom(&self.socket, &mut room[..], RecvFlags::empty()) {
                Ok((read, _, Some(from))) => {
                    // Of the kernel, and of nobody else.
                    let is_kernel = SocketAddrNetlink::try_from(from).is_ok_and(|from| from.pid() == 0);
                    let told = message(room.get(..read).unwrap_or_default()).filter(|_| is_kernel);
                    told.into_iter().for_each(|(serial, part)| self.take(serial, part, &mut opens));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => self.lost += 1,
                Err(_) => break,
            }
        }
        opens.retain(|opened: &Opened| !ours.contains(&opened.who.pid));
        let (now_ns, mut again) = (since_boot_ns(), std::mem::take(&mut self.doubted));
        for (number, covered) in &mut self.covered {
            if let Covered::Tried { since_ns, held, .. } = covered
                && now_ns > *since_ns + PATIENCE_NS
            {
                opens.append(held);
                // A rule may have come after the trial.
                again.extend((self.changed_ns > *since_ns).then_some(*number));
                *covered = Covered::No { since_ns: now_ns };
            }
        }
        self.try_files(|number, _| again.contains(&number));
        opens
    }

    fn take(&mut self, serial: u64, part: Part, opens: &mut Vec<Opened>) {
        match part {
            Part::Rules => {
                self.changed_ns = since_boot_ns();
                self.try_files(|_, _| true);
            }
            Part::Call(call) => {
                if self.coming.len() >= CALLS_MAX {
                    self.lost += u64::from(self.coming.pop_first().is_some());
                }
                self.coming.insert(serial, Coming { call: Some(call), ..Coming::default() });
            }
            Part::Directory(directory) => self.coming.get_mut(&serial).into_iter().for_each(|coming| coming.directory.clone_from(&directory)),
            Part::Item(item) => {
                self.coming.get_mut(&serial).filter(|coming| coming.items.len() < ITEMS_MAX).into_iter().for_each(|coming| coming.items.push(item.clone()));
            }
            Part::End => {
                let opened = self.coming.remove(&serial).and_then(|coming| self.opened(coming));
                opens.extend(opened);
            }
        }
    }

    /// What a whole call opened or was denied, where that is followed, covered and not our own.
    fn opened(&mut self, coming: Coming) -> Option<Opened> {
        let call = coming.call?;
        let denied = [Errno::ACCESS, Errno::PERM].into_iter().map(Errno::raw_os_error).find(|errno| call.exit == -errno);
        if call.exit < 0 && denied.is_none() || call.flags.is_some_and(|flags| flags & NAME_ONLY != 0) {
            return None;
        }
        let asked = |item: &Item| Path::new(&coming.directory).join(&item.name);
        let number = |item: &Item| item.file.and_then(|file| self.files.get(&file)).or_else(|| self.paths.get(&asked(item))).copied();
        let (item, file) = coming.items.iter().find_map(|item| Some((item, number(item)?)))?;
        if call.pid == std::process::id() {
            if let Some(covered @ Covered::Tried { .. }) = self.covered.get_mut(&file) {
                *covered = Covered::Yes;
            }
            return None;
        }
        if let Some(Covered::No { since_ns }) = self.covered.get(&file)
            && since_boot_ns() > since_ns + AGAIN_NS
        {
            self.doubted.insert(file);
        }
        // Of what was opened fanotify tells then; of what was denied nobody else does.
        if denied.is_none() && !matches!(self.covered.get(&file), Some(Covered::Yes)) {
            return None;
        }
        let errno = denied.unwrap_or_default();
        let asked = if errno == 0 { String::new() } else { asked(item).to_string_lossy().into_owned() };
        let file = if errno == 0 { file } else { 0 };
        Some(Opened { at_ns: since_boot_ns(), who: who(call), file, errno, asked, ..Opened::default() })
    }
}

/// Opens a file for reading where it is a regular one, and closes it.
fn open(path: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).map(drop)?)
}

/// As the record has it, with what can still be seen of the process where it is still the same.
fn who(call: Call) -> Who {
    let seen = marks::who(call.pid);
    let rest = if seen.exe == call.exe && seen.parent == call.parent { seen } else { Who::default() };
    Who { pid: call.pid, parent: call.parent, uid: call.uid, login_uid: call.login_uid, exe: call.exe, comm: call.comm, ..rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_told_also_while_it_is_tried_whether_a_rule_covers_the_file() {
        let Ok(mut audit) = Audit::begin().inspect_err(|e| eprintln!("not tried: {e}")) else { return };
        audit.files.insert((1, 2), 7);
        audit.covered.insert(7, Covered::Tried { since_ns: since_boot_ns(), held: Vec::new(), is_marked: false });
        let mut told = |exit: i32| {
            let mut opens = Vec::new();
            let item = Item { name: "/keys/a.key".to_owned(), file: Some((1, 2)) };
            for part in [Part::Call(Call { exit, pid: 1, ..Call::default() }), Part::Item(item), Part::End] {
                audit.take(5, part, &mut opens);
            }
            opens.into_iter().map(|opened| (opened.errno, opened.asked)).collect::<Vec<_>>()
        };
        assert_eq!(told(-13), [(13, "/keys/a.key".to_owned())]);
        assert_eq!(told(3), [], "fanotify tells that one");
    }
}
