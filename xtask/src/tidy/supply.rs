//! Where dependencies come from: lock files name the public registries only, and no configuration redirects them.

use std::sync::LazyLock;

use regex::Regex;

use super::Fault;
use crate::tree::Tree;

const CRATES: &str = "registry+https://github.com/rust-lang/crates.io-index";
const NPM: &str = "https://registry.npmjs.org/";

static RESOLVED: LazyLock<Regex> = LazyLock::new(|| pattern(r#""resolved":\s*"([^"]+)""#));
static SOURCE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^source = "([^"]+)""#));
static REDIRECT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\s*(?:@[\w-]+:)?registry\s*=|^\s*\[(?:source|registry|registries)\b|//[\w.:/-]+:_auth"));

#[expect(clippy::expect_used, reason = "constants that the tests use")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in &tree.files {
        let (wanted, public) = match file.name() {
            "package-lock.json" | "npm-shrinkwrap.json" => (&RESOLVED, NPM),
            "Cargo.lock" => (&SOURCE, CRATES),
            ".npmrc" | ".yarnrc" => (&REDIRECT, ""),
            "config.toml" if file.path.contains(".cargo/") => (&REDIRECT, ""),
            _ => continue,
        };
        for (at, line) in file.text.lines().enumerate() {
            let Some(found) = wanted.captures(line) else { continue };
            match found.get(1).map(|m| m.as_str()) {
                Some(source) if source.starts_with(public) => {}
                Some(source) => faults.push(Fault::new(
                    &file.path,
                    at + 1,
                    format!("comes from {source:?}"),
                    "take it from the public registry and make the lock file again",
                )),
                None => {
                    faults.push(Fault::new(&file.path, at + 1, "redirects a registry", "keep that in the configuration of the machine, not of the project"));
                }
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn lock_files_name_public_registries_only() {
        assert_eq!(
            lines("web/package-lock.json", "{\"resolved\": \"https://registry.npmjs.org/a/-/a-1.tgz\"}\n{\"resolved\": \"http://mirror.example/a.tgz\"}\n"),
            [2]
        );
        assert_eq!(lines("Cargo.lock", &format!("source = \"{CRATES}\"\nsource = \"git+https://example.org/a#1\"\n")), [2]);
    }

    #[test]
    fn configuration_redirects_no_registry() {
        assert_eq!(lines("web/.npmrc", "fund=false\nomit-lockfile-registry-resolved=true\nregistry=http://mirror.example/\n"), [3]);
        assert_eq!(lines(".cargo/config.toml", "[alias]\nxtask = \"run\"\n[source.crates-io]\n"), [3]);
    }
}
