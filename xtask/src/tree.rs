//! The tree as the checks see it: every file's path and text, read once. What a build makes and what a package manager
//! fetches is left out by name; Git is not asked, so that a checkout, an archive and a file not yet added are all the same.

use std::io;
use std::path::Path;

/// Directories that are made, not written: by name, and by path.
const MADE: &[&str] = &[".git", "target", "node_modules", "dist", "__pycache__"];
const MADE_AT: &[&str] = &["aggregator/dashboard/e2e/out", "tests/fuzz/artifacts", "tests/fuzz/coverage"];
/// Larger files are data.
const BYTES_MAX: u64 = 4 << 20;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the root of the repository, with `/`.
    pub path: String,
    /// Its text; what is not UTF-8 in it is replaced.
    pub text: String,
}

impl File {
    /// Last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Ending after the last `.`.
    #[must_use]
    pub fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    /// Whether it is TypeScript.
    #[must_use]
    pub fn is_typescript(&self) -> bool {
        matches!(self.extension(), "ts" | "tsx")
    }
}

/// All files.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Sorted by path.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the tree at `root`. Symbolic links are not followed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        walk(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// A tree that lies nowhere.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut files: Vec<File> = files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// The file at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|at| &self.files[at])
    }

    /// Whether there is such a file, or a directory with files in it.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.get(path).is_some() || self.files.iter().any(|file| file.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

fn walk(dir: &Path, prefix: &str, files: &mut Vec<File>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if MADE.contains(&name.as_str()) || MADE_AT.contains(&path.as_str()) {
                continue;
            }
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            let text = if entry.metadata()?.len() > BYTES_MAX { String::new() } else { String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned() };
            // In a worktree `.git` is a file.
            if name != ".git" {
                files.push(File { path, text });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_makes_is_not_read_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("a/src/lib.rs", "x"), ("a/target/b.rs", "x"), ("web/node_modules/c.js", "x"), ("d", "\u{ff}")] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let tree = Tree::read(dir.path()).unwrap();
        assert_eq!(tree.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a/src/lib.rs", "d"]);
        assert!(tree.exists("a/src/") && tree.exists("a/src/lib.rs") && !tree.exists("a/sr"));
    }
}
