//! `cargo xtask <chore>`: says what it found, one line each, and ends with 1 if that must not stay.

use std::path::Path;
use std::process::ExitCode;

use xtask::tidy::{self, Weight};
use xtask::tree::Tree;

const USAGE: &str = "usage: cargo xtask tidy\n\n  tidy   reads the tree and says what breaks the rules; ends with 1 if anything does";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
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

fn tidy() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
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
