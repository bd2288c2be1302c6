//! Sealing of what lies on disk: AES-256-GCM (aws-lc-rs) under data keys that a master key wraps. The master key comes from
//! a file of its own (or a systemd credential) and never lies beside what it protects in one file.
//!
//! Sealed form: version 1 (u8), id of the data key (u32 LE), nonce (12 bytes, random), ciphertext and tag. The associated
//! data names the place (table and row), so that a blob moved elsewhere does not open. Random nonces: a data key is
//! retired long before 2^32 seals (NIST SP 800-38D, section 8.3).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 4 + 12;
/// Bytes that sealing adds.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + 16;
/// Seals after which a data key must be replaced; far below the bound of 2^32.
pub const SEALS_MAX: u64 = 1 << 31;

/// Key that wraps data keys.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

impl MasterKey {
    /// Reads the key from `path` (64 hex digits), or makes it there, readable by its owner only.
    ///
    /// # Errors
    /// A file that cannot be read or written, or does not hold a key.
    pub fn load_or_create(path: &Path) -> Result<Self, SealError> {
        let io = |source| SealError::File { path: path.display().to_string(), source };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let bytes = crate::unhex(text.trim()).map(Zeroizing::new);
                let key = bytes.and_then(|b| <[u8; 32]>::try_from(b.as_slice()).ok());
                key.map(|k| Self(Zeroizing::new(k))).ok_or_else(|| SealError::NotAKey(path.display().to_string()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = Self::generate();
                write_private(path, crate::hex(&*key.0).as_bytes()).map_err(io)?;
                Ok(key)
            }
            Err(e) => Err(io(e)),
        }
    }

    /// A new random key that lies nowhere.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(crate::random()))
    }

    fn cipher(&self) -> LessSafeKey {
        cipher(&self.0)
    }
}

/// Writes `bytes` to `path` through a temporary file that only its owner can read, fsynced before it takes the name.
///
/// # Errors
/// What the file system says.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", crate::hex(&crate::random::<6>())));
    let temporary = path.with_file_name(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    // What root makes in the directory of the service's user is to be read by the service.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owned = match std::fs::metadata(dir) {
        Ok(dir) if file.metadata()?.uid() == 0 && dir.uid() != 0 => fchown(&file, Some(dir.uid()), Some(dir.gid())),
        _ => Ok(()),
    };
    let written = owned.and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    std::fs::File::open(dir)?.sync_all()
}

/// The data keys of one store: new seals use the newest, old ones open old blobs.
pub struct KeyRing {
    keys: BTreeMap<u32, LessSafeKey>,
    active: u32,
    seals: AtomicU64,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing {{ keys: {:?}, active: {} }}", self.keys.keys(), self.active)
    }
}

impl KeyRing {
    /// Opens wrapped data keys (`id`, bytes from [`KeyRing::make_key`]).
    ///
    /// # Errors
    /// A master key that did not wrap them, or none given.
    pub fn open(master: &MasterKey, wrapped: &[(u32, Vec<u8>)]) -> Result<Self, SealError> {
        let outer = master.cipher();
        let mut keys = BTreeMap::new();
        for (id, bytes) in wrapped {
            let key = Zeroizing::new(open_with(&outer, bytes, &wrap_place(*id))?);
            let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| SealError::WrongKey)?;
            keys.insert(*id, cipher(&Zeroizing::new(key)));
        }
        let active = *keys.keys().next_back().ok_or(SealError::NoKeys)?;
        Ok(Self { keys, active, seals: AtomicU64::new(0) })
    }

    /// A new data key, wrapped by `master`, to be stored beside the data.
    ///
    /// # Errors
    /// Only if the cipher itself fails.
    pub fn make_key(master: &MasterKey, id: u32) -> Result<Vec<u8>, SealError> {
        let key = Zeroizing::new(crate::random::<32>());
        seal_with(&master.cipher(), 0, &*key, &wrap_place(id))
    }

    /// Seals `plain` for the place that `aad` names.
    ///
    /// # Errors
    /// A data key that was used too often, or a cipher failure.
    pub fn seal(&self, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.seals.fetch_add(1, Ordering::Relaxed) >= SEALS_MAX {
            return Err(SealError::WornOut);
        }
        let key = self.keys.get(&self.active).ok_or(SealError::NoKeys)?;
        seal_with(key, self.active, plain, aad)
    }

    /// Opens what [`KeyRing::seal`] made for the same place.
    ///
    /// # Errors
    /// Bytes that were changed, moved, cut, or sealed by a key that is not here.
    pub fn unseal(&self, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
        let id = sealed.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or(SealError::WrongKey)?;
        let key = self.keys.get(&id).ok_or(SealError::UnknownKey(id))?;
        open_with(key, sealed, aad)
    }
}

