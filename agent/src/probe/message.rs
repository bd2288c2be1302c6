//! What the agent and its helper say to each other: one JSON object a line, over a Unix socket. The agent names the files with keys,
//! whose opens are told, and can order nothing else: whoever takes over the agent gets no hold on the helper.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Form of the messages; both must have the same.
pub const VERSION: u32 = 1;
/// Bytes of a line.
pub const LINE_MAX: usize = 8 << 20;
/// Files that are followed.
pub const FILES_MAX: usize = 65_536;

/// A path in a message: each byte as the character of that number, as names may be any bytes.
#[must_use]
pub fn spelled(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

/// The path that was [spelled] so.
#[must_use]
pub fn path_of(spelled: &str) -> PathBuf {
    OsString::from_vec(spelled.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect()).into()
}

/// From the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// First: what it had of which helper, so that it gets what it missed.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The helper's name and the number of its last message that is safely kept.
        have: Option<(u64, u64)>,
    },
    /// Everything up to this message is kept.
    Have {
        /// Its number.
        seq: u64,
    },
    /// Whether it is wanted what the programs consist of that open keys.
    Hash {
        /// It is.
        wanted: bool,
    },
    /// These files hold private keys, and only these.
    Follow {
        /// Device, inode, its version (0 where the file system tells none), and the number that they are told by; 0 is none.
        files: Vec<(u32, u64, u32, u32)>,
        /// Device and inode of their directories, hash of the name there, and the number: whatever replaces a file is it.
        entries: Vec<(u32, u64, u64, u32)>,
        /// Hashes of the last parts of their paths: an open that is denied has no more than a path.
        names: Vec<u64>,
        /// Their paths, [`spelled`], and numbers: for links on the way that lead elsewhere since, and for kernels that follow files by nothing else.
        paths: Vec<(String, u32)>,
    },
}

/// From the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// Opens and operations are numbered without holes and repeated until they are kept; 0 for how things stand.
    pub seq: u64,
    /// What.
    pub what: What,
}

/// What the helper tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// First: who it is.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Its name, another with each start.
        helper: u64,
    },
    /// A file was opened or denied.
    Opened(Opened),
    /// Operations with keys since the last such message.
    Used(Used),
    /// What it sees and does not; as a whole, whenever it changes.
    Sight(Vec<Sight>),
    /// What it could not tell since its start, or gave up as no agent kept it for so long that there was no more room.
    Lost {
        /// Opens.
        opens: u64,
        /// Operations.
        operations: u64,
    },
}

/// Who did it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Who {
    /// Process.
    pub pid: u32,
    /// When it was started, ns since boot.
    pub started_ns: u64,
    /// Its parent.
    pub parent: u32,
    /// User.
    pub uid: u32,
    /// User that logged in.
    pub login_uid: Option<u32>,
    /// Program; empty where that is not known.
    pub exe: String,
    /// Its own name, and that of its parent.
    pub comm: String,
    /// Name of its parent.
    pub parent_comm: String,
    /// Control group.
    pub cgroup: String,
}

/// An open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Opened {
    /// When, ns since boot.
    pub at_ns: u64,
    /// Who.
    pub who: Who,
    /// Number of the file; 0 where nothing but its path is known, as of most that were denied.
    pub file: u32,
    /// In which state it was; 0 where that is not known.
    pub generation: u64,
    /// Flags of the open.
    pub flags: u32,
    /// Why it was denied; 0 where it was not.
    pub errno: i32,
    /// Path that was asked for, absolute where that is known; of denied opens.
    pub asked: String,
    /// Mount namespace in which that path is to be read, where it is not the host's: of a process with another root, as in a container.
    pub mount_ns: u32,
    /// A name in it is cut short.
    pub is_cut: bool,
    /// How many more of the same this stands for: a process that opens a file in a loop is told once for all of a moment.
    pub more: u64,
    /// SHA-256 of the program, where it was asked for and is known.
    pub exe_sha256: String,
}

/// Operations of one process, of one kind, with one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    /// When they were read, ns since boot.
    pub at_ns: u64,
    /// Who.
    pub who: Who,
    /// What (`sign`, ...).
    pub operation: String,
    /// Library.
    pub library: String,
    /// Files that the key may have come from; none where that is not known.
    pub files: Vec<u32>,
    /// In which state each of them was when it was opened; 0 where that is not known.
    pub generations: Vec<u64>,
    /// More may be meant than are named.
    pub is_ambiguous: bool,
    /// Algorithm, where the library tells; of a handshake the protocol's version.
    pub algorithm: String,
    /// Of a handshake: this side is the server.
    pub is_server: bool,
    /// Of a handshake: resumed, without the private key.
    pub is_resumed: bool,
    /// How many.
    pub count: u64,
}

/// How well something is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// `opens`, `operations`, or one library or program.
    pub what: String,
    /// `exact`, `at least`, or `none`.
    pub accuracy: String,
    /// Why not better; empty where it is exact.
    pub reason: String,
}
