//! The lists of weak keys that Debian's packages openssl-blacklist and openssh-blacklist install, where they are installed:
//! loaded when the first key of a size comes, and given back after the scan. Format: as `openssl-vulnkey` and `ssh-vulnkey`
//! read them, 20 hex digits a line.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Mutex, PoisonError};

use keyvigil_common::limits::BLACKLIST_BYTES_MAX;

use crate::parse::given::Blacklist;
use crate::rootfs::RootFs;

/// Where they lie, those of OpenSSL and those of OpenSSH.
const DIRECTORIES: [&str; 4] = ["/usr/share/openssl-blacklist", "/usr/share/openssh-blacklist", "/usr/share/ssh", "/etc/ssh"];
/// Digits of a line.
const DIGITS: usize = 20;

/// Lists by their name, `RSA-2048`, sorted.
type Loaded = HashMap<String, Vec<[u8; DIGITS]>>;

pub(super) struct DebianLists {
    root: RootFs,
    loaded: Mutex<Loaded>,
}

impl fmt::Debug for DebianLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DebianLists")
    }
}

impl DebianLists {
    pub(super) fn new(root: &RootFs) -> Self {
        Self { root: root.clone(), loaded: Mutex::default() }
    }

    pub(super) fn forget(&self) {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Loaded::new();
    }

    /// All lines of all lists of that name.
    fn load(&self, list: &str) -> Vec<[u8; DIGITS]> {
        let mut all = Vec::new();
        for directory in DIRECTORIES {
            let path = self.root.path(format!("{directory}/blacklist.{list}"));
            // Not to be had is the rule: the packages are old.
            let Ok(file) = File::open(path) else { continue };
            let lines = BufReader::new(file.take(BLACKLIST_BYTES_MAX)).split(b'\n').map_while(Result::ok);
            all.extend(lines.filter_map(|line| <[u8; DIGITS]>::try_from(line.trim_ascii().to_ascii_lowercase()).ok()));
        }
        all.sort_unstable();
        all
    }
}

impl Blacklist for DebianLists {
    fn has(&self, list: &str, endings: &[String]) -> bool {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = loaded.entry(list.to_owned()).or_insert_with(|| self.load(list));
        endings.iter().any(|ending| <&[u8; DIGITS]>::try_from(ending.as_bytes()).is_ok_and(|ending| lines.binary_search(ending).is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Workshop;

    #[test]
    fn installed_lists_are_looked_into_and_comments_are_not_keys() {
        let shop = Workshop::new();
        shop.write("usr/share/openssl-blacklist/blacklist.RSA-2048", "# a comment of length\n00000000000000000001\nABCDEF00000000000002\n");
        shop.write("etc/ssh/blacklist.RSA-2048", "00000000000000000003\n");
        let lists = DebianLists::new(&RootFs::new(shop.root()));
        let has = |ending: &str| lists.has("RSA-2048", &["x".to_owned(), ending.to_owned()]);
        assert!(has("00000000000000000001") && has("abcdef00000000000002") && has("00000000000000000003"));
        assert!(!has("00000000000000000004") && !lists.has("RSA-1024", &["00000000000000000001".to_owned()]));
        std::fs::remove_dir_all(shop.path("usr")).unwrap();
        assert!(has("00000000000000000001"), "loaded once a scan");
        lists.forget();
        assert!(!has("00000000000000000001"));
    }
}
