//! Disks that fail: file systems in memory and in files, which need root. Gone when dropped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted file system.
pub(crate) struct Disk {
    /// Where it is mounted.
    pub(crate) at: PathBuf,
    images: u32,
    dir: TempDir,
}

fn tool(name: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(name).args(args).output().map_err(|e| format!("{name} cannot be run ({e}): scripts/need test installs it"))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(format!("{name} {}: {said}", args.join(" "))) }
}

fn must(name: &str, args: &[&str]) {
    tool(name, args).unwrap_or_else(|e| panic!("this experiment mounts file systems and needs root: {e}"));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Disk {
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("disk");
        std::fs::create_dir(&at).expect("a directory");
        Self { at, images: 0, dir }
    }

    /// In memory.
    pub(crate) fn in_memory(mib: u32) -> Self {
        let disk = Self::empty();
        must("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "keyvigil-test", text(&disk.at)]);
        disk
    }

    /// ext4 in a file, made with further `options`.
    pub(crate) fn ext4(mib: u64, options: &[&str]) -> Self {
        let disk = Self::empty();
        let image = disk.image();
        std::fs::File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("a file");
        must("mkfs.ext4", &[["-q", "-F"].as_slice(), options, &[text(&image)]].concat());
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join(format!("image-{}", self.images))
    }

    /// Mounts it again.
    pub(crate) fn mount(&self) {
        must("mount", &["-o", "loop", text(&self.image()), text(&self.at)]);
    }

    pub(crate) fn unmount(&self) {
        must("umount", &["--lazy", text(&self.at)]);
    }

    /// Changes how it is mounted.
    pub(crate) fn remount(&self, options: &str) {
        must("mount", &["-o", &format!("remount,{options}"), text(&self.at)]);
    }

    /// The power goes, and comes back: what the disk was given by now is all that is there. Nothing may write any more.
    pub(crate) fn cut_power(&mut self) {
        let before = self.image();
        self.images += 1;
        must("cp", &["--sparse=always", text(&before), text(&self.image())]);
        self.unmount();
        self.mount();
        std::fs::remove_file(before).expect("it was there");
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).expect("it is mounted");
        stat.f_bavail * stat.f_frsize
    }

    /// A neighbour takes all the space that there is.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.at.join("neighbour");
        let mut file = std::fs::File::options().create(true).append(true).open(&path).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0u8; size]).is_ok() {}
        }
        path
    }

    /// A neighbour takes all the names that there are.
    pub(crate) fn fill_names(&self) -> PathBuf {
        let path = self.at.join("neighbours");
        std::fs::create_dir(&path).expect("a directory");
        let dir = std::fs::File::open(&path).expect("a directory");
        let mut free = 0..1 << 20;
        // Names that were given back a moment ago may be free only once that is stored.
        for _ in 0..3 {
            let full = free.find(|n| std::fs::File::create(path.join(n.to_string())).is_err());
            assert!(full.is_some(), "there are inodes without end");
            rustix::fs::syncfs(&dir).expect("it is stored");
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("umount", &["--lazy", text(&self.at)]);
    }
}