fn wrap_place(id: u32) -> [u8; 13] {
    let mut place = *b"data key \0\0\0\0";
    place[9..].copy_from_slice(&id.to_le_bytes());
    place
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    #[expect(clippy::expect_used, reason = "32 bytes are the only thing AES-256-GCM asks of a key")]
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a 32-byte key"))
}

fn seal_with(key: &LessSafeKey, id: u32, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce = crate::random::<12>();
    let mut out = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    out.push(VERSION);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out[HEAD_BYTES..]).map_err(|_| SealError::Cipher)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn open_with(key: &LessSafeKey, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
    let Some((head, body)) = sealed.split_at_checked(HEAD_BYTES) else { return Err(SealError::WrongKey) };
    if head[0] != VERSION {
        return Err(SealError::Version(head[0]));
    }
    let nonce = Nonce::try_assume_unique_for_key(&head[5..]).map_err(|_| SealError::WrongKey)?;
    let mut plain = body.to_vec();
    let length = key.open_in_place(nonce, Aad::from(aad), &mut plain).map_err(|_| SealError::WrongKey)?.len();
    plain.truncate(length);
    Ok(plain)
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Key file.
    #[error("key file {path}")]
    File {
        /// Its path.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Key file without a key.
    #[error("key file {0} must hold 64 hex digits: restore it from your backup, what it sealed opens with nothing else")]
    NotAKey(String),
    /// Wrong key or changed bytes.
    #[error("sealed data does not open: it was changed, or this is not the key that sealed it")]
    WrongKey,
    /// Data key not in the ring.
    #[error("data key {0} is not in the key ring")]
    UnknownKey(u32),
    /// Empty ring.
    #[error("the key ring is empty")]
    NoKeys,
    /// Sealed by a later version.
    #[error("sealed form {0} is not known: this program is older than the data")]
    Version(u8),
    /// Too many seals.
    #[error("the data key reached its limit of seals: restart to make a new one")]
    WornOut,
    /// The cipher failed.
    #[error("the cipher failed")]
    Cipher,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(master: &MasterKey, ids: &[u32]) -> (KeyRing, Vec<(u32, Vec<u8>)>) {
        let wrapped: Vec<_> = ids.iter().map(|id| (*id, KeyRing::make_key(master, *id).unwrap())).collect();
        (KeyRing::open(master, &wrapped).unwrap(), wrapped)
    }

    #[test]
    fn sealed_bytes_open_only_with_their_key_in_their_place_unchanged() {
        let master = MasterKey::generate();
        let (keys, wrapped) = ring(&master, &[1]);
        let sealed = keys.seal(b"subject=CN=secret", b"row 7").unwrap();
        assert_eq!(keys.unseal(&sealed, b"row 7").unwrap(), b"subject=CN=secret");
        assert!(keys.unseal(&sealed, b"row 8").is_err(), "moved to another row");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keys.unseal(&changed, b"row 7").is_err(), "byte {at} changed");
            assert!(keys.unseal(&sealed[..at], b"row 7").is_err(), "cut at {at}");
        }
        assert!(matches!(KeyRing::open(&MasterKey::generate(), &wrapped), Err(SealError::WrongKey)));
    }

    #[test]
    fn old_blobs_open_after_a_new_data_key_took_over() {
        let master = MasterKey::generate();
        let (old, mut wrapped) = ring(&master, &[1]);
        let sealed = old.seal(b"then", b"").unwrap();
        wrapped.push((2, KeyRing::make_key(&master, 2).unwrap()));
        let both = KeyRing::open(&master, &wrapped).unwrap();
        assert_eq!(both.unseal(&sealed, b"").unwrap(), b"then");
        assert!(matches!(old.unseal(&both.seal(b"now", b"").unwrap(), b""), Err(SealError::UnknownKey(2))));
    }

    #[test]
    fn the_key_file_is_made_once_for_its_owner_and_a_damaged_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let first = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(*MasterKey::load_or_create(&path).unwrap().0, *first.0);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "not hex").unwrap();
        assert!(MasterKey::load_or_create(&path).unwrap_err().to_string().contains("master.key"));
    }
}
