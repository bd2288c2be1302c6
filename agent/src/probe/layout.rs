//! How the kernel programs and the helper lay out what they share: the structures of `agent/bpf/*.h`, byte for byte, in the machine's
//! own order. By hand and not by `transmute`: what comes out of a ring is input like any other.

/// Bytes of [`Record`]'s text, with the room behind it (`TEXT_ROOM + NAME_ROOM`).
const TEXT_BYTES: usize = 1024 + 512;
const HEAD_BYTES: usize = 136;
/// Bytes of a [`Call`].
pub const CALL_BYTES: usize = 36;
/// Bytes of a [`Use`].
pub const USE_BYTES: usize = 48;
/// Bytes of a `held_object`.
pub const BINDING_KEY_BYTES: usize = 24;
/// Bytes of a `bound_object`.
pub const BINDING_BYTES: usize = 64;
/// Bytes of a function that tell it from others, and of the key that they are in.
pub const SPOT_CODE: usize = 16;
/// See [`spot_key`].
pub const SPOT_BYTES: usize = 8 + SPOT_CODE;
/// Bytes of a record.
pub const RECORD_BYTES: usize = HEAD_BYTES + TEXT_BYTES;
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x100_0000_01b3;
/// A text did not fit; which.
const CUT: u32 = 1;
const CUT_EXE: u32 = 2;
const CUT_CGROUP: u32 = 4;
const CUT_ASKED: u32 = 8;
/// More files may be meant than can be told.
pub const AMBIGUOUS: u32 = u32::MAX;
/// No such argument.
pub const NO_ARGUMENT: u8 = 255;
/// No such field.
pub const NO_OFFSET: u16 = 0xffff;

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A file was opened.
    Opened,
    /// One was asked for: denied, or nothing tells what came of it.
    Asked,
    /// A process did its first operation with a key.
    Worked,
    /// One that had done so has ended.
    Ended,
}

/// What a kernel program told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What.
    pub deed: Deed,
    /// A name in it is not whole.
    pub is_cut: bool,
    /// The path of the program lacks its beginning.
    pub exe_is_cut: bool,
    /// That of the control group does.
    pub cgroup_is_cut: bool,
    /// The path that was asked for lacks its end.
    pub asked_is_cut: bool,
    /// Since boot, with sleep.
    pub at_ns: u64,
    /// When the process was started, since boot.
    pub started_ns: u64,
    /// Inode, of an open.
    pub ino: u64,
    /// Which state of the file, of an open: see [`generation`].
    pub generation: u64,
    /// The program: device and inode; 0 where the kernel told none.
    pub exe_id: (u32, u64),
    /// Mount namespace, of a denied open by a process with another root than this one; else 0.
    pub mount_ns: u32,
    /// Device as the kernel numbers it.
    pub dev: u32,
    /// Number of the file, of an open.
    pub file: u32,
    /// Process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// User.
    pub uid: u32,
    /// User that logged in; `None` where nobody did, or the kernel keeps no account.
    pub login_uid: Option<u32>,
    /// Error, of a denied open.
    pub errno: i32,
    /// Flags of an open.
    pub flags: u32,
    /// The thread's own name.
    pub comm: String,
    /// That of its parent.
    pub parent_comm: String,
    /// Program, as its mount namespace has it; empty where the kernel told none.
    pub exe: Vec<u8>,
    /// Control group.
    pub cgroup: Vec<u8>,
    /// Path that was asked for.
    pub asked: Vec<u8>,
    /// What that path is relative to.
    pub base: Vec<u8>,
}

