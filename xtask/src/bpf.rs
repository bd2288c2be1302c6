//! `cargo xtask bpf`: compiles the kernel programs of `agent/bpf/`. What comes of it is committed, so that the agent builds without
//! clang; it carries a hash of its sources, which a test compares.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where sources and objects lie.
pub const DIRECTORY: &str = "agent/bpf";
/// Architectures: as Rust and as libbpf's headers call them, and where Debian keeps the headers of the C library.
const ARCHITECTURES: [(&str, &str, &str); 2] = [("x86_64", "x86", "x86_64-linux-gnu"), ("aarch64", "arm64", "aarch64-linux-gnu")];
/// Begins the hash in an object.
const MARK: &[u8] = b"keyvigil-sources:";

/// The object for an architecture.
#[must_use]
pub fn object(root: &Path, architecture: &str) -> PathBuf {
    root.join(DIRECTORY).join(format!("keyvigil.{architecture}.bpf.o"))
}

/// Hash of all sources: names and contents, FNV-1a of 64 bits.
///
/// # Errors
/// The system's.
pub fn source_hash(root: &Path) -> io::Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(root.join(DIRECTORY))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|kind| kind == "h" || kind == "c"));
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for path in files {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for byte in name.bytes().chain([0]).chain(fs::read(&path)?).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

/// The hash that an object was made of.
#[must_use]
pub fn made_of(object: &[u8]) -> Option<String> {
    let at = object.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    Some(String::from_utf8_lossy(object.get(at..at + 16)?).into_owned())
}

/// Compiles for all architectures, into `into(architecture)`.
///
/// # Errors
/// What is missing or wrong.
pub fn compile(root: &Path, into: impl Fn(&str) -> PathBuf) -> Result<(), String> {
    let hash = source_hash(root).map_err(|e| format!("{DIRECTORY}: {e}"))?;
    for (architecture, target, headers) in ARCHITECTURES {
        let object = into(architecture);
        let mark = String::from_utf8_lossy(MARK).into_owned();
        run(Command::new("clang")
            .current_dir(root.join(DIRECTORY))
            // Version 2 of the instructions: all that kernels before 5.12 know.
            .args(["-O2", "-g", "-target", "bpf", "-mcpu=v2", "-Wall", "-Werror"])
            .arg(format!("-D__TARGET_ARCH_{target}"))
            .arg(format!("-DSOURCES=\"{mark}{hash}\""))
            // Of this machine where the other's are not installed: the few types that are used are the same.
            .args([format!("-I/usr/include/{headers}"), "-I/usr/include/x86_64-linux-gnu".to_owned(), "-I/usr/include/aarch64-linux-gnu".to_owned()])
            // The object names its sources, and not where they lay.
            .args(["-fdebug-compilation-dir=agent/bpf", "-c", "keyvigil.bpf.c", "-o"])
            .arg(&object))?;
        run(Command::new("llvm-strip").arg("-g").arg(&object))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(e) => Err(format!("{program}: {e}; apt-get install clang llvm libbpf-dev")),
    }
}

/// Compares each object with its sources; where `again` it is also compiled anew and compared byte for byte.
///
/// # Errors
/// Which one is not of its sources.
pub fn check(root: &Path, again: bool) -> Result<(), String> {
    let hash = source_hash(root).map_err(|e| format!("{DIRECTORY}: {e}"))?;
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    for (architecture, _, _) in ARCHITECTURES {
        let path = object(root, architecture);
        if made_of(&read(&path)?).as_deref() != Some(&hash) {
            return Err(format!("{} is not of these sources; run: cargo xtask bpf", path.display()));
        }
    }
    if again {
        let anew = |architecture: &str| root.join("target").join(format!("anew.{architecture}.bpf.o"));
        fs::create_dir_all(root.join("target")).map_err(|e| e.to_string())?;
        compile(root, anew)?;
        for (architecture, _, _) in ARCHITECTURES {
            if read(&anew(architecture))? != read(&object(root, architecture))? {
                return Err(format!("{architecture}: compiled anew it is another object; clang 14 of Debian 12 made the one that is here"));
            }
        }
    }
    Ok(())
}
