//! `/proc/PID/mountinfo`: what is mounted where (man 5 proc_pid_mountinfo).

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number, major and minor.
    pub device: (u32, u32),
    /// Where it is mounted.
    pub point: String,
    /// Type of the file system.
    pub fstype: String,
    /// What is mounted: a device's path, or any word.
    pub source: String,
    /// Whether this mount, or the file system itself, takes no writes.
    pub read_only: bool,
    /// Whether the file system itself takes none.
    pub fs_read_only: bool,
}

/// Reads `/proc/PID/mountinfo`, in the order of mounting: of two mounts at one place the later hides the earlier.
pub fn mountinfo(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(mount)
}

fn mount(line: &str) -> Option<Mount> {
    // Split at single spaces: a source may be empty.
    let mut words = line.split(' ');
    let (major, minor) = words.nth(2)?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let point = unescape(words.nth(1)?);
    let options = words.next()?;
    words.find(|word| *word == "-")?;
    let (fstype, source, super_options) = (words.next()?, words.next()?, words.next().unwrap_or(""));
    let has_ro = |list: &str| list.split(',').any(|option| option == "ro");
    let fs_read_only = has_ro(super_options);
    let read_only = fs_read_only || has_ro(options);
    Some(Mount { device, point, fstype: unescape(fstype), source: unescape(source), read_only, fs_read_only })
}

/// Resolves `\ooo`, by which the kernel writes white space and backslashes.
fn unescape(word: &str) -> String {
    if !word.contains('\\') {
        return word.to_owned();
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_and_optional_fields_are_read() {
        let text = "36 35 8:17 / /mnt/my\\040disk\\134x rw,noatime shared:1 master:2 - ext4 /dev/sdb1 ro,errors=remount-ro\n\
                    40 35 0:44 / /run/x rw - tmpfs  rw,size=4k\n\
                    41 35 0:45 /sub /srv rw,nosuid -\n\
                    odd line\n";
        let found: Vec<_> = mountinfo(text).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].point.as_str(), found[0].device, found[0].read_only), ("/mnt/my disk\\x", (8, 17), true));
        assert_eq!((found[1].fstype.as_str(), found[1].source.as_str(), found[1].read_only), ("tmpfs", "", false));
        assert_eq!(unescape("a\\04\\999\\"), "a\\04\\999\\");
    }
}
