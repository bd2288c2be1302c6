//! Configured paths: absolute, with `*` for any text within one part (`/home/*/.ssh`). Says which paths stand behind one and
//! whether one covers a path. Called by the walk.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::disk::Disk;
use super::walk::Directories;

/// One configured path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As configured.
    pub(super) text: String,
    parts: Vec<String>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let parts = Path::new(text).components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        });
        Self { text: text.to_owned(), parts: parts.collect() }
    }

    /// The paths behind it, whether they exist or not, at most `limit`; a pattern without `*` is one path. Directories that
    /// it listed to find out are added to `listed`.
    ///
    /// # Errors
    /// The directory that could not be listed.
    pub(super) fn expand(&self, disk: &Disk, limit: usize, listed: &mut Directories) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let mut paths = vec![PathBuf::from("/")];
        for part in &self.parts {
            if !part.contains('*') {
                paths.iter_mut().for_each(|path| path.push(part));
                continue;
            }
            let mut next = Vec::new();
            for path in &paths {
                let names = match disk.list(path, limit) {
                    Ok(listing) if listing.more => return Err((path.clone(), io::Error::other("too many names"))),
                    Ok(listing) => {
                        listed.insert(path.clone(), listing.stamp.identity());
                        listing.entries
                    }
                    Err(e) if is_missing(&e) => continue,
                    Err(e) => return Err((path.clone(), e)),
                };
                let matching = names.iter().filter(|entry| matches(part, &entry.name.to_string_lossy()));
                next.extend(matching.map(|entry| path.join(&entry.name)).take(limit.saturating_sub(next.len())));
            }
            next.sort();
            paths = next;
        }
        Ok(paths)
    }

    /// Whether `path` is one of those behind it, or lies below one.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let mut parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        self.parts.iter().all(|part| parts.next().is_some_and(|name| matches(part, &name.as_os_str().to_string_lossy())))
    }
}

/// Whether an error says that nothing is there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether `name` is `pattern`, where each `*` stands for any text. Linear: the earliest fit of each piece is enough.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
    for piece in middle.into_iter().flat_map(|middle| middle.split('*')) {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_within_one_part() {
        let yes = [("*", ""), ("*", "bob"), ("*.pem", "a.pem"), ("a*b*c", "a1b2c"), ("host_*_key", "host_rsa_key"), ("a", "a")];
        let no = [("*.pem", "a.pem.old"), ("a*b", "ab1"), ("a*a", "a"), ("a", "b"), ("a*b*c", "acb")];
        assert!(yes.iter().all(|(pattern, name)| matches(pattern, name)));
        assert!(no.iter().all(|(pattern, name)| !matches(pattern, name)));
    }

    #[test]
    fn a_pattern_covers_what_lies_below_it() {
        let pattern = Pattern::new("/home/*/.ssh");
        assert!(pattern.covers(Path::new("/home/bob/.ssh/id")));
        assert!(pattern.covers(Path::new("/home/bob/.ssh")));
        assert!(!pattern.covers(Path::new("/home/bob")));
        assert!(!pattern.covers(Path::new("/home/bob/x/.ssh")));
    }
}
