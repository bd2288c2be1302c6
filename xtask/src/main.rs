//! `cargo xtask <chore>`: says what it found, one line each, and ends with 1 if that must not stay.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use xtask::bpf;
use xtask::tidy::{self, Weight};
use xtask::tree::Tree;

const USAGE: &str = "usage: cargo xtask tidy|bpf [--check]\n
  tidy          reads the tree and says what breaks the rules; ends with 1 if anything does
  bpf           compiles the kernel programs of agent/bpf/; needs clang, llvm-strip and libbpf's headers
  bpf --check   compiles them beside those that are here and compares; ends with 1 if they differ";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
        ["bpf"] => told(bpf::compile(&root(), |architecture| bpf::object(&root(), architecture)), "compiled"),
        ["bpf", "--check"] => told(bpf::check(&root(), true), "the objects are of these sources"),
        ["help" | "-h" | "--help"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        _ => {
            say(USAGE);
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn told(done: Result<(), String>, well: &str) -> ExitCode {
    say(done.as_ref().err().map_or(well, String::as_str));
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tidy() -> ExitCode {
    let root = root();
    let tree = match Tree::read(&root) {
        Ok(tree) => tree,
        Err(e) => {
            say(&format!("cannot read {}: {e}", root.display()));
            return ExitCode::FAILURE;
        }
    };
    let faults = tidy::check(&tree);
    for fault in &faults {
        say(&fault.to_string());
    }
    let failed = faults.iter().filter(|fault| fault.weight == Weight::Fail).count();
    say(&format!("{} files, {failed} faults, {} warnings", tree.files.len(), faults.len() - failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "what a chore found is its output")]
fn say(line: &str) {
    println!("{line}");
}
