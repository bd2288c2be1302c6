//! POSIX access control lists, as the kernel gives them in `system.posix_acl_access` (`linux/posix_acl_xattr.h`): who may get at a
//! file beside its owner, its group and everyone. What the mask takes away from them is taken away here. Called by the keystore
//! sensor.

/// First word of every list.
const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;

const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
/// Owner, owning group and everyone, whose bits are those of the mode, or below the mask.
const OF_THE_MODE: [u16; 3] = [0x01, 0x04, 0x20];

/// Whom a list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// A user, by number.
    User(u32),
    /// A group, by number.
    Group(u32),
}

/// Those that a list names, and what they may: read 4, write 2, execute or search 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl(pub Vec<(Who, u32)>);

impl Acl {
    /// What somebody may whom the list names.
    #[must_use]
    pub fn of(&self, who: Who) -> Option<u32> {
        self.0.iter().find(|(named, _)| *named == who).map(|(_, can)| *can)
    }
}

/// Reads a list; `None` where it is none.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Acl> {
    let (version, entries) = bytes.split_first_chunk()?;
    if u32::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    let mut acl = Acl(Vec::with_capacity((entries.len() / ENTRY_BYTES).saturating_sub(OF_THE_MODE.len())));
    let mut mask = None;
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let (tag, can, id) = (u16::from_le_bytes([entry[0], entry[1]]), u32::from(entry[2] & 7), u32::from_le_bytes(entry[4..].try_into().ok()?));
        match tag {
            USER => acl.0.push((Who::User(id), can)),
            GROUP => acl.0.push((Who::Group(id), can)),
            MASK => mask = Some(can),
            tag if OF_THE_MODE.contains(&tag) => {}
            _ => return None,
        }
    }
    // The kernel takes none that names somebody without a mask.
    let mask = mask.or(acl.0.is_empty().then_some(7))?;
    acl.0.iter_mut().for_each(|(_, can)| *can &= mask);
    Some(acl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Workshop;

    /// What the kernel says of a file after `setfacl`.
    fn set(arguments: &str) -> Vec<u8> {
        let shop = Workshop::new();
        let path = shop.write("f", "");
        shop.run("setfacl", &format!("{arguments} f"));
        let mut buffer = [0; 256];
        let length = rustix::fs::getxattr(&path, "system.posix_acl_access", &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn whom_setfacl_names_may_what_the_mask_leaves() {
        assert_eq!(read(&set("-m u:65534:rw,g:12:r")), Some(Acl(vec![(Who::User(65_534), 6), (Who::Group(12), 4)])));
        assert_eq!(read(&set("-m u:65534:rw,g:12:rx,m:r")), Some(Acl(vec![(Who::User(65_534), 4), (Who::Group(12), 4)])));
        assert_eq!(read(&set("-m u:1:rwx,m::-")), Some(Acl(vec![(Who::User(1), 0)])));
        assert_eq!(read(&set("-m u:1:-")).unwrap().of(Who::User(1)), Some(0));
        assert_eq!(read(&set("-m m:r")), Some(Acl::default()), "it names nobody");
    }

    #[test]
    fn what_is_no_list_is_none() {
        let whole = set("-m u:1:r");
        for cut in 0..whole.len() {
            let is_whole = cut >= 4 && (cut - 4).is_multiple_of(ENTRY_BYTES);
            assert!(is_whole || read(&whole[..cut]).is_none(), "{cut}");
        }
        assert_eq!(read(&[&[3, 0, 0, 0][..], &whole[4..]].concat()), None, "a later version");
        assert_eq!(read(&[&whole[..], &[0x40, 0, 7, 0, 0, 0, 0, 0]].concat()), None, "an entry that nobody knows");
        let without_mask: Vec<u8> = whole[4..].chunks(ENTRY_BYTES).filter(|entry| entry[0] != 0x10).flatten().copied().collect();
        assert_eq!(read(&[&[2, 0, 0, 0][..], &without_mask].concat()), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(0..=255_u8, 0..100)) {
            let _ = read(&bytes);
            let _ = read(&[&[2, 0, 0, 0][..], &bytes[..bytes.len() / 8 * 8]].concat());
        }
    }
}
