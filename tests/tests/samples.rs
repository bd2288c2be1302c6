//! The configuration files that the packages install are valid as they are, and what they show behind a # is the default.

use std::path::{Path, PathBuf};

use keyvigil_agent::config::Config as Agent;
use keyvigil_aggregator::config::Config as Aggregator;
use keyvigil_common::config::{AGENT_SECTIONS, AGGREGATOR_SECTIONS, Sources};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/etc").join(name)
}

/// The sample with every key that stands behind a single # switched on.
fn switched_on(name: &str, dir: &Path) -> (PathBuf, usize) {
    let text = std::fs::read_to_string(sample(name)).expect("the sample is there");
    let is_key = |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let lines: Vec<&str> = text.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
    let path = dir.join(name);
    std::fs::write(&path, lines.join("\n")).expect("the copy is written");
    (path, text.lines().filter(|line| is_key(line)).count())
}

fn of(path: PathBuf) -> Sources {
    Sources { file: Some(path), ..Sources::default() }
}

#[test]
fn the_aggregators_sample_shows_the_defaults() {
    let defaults = serde_json::to_value(Aggregator::default()).unwrap();
    assert_eq!(serde_json::to_value(Aggregator::read(&of(sample("aggregator.toml"))).unwrap()).unwrap(), defaults);
    let dir = tempfile::tempdir().unwrap();
    let (path, keys) = switched_on("aggregator.toml", dir.path());
    assert_eq!(serde_json::to_value(Aggregator::read(&of(path)).unwrap()).unwrap(), defaults);
    assert!(keys > 30, "{keys} keys shown");
}

#[test]
fn the_agents_sample_shows_the_defaults() {
    let defaults = serde_json::to_value(Agent::default()).unwrap();
    assert_eq!(serde_json::to_value(Agent::read(&of(sample("agent.toml"))).unwrap()).unwrap(), defaults);
    let dir = tempfile::tempdir().unwrap();
    let (path, keys) = switched_on("agent.toml", dir.path());
    assert_eq!(serde_json::to_value(Agent::read(&of(path)).unwrap()).unwrap(), defaults);
    assert!(keys > 8, "{keys} keys shown");
}

/// Both read one environment on the host of the aggregator, and with `keyvigil up`.
#[test]
fn neither_takes_the_others_sections_for_mistakes() {
    let sections = |config: serde_json::Value| -> Vec<String> {
        let all = config.as_object().expect("a table").iter();
        all.filter(|(name, value)| value.is_object() && *name != "log").map(|(name, _)| name.clone()).collect()
    };
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(sections(serde_json::to_value(Agent::default()).unwrap()), sorted(AGENT_SECTIONS));
    assert_eq!(sections(serde_json::to_value(Aggregator::default()).unwrap()), sorted(AGGREGATOR_SECTIONS));
}
