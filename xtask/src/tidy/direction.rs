//! Which room may know which: the rules under "Direction" in `ARCHITECTURE.md`, as a table. Tests may know everything.

use std::sync::LazyLock;

use regex::Regex;

use super::Fault;
use super::source::{Tests, test_lines};
use crate::tree::Tree;

/// Room, what it must not know, why.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "aggregator/src/store",
        &["alert", "notify", "query", "keys", "ingest", "enroll", "fleet", "job", "upkeep", "maintain", "web", "run", "config"],
        "the store knows no meaning of what it keeps",
    ),
    (
        "aggregator/src/index",
        &["store", "alert", "notify", "query", "keys", "ingest", "enroll", "fleet", "job", "web", "run", "config"],
        "the index knows definitions, never values",
    ),
    ("aggregator/src/query", &["alert", "notify", "keys", "ingest", "enroll", "fleet", "job", "web", "run", "config"], "a query is a library"),
    (
        "aggregator/src/alert",
        &["store", "notify", "keys", "ingest", "enroll", "fleet", "job", "web", "run", "config"],
        "an alert is decided purely: who calls it stores and sends",
    ),
    (
        "aggregator/src/notify",
        &["store", "query", "keys", "ingest", "enroll", "fleet", "job", "web", "run", "config"],
        "a channel sends and says what became of it; the queue is another's",
    ),
    ("aggregator/src/ingest", &["alert", "notify", "job", "web", "run", "config"], "nothing but storing is on a sample's way in"),
    ("aggregator/src/job", &["web", "run", "config"], "a chore is run by the wiring and asked by the API, not the other way"),
    (
        "aggregator/src/upkeep",
        &["alert", "notify", "query", "keys", "ingest", "enroll", "fleet", "job", "maintain", "web", "run", "config"],
        "work on the store is the same for a command and for the API",
    ),
    ("aggregator/src/web", &["maintain", "run", "config"], "handlers are given what they need"),
    ("agent/src/collect", &["buffer", "sampler", "uplink", "enroll", "run", "config"], "a sensor writes into a sink and knows nothing behind it"),
    ("agent/src/parse", &["collect", "buffer", "sampler", "uplink", "enroll", "run", "config", "rootfs"], "parsing is bytes to structs, without I/O"),
    ("agent/src/buffer", &["collect", "sampler", "uplink", "enroll", "run", "config"], "the buffer keeps sealed batches and does not look inside"),
];

/// Crate directory, crates it must not know.
const APART: &[(&str, &[&str])] = &[
    ("common/", &["keyvigil_agent", "keyvigil_aggregator"]),
    ("agent/", &["keyvigil_aggregator"]),
    ("aggregator/src/", &["keyvigil_agent"]),
    ("cli/", &["keyvigil_agent", "keyvigil_aggregator"]),
];

#[expect(clippy::expect_used, reason = "constants that the tests use")]
static CRATE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::(?:(\w+)|\{([^}]*)\})").expect("a valid pattern"));

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let tests = Tests::find(tree);
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|f| f.is_rust() && !tests.holds(f)) {
        let never =
            NEVER.iter().filter(|(room, ..)| file.path.strip_prefix(room).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))).collect::<Vec<_>>();
        let apart = APART.iter().filter(|(dir, _)| file.path.starts_with(dir)).flat_map(|(_, crates)| *crates).collect::<Vec<_>>();
        let test = test_lines(&file.text);
        let code = file.text.lines().enumerate().filter(|(at, line)| !test[*at] && !line.trim_start().starts_with("//"));
        for (at, line) in code {
            for used in rooms(line) {
                let broken = never.iter().filter(|(_, rooms, _)| rooms.contains(&used.as_str()));
                faults.extend(broken.map(|(room, _, why)| {
                    Fault::new(
                        &file.path,
                        at + 1,
                        format!("{room} must not know {used}: {why}"),
                        "pass in what it needs, or move the code to the room it belongs in",
                    )
                }));
            }
            let foreign = apart.iter().filter(|name| line.contains(**name));
            faults.extend(foreign.map(|name| Fault::new(&file.path, at + 1, format!("must not know {name}"), "what both ends share belongs in common/")));
        }
    }
    faults
}

/// Rooms of this crate that `line` names.
fn rooms(line: &str) -> Vec<String> {
    CRATE
        .captures_iter(line)
        .flat_map(|found| {
            let text = found.get(1).or(found.get(2)).map_or("", |m| m.as_str()).to_owned();
            text.split(',').map(|part| part.trim().split("::").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn a_room_knows_only_what_it_may() {
        assert_eq!(faults("aggregator/src/store/tx.rs", "use crate::alert::Alert;\n"), 1);
        assert_eq!(faults("aggregator/src/store.rs", "use crate::{index::Index, web::App};\n"), 1);
        assert_eq!(faults("aggregator/src/query.rs", "fn a() { crate::web::b() }\n"), 1);
        assert_eq!(faults("agent/src/collect/cpu.rs", "use crate::buffer::Buffer;\n"), 1);
        assert_eq!(faults("aggregator/src/web/query.rs", "use crate::query;\n"), 0);
        assert_eq!(faults("aggregator/src/storefront.rs", "use crate::web;\n"), 0);
    }

    #[test]
    fn crates_stay_apart() {
        assert_eq!(faults("common/src/a.rs", "use keyvigil_agent::x;\n"), 1);
        assert_eq!(faults("agent/src/a.rs", "use keyvigil_common::x;\n"), 0);
    }

    #[test]
    fn tests_and_comments_may_name_anything() {
        assert_eq!(faults("aggregator/src/store.rs", "//! [`crate::web`]\n#[cfg(test)]\nmod tests {\n    use crate::web::App;\n}\n"), 0);
        assert_eq!(faults("aggregator/src/store/tests.rs", "use crate::web::App;\n"), 0);
    }
}