/// Reads fields one after the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u16(&mut self) -> Option<usize> {
        self.take().map(u16::from_ne_bytes).map(usize::from)
    }

    fn name(&mut self) -> Option<String> {
        let bytes: [u8; 16] = self.take()?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

impl Record {
    /// Reads one; `None` for bytes that are none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let deed = match r.u32()? {
            1 => Deed::Opened,
            2 => Deed::Asked,
            3 => Deed::Worked,
            4 => Deed::Ended,
            _ => return None,
        };
        let cut = r.u32()?;
        let [is_cut, exe_is_cut, cgroup_is_cut, asked_is_cut] = [CUT, CUT_EXE, CUT_CGROUP, CUT_ASKED].map(|which| cut & which != 0);
        let (at_ns, started_ns, ino, exe_ino, generation) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let exe_id = (r.u32()?, exe_ino);
        let mount_ns = r.u32()?;
        let (dev, file, pid, _tid, parent, uid) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?, r.u32()?, r.u32()?);
        let login_uid = r.u32().map(|uid| (uid != u32::MAX).then_some(uid))?;
        let (errno, flags) = (r.u32()?.cast_signed().saturating_neg(), r.u32()?);
        let lengths = [r.u16()?, r.u16()?, r.u16()?, r.u16()?];
        let _used = r.u32()?;
        let (comm, parent_comm) = (r.name()?, r.name()?);
        // The kernel pads the head to a multiple of eight.
        let mut text = bytes.get(HEAD_BYTES..)?;
        let mut part = |len: usize| {
            let (part, rest) = text.split_at_checked(len)?;
            text = rest;
            Some(part)
        };
        let (exe, cgroup, asked, base) = (part(lengths[0])?, part(lengths[1])?, part(lengths[2])?, part(lengths[3])?);
        let (exe, cgroup, base) = (path(exe), path(cgroup), path(base));
        let asked = asked.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        Some(Self {
            deed,
            is_cut,
            exe_is_cut,
            cgroup_is_cut,
            asked_is_cut,
            at_ns,
            started_ns,
            ino,
            generation,
            exe_id,
            mount_ns,
            dev,
            file,
            pid,
            parent,
            uid,
            login_uid,
            errno,
            flags,
            comm,
            parent_comm,
            exe,
            cgroup,
            asked,
            base,
        })
    }
}

/// A path of its names from the last to the first, each ended by NUL.
fn path(names: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.split(|byte| *byte == 0).rev().filter(|name| !name.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Which file: device and inode as the kernel numbers them. Of several that share both (subvolumes of btrfs) the first has version 0 here,
/// the others their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device.
    pub dev: u32,
    /// Inode.
    pub ino: u64,
    /// See above.
    pub version: u32,
}

impl FileId {
    /// Key of the table `files`.
    #[must_use]
    pub fn key(self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.ino.to_ne_bytes());
        key[8..12].copy_from_slice(&self.dev.to_ne_bytes());
        key[12..].copy_from_slice(&self.version.to_ne_bytes());
        key
    }
}

/// A followed file: value of the table `files`. The number of an inode is used again; its version then is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// It is told by this.
    pub number: u32,
    /// Version of the inode; 0 where the file system tells none.
    pub version: u32,
}

impl Marked {
    /// As the kernel programs read it.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.number.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.version.to_ne_bytes());
        bytes
    }
}

/// Which state of a file it is, of what `stat` says of it: above, which file as of its last change; below, which contents, as far as size
/// and last write tell. The kernel programs make the same (`generation_of`); 0 is unknown.
#[must_use]
pub fn generation(ino: u64, size: u64, modified_ns: i128, changed_ns: i128) -> u64 {
    let parts = |ns: i128| [ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000)].map(|part| i64::try_from(part).unwrap_or_default().cast_unsigned());
    let ([changed, changed_part], [modified, modified_part]) = (parts(changed_ns), parts(modified_ns));
    let hash = |parts: &[u64]| parts.iter().fold(HASH_START, |hash, part| (hash ^ part).wrapping_mul(HASH_PRIME));
    let folded = |hash: u64| (hash ^ hash >> 32) & 0xffff_ffff;
    folded(hash(&[ino, changed, changed_part])) << 32 | folded(hash(&[ino, modified, modified_part, size]))
}

/// Which name in which directory: key of the table `entries`.
#[must_use]
pub fn entry_key(dev: u32, ino: u64, name: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&FileId { dev, ino, version: 0 }.key());
    key[16..].copy_from_slice(&name.to_ne_bytes());
    key
}

/// Where a probe lies, for kernels that do not tell: key of the table `spots`.
#[must_use]
pub fn spot_key(offset: u64, code: &[u8; SPOT_CODE]) -> [u8; SPOT_BYTES] {
    let mut key = [0; SPOT_BYTES];
    key[..8].copy_from_slice(&(offset & 0xfff).to_ne_bytes());
    key[8..].copy_from_slice(code);
    key
}

