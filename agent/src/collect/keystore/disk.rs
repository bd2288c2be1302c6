//! The keystore sensor's hand on the disk: stat, list, read, each bounded. Never opens anything for reading but directories
//! and regular files, never waits for a FIFO, never writes. Where the host is mounted below a prefix, links are resolved as
//! the host would. File contents live in buffers that are wiped. Called by the walk and the sensor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use keyvigil_common::limits::{ACL_BYTES_MAX, KEY_FILE_BYTES_MAX, KEY_SNIFF_BYTES};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::collect::known::OwnReads;
use crate::parse::acl::{self, Acl};
use crate::parse::keys::looks_like_keys;
use crate::rootfs::RootFs;

/// Links that are followed on the way to one file, as many as the kernel follows.
const LINKS_MAX: usize = 40;
const ACCESS_LIST: &str = "system.posix_acl_access";
const GROUP_BITS: u32 = 0o070;

/// By which a change of a file is noticed without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Last write, Unix ns.
    pub(super) modified_ns: i128,
    /// Last change of contents, owner or mode, Unix ns.
    pub(super) changed_ns: i128,
    /// Type and permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Names that it has, seen or not.
    pub(super) links: u64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: ns(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            changed_ns: ns(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Which file it is, whatever its name.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// One name in a directory.
pub(super) struct Entry {
    pub(super) name: OsString,
    /// Of the name itself, links not followed.
    pub(super) stamp: io::Result<Stamp>,
}

/// A directory.
pub(super) struct Listing {
    pub(super) stamp: Stamp,
    pub(super) entries: Vec<Entry>,
    /// There are more than were asked for.
    pub(super) more: bool,
}

/// What reading a file gave.
pub(super) enum Contents {
    /// May hold keys; with the file's access control list, where that is known.
    Bytes(Zeroizing<Vec<u8>>, Option<Acl>),
    /// Has nothing to do with keys.
    Other,
    /// Looks like keys, and is larger than any key file.
    TooLarge(u64),
}

/// The disk of the host.
#[derive(Debug)]
pub(super) struct Disk {
    root: RootFs,
    /// The directory that stands for `/`; `None` where it is `/`.
    top: Option<OwnedFd>,
    own: OwnReads,
}

impl Disk {
    /// # Errors
    /// The root cannot be opened.
    pub(super) fn open_root(root: &RootFs) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = if root.is_host() { None } else { Some(rustix::fs::open(root.path("/"), flags, Mode::empty())?) };
        Ok(Self { root: root.clone(), top, own: OwnReads::default() })
    }

    /// The same, and what is opened of it is counted.
    pub(super) fn counting(self, own: OwnReads) -> Self {
        Self { own, ..self }
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        Ok(match &self.top {
            None => rustix::fs::open(path, flags, Mode::empty())?,
            Some(top) => rustix::fs::openat2(top, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?,
        })
    }

    /// Of what `path` leads to.
    pub(super) fn stat(&self, path: &Path) -> io::Result<Stamp> {
        match &self.top {
            None => Ok(Stamp::of(&rustix::fs::stat(path)?)),
            Some(_) => Ok(Stamp::of(&rustix::fs::fstat(self.open(path, OFlags::PATH)?)?)),
        }
    }

    /// Whether `path` itself is a link.
    pub(super) fn is_link(&self, path: &Path) -> bool {
        self.stat_link(path).is_ok_and(|stamp| stamp.file_type() == FileType::Symlink)
    }

    /// Whose `path` itself is, and not what it leads to.
    pub(super) fn owner(&self, path: &Path) -> Option<u32> {
        self.stat_link(path).ok().map(|stamp| stamp.uid)
    }

    fn stat_link(&self, path: &Path) -> io::Result<Stamp> {
        Ok(Stamp::of(&rustix::fs::fstat(self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?)?))
    }

    /// `path` without links, as the host sees it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.resolve(path, &mut Vec::new())
    }

    /// Of the links that lead in a circle, on which `path` ends, the first by name.
    pub(super) fn first_of_loop(&self, path: &Path) -> Option<PathBuf> {
        let mut links = Vec::new();
        self.resolve(path, &mut links).err()?;
        let (last, before) = links.split_last()?;
        let begin = before.iter().rposition(|link| link == last)?;
        before[begin..].iter().min().cloned()
    }

    /// `path` without `links`, which are the links on the way.
    fn resolve(&self, path: &Path, links: &mut Vec<PathBuf>) -> io::Result<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut rest: Vec<OsString> = path.iter().rev().map(OsStr::to_owned).collect();
        while let Some(part) = rest.pop() {
            if part == "/" || part == "." {
                continue;
            }
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let file = self.open(&next, OFlags::PATH | OFlags::NOFOLLOW)?;
            let Some(target) = link_of(&file)? else {
                real = next;
                continue;
            };
            links.push(next);
            if links.len() > LINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            rest.extend(target.iter().rev().map(OsStr::to_owned));
        }
        Ok(real)
    }

    /// Up to `limit` names of a directory, each with its stamp.
    pub(super) fn list(&self, path: &Path, limit: usize) -> io::Result<Listing> {
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)?;
        let stamp = Stamp::of(&rustix::fs::fstat(&directory)?);
        let mut listing = Listing { stamp, entries: Vec::new(), more: false };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if listing.entries.len() >= limit {
                listing.more = true;
                break;
            }
            let stamp = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
            if matches!(stamp, Err(Errno::NOENT)) {
                continue;
            }
            listing.entries.push(Entry { name: OsStr::from_bytes(name.to_bytes()).to_owned(), stamp: stamp.map(|stat| Stamp::of(&stat)).map_err(Into::into) });
        }
        Ok(listing)
    }

    /// Opens what is a regular file, and nothing else; with the stamp it has.
    fn regular(&self, path: &Path) -> io::Result<(Stamp, File)> {
        // Not even opening may have an effect before it is known to be a regular file: a device acts on it.
        let handle = self.open(path, OFlags::PATH)?;
        let stamp = Stamp::of(&rustix::fs::fstat(&handle)?);
        if stamp.file_type() != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.own.opening(stamp.identity(), || rustix::fs::open(descriptor_path(&handle), flags, Mode::empty()))?;
        Ok((stamp, File::from(file)))
    }

    /// Reads a file of text whole; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` where it is not a regular file, `FileTooLarge` where it has more than `most` bytes.
    pub(super) fn text(&self, path: &Path, most: u64) -> io::Result<(Stamp, Zeroizing<String>)> {
        let (stamp, mut file) = self.regular(path)?;
        if stamp.size > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} bytes; at most {most} are read", stamp.size)));
        }
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(stamp.size).unwrap_or(0)]);
        let read = fill(&mut file, &mut bytes)?;
        bytes.truncate(read);
        // Configurations hold passwords, too.
        Ok((stamp, Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
    }

    /// Reads a regular file whole if its beginning looks like keys; with the stamp it had when it was read.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` where it is no longer a regular file.
    pub(super) fn read(&self, path: &Path) -> io::Result<(Stamp, Contents)> {
        let (stamp, mut file) = self.regular(path)?;
        let size = usize::try_from(stamp.size).unwrap_or(usize::MAX);
        let mut bytes = Zeroizing::new(vec![0; size.min(KEY_SNIFF_BYTES)]);
        let read = fill(&mut file, &mut bytes)?;
        bytes.truncate(read);
        if !looks_like_keys(&bytes, stamp.size, path) {
            return Ok((stamp, Contents::Other));
        }
        if stamp.size > KEY_FILE_BYTES_MAX {
            return Ok((stamp, Contents::TooLarge(stamp.size)));
        }
        if size > bytes.len() {
            let mut whole = Zeroizing::new(vec![0; size]);
            whole[..bytes.len()].copy_from_slice(&bytes);
            let read = bytes.len() + fill(&mut file, &mut whole[bytes.len()..])?;
            whole.truncate(read);
            bytes = whole;
        }
        let acl = list_of(&stamp, |buffer| rustix::fs::fgetxattr(&file, ACCESS_LIST, buffer)).ok();
        Ok((stamp, Contents::Bytes(bytes, acl)))
    }

    /// Whom the access control list of what `path` leads to lets in beside those of the mode.
    ///
    /// # Errors
    /// What the system says; `InvalidData` where it is longer than we read, or of another form.
    pub(super) fn acl(&self, path: &Path, stamp: &Stamp) -> io::Result<Acl> {
        match &self.top {
            None => list_of(stamp, |buffer| rustix::fs::getxattr(path, ACCESS_LIST, buffer)),
            Some(_) => {
                let file = self.open(path, OFlags::PATH)?;
                list_of(stamp, |buffer| rustix::fs::getxattr(descriptor_path(&file), ACCESS_LIST, buffer))
            }
        }
    }

    /// Where `path` lies outside of any prefix.
    pub(super) fn real(&self, path: &Path) -> PathBuf {
        self.root.path(path)
    }
}

/// Where an open name leads, if it is a link.
fn link_of(file: &OwnedFd) -> io::Result<Option<PathBuf>> {
    match rustix::fs::readlinkat(file, "", Vec::new()) {
        Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))),
        // Not a link.
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The access control list that `get` reads.
fn list_of(stamp: &Stamp, get: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Acl> {
    if stamp.mode & GROUP_BITS == 0 {
        // With a list these are its mask.
        return Ok(Acl::default());
    }
    let mut buffer = [0; ACL_BYTES_MAX];
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "an access control list that cannot be read");
    match get(&mut buffer) {
        Ok(length) => acl::read(&buffer[..length]).ok_or_else(unknown),
        // It has none, or the file system knows none.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Acl::default()),
        Err(Errno::RANGE) => Err(unknown()),
        Err(e) => Err(e.into()),
    }
}

/// A path by which an open descriptor can be opened anew: surely the same file.
fn descriptor_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Reads until `buffer` is full or the file ends; how much.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