/// Bytes of the settings.
pub const SETTINGS_BYTES: usize = 32;

/// Who is not told, which is the root directory, and whether opens are seen where the kernel carries them out.
#[must_use]
pub fn settings(itself: u32, agent: u32, root: (u32, u64), walks: bool) -> [u8; SETTINGS_BYTES] {
    let mut bytes = [0; SETTINGS_BYTES];
    bytes[..4].copy_from_slice(&itself.to_ne_bytes());
    bytes[4..8].copy_from_slice(&agent.to_ne_bytes());
    bytes[8..24].copy_from_slice(&FileId { dev: root.0, ino: root.1, version: 0 }.key());
    bytes[24..28].copy_from_slice(&u32::from(walks).to_ne_bytes());
    bytes
}

/// Hash of a file's name: key of the table `names` (FNV-1a, 64 bit); of a path: key of `paths`.
#[must_use]
pub fn name_key(name: &[u8]) -> u64 {
    name.iter().fold(HASH_START, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(HASH_PRIME))
}

/// A probe: value of the table `calls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Flags (`enum call_flags`).
    pub flags: u32,
    /// Text of the library, from the instruction probed.
    pub text: (i32, i32),
    /// Bytes that the function has pushed before it.
    pub pushed: u32,
    /// Arguments: the object, one that must not be NULL (of a handshake what it returns when all is well), where a key is taken from.
    pub arguments: [u8; 3],
    /// Offsets: the two pointers to follow, type of a key, references; version, resumed, server, state of a connection.
    pub offsets: [u16; 8],
}

/// The key is what the thread opened last.
pub const CALL_OPENED: u32 = 1;
/// Not counted where the key is unknown.
pub const CALL_KNOWN_ONLY: u32 = 2;
/// Other libraries may do its work.
pub const CALL_ENCLOSES: u32 = 4;
/// It may do another library's work.
pub const CALL_SERVES: u32 = 8;

impl Call {
    /// As the kernel programs read it.
    #[must_use]
    pub fn bytes(&self) -> [u8; CALL_BYTES] {
        let mut bytes = [0; CALL_BYTES];
        let numbers = [self.flags, self.text.0.cast_unsigned(), self.text.1.cast_unsigned(), self.pushed];
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_ne_bytes());
        }
        bytes[16..19].copy_from_slice(&self.arguments);
        for (at, offset) in self.offsets.into_iter().enumerate() {
            bytes[20 + at * 2..22 + at * 2].copy_from_slice(&offset.to_ne_bytes());
        }
        bytes
    }
}

/// Who did what with which key: key of the table `uses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Use {
    /// When the process was started, since boot.
    pub started_ns: u64,
    /// In which state each of the two files was when it was opened; 0 for unknown.
    pub generations: [u64; 2],
    /// Process.
    pub pid: u32,
    /// Number of the probe.
    pub call: u32,
    /// File that the key came from; 0 for unknown, [`AMBIGUOUS`].
    pub first: u32,
    /// Another that it may have come from; 0 for none.
    pub second: u32,
    /// Type of the key; of a handshake its version.
    pub kind: i32,
    /// Of a handshake: 1 server, 2 resumed.
    pub detail: u32,
}

impl Use {
    /// Reads one.
    #[must_use]
    pub fn read(bytes: &[u8; USE_BYTES]) -> Self {
        let mut r = Reader(bytes);
        let mut long = || r.u64().unwrap_or_default();
        let (started_ns, generations) = (long(), [long(), long()]);
        let mut number = || r.u32().unwrap_or_default();
        let (pid, call, first, second) = (number(), number(), number(), number());
        Self { started_ns, generations, pid, call, first, second, kind: number().cast_signed(), detail: number() }
    }

    /// As the kernel programs have it.
    #[must_use]
    pub fn bytes(&self) -> [u8; USE_BYTES] {
        let mut bytes = [0; USE_BYTES];
        for (at, number) in [self.started_ns, self.generations[0], self.generations[1]].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&number.to_ne_bytes());
        }
        for (at, number) in [self.pid, self.call, self.first, self.second, self.kind.cast_unsigned(), self.detail].into_iter().enumerate() {
            bytes[24 + at * 4..28 + at * 4].copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}
