//! `[access]`: where the helper is, and who may open which key. What may be written, and what is wrong with it; `judge` says who offends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize};

use crate::parse::cgroup::CONTAINER;

/// Watching that a key needs before a new user of it is news, at most: a year.
const LEARN_HOURS_MAX: u32 = 8_760;
/// Digits of a SHA-256.
const HASH_DIGITS: usize = 64;

/// `[access]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessConfig {
    /// The helper's socket.
    pub socket: PathBuf,
    /// Hours that a key is watched before a program and user that are new to it are told of as such.
    pub learn_hours: u32,
    /// Who may open which key.
    pub policy: Vec<AccessPolicy>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self { socket: "/run/keyvigil/probe.sock".into(), learn_hours: 24, policy: Vec::new() }
    }
}

/// `[[access.policy]]`: all lists that it has must fit; what it does not list may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessPolicy {
    /// Files or directories, one or more, with the patterns of `[keystore] paths`.
    #[serde(deserialize_with = "one_or_more")]
    pub path: Vec<String>,
    /// Or a key, by its id, wherever it lies.
    pub key: String,
    /// Programs, with the same patterns.
    pub exe: Vec<String>,
    /// SHA-256 of programs, as they ran.
    pub exe_sha256: Vec<String>,
    /// Users by name or number.
    pub user: Vec<String>,
    /// systemd units (`nginx.service`), with patterns.
    pub unit: Vec<String>,
    /// Containers, by id or as much of it as people use, or by name, with patterns.
    pub container: Vec<String>,
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path or a list of paths")]
    enum Paths {
        One(String),
        More(Vec<String>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::More(paths) => paths,
    })
}

impl AccessConfig {
    /// What is wrong with it.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.socket.is_absolute() {
            faults.push("access.socket: must be an absolute path".to_owned());
        }
        if self.learn_hours > LEARN_HOURS_MAX {
            faults.push(format!("access.learn_hours: write at most {LEARN_HOURS_MAX}"));
        }
        for (at, policy) in self.policy.iter().enumerate() {
            faults.extend(policy.faults().into_iter().map(|fault| format!("access.policy.{at}: {fault}")));
        }
        faults
    }
}

impl AccessPolicy {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.path.is_empty() == self.key.is_empty() {
            faults.push("needs either path, the files it is about, or key, the id of one key".to_owned());
        }
        let paths = self.path.iter().chain(&self.exe);
        faults.extend(paths.filter(|path| !path.starts_with('/')).map(|path| format!("{path:?} is not an absolute path")));
        let is_hash = |text: &String| text.len() == HASH_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        faults
            .extend(self.exe_sha256.iter().filter(|text| !is_hash(text)).map(|text| format!("exe_sha256: {text:?} is not a SHA-256 in {HASH_DIGITS} digits")));
        if let Some(unit) = self.unit.iter().find_map(|unit| unit.strip_prefix(CONTAINER)) {
            faults.push(format!("unit: {unit:?} is a container: write it in container"));
        }
        let lists = [&self.exe, &self.exe_sha256, &self.user, &self.unit, &self.container];
        if lists.iter().any(|list| list.iter().any(String::is_empty)) {
            faults.push("an empty text fits nobody: remove it".to_owned());
        }
        if lists.iter().all(|list| list.is_empty()) {
            faults.push("allows everybody; list who may in exe, exe_sha256, user, unit or container".to_owned());
        }
        faults
    }
}

/// What is in force. One handle for the sensor and for whoever reads the configuration anew.
#[derive(Debug, Clone, Default)]
pub struct AccessRules(Arc<Mutex<Arc<AccessConfig>>>);

impl AccessRules {
    /// With these.
    #[must_use]
    pub fn new(config: AccessConfig) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(config))))
    }

    /// What is in force now.
    #[must_use]
    pub fn read(&self) -> Arc<AccessConfig> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force, all at once, from the next open on.
    pub fn replace(&self, config: AccessConfig) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_allows_everybody_or_is_about_nothing_is_refused() {
        let faults = |policy: AccessPolicy| AccessConfig { policy: vec![policy], ..AccessConfig::default() }.faults();
        let (path, exe) = (vec!["/k".to_owned()], vec!["/bin/a".to_owned()]);
        assert!(faults(AccessPolicy { path: path.clone(), exe: exe.clone(), ..AccessPolicy::default() }).is_empty());
        assert_eq!(faults(AccessPolicy { path: path.clone(), ..AccessPolicy::default() }).len(), 1);
        assert_eq!(faults(AccessPolicy { user: vec!["root".into()], ..AccessPolicy::default() }).len(), 1);
        assert_eq!(faults(AccessPolicy { path: vec!["k".into()], exe: vec!["nginx".into()], ..AccessPolicy::default() }).len(), 2);
        let wrong = AccessPolicy { path, exe_sha256: vec!["ab".into()], unit: vec!["container web".into(), String::new()], ..AccessPolicy::default() };
        assert_eq!(faults(wrong).len(), 3);
    }

    #[test]
    fn a_path_may_be_one_or_a_list() {
        let read = |text: &str| serde_json::from_str::<AccessPolicy>(text).map(|policy| policy.path);
        assert_eq!(read(r#"{"path":"/k"}"#).unwrap(), ["/k"]);
        assert_eq!(read(r#"{"path":["/k","/l"]}"#).unwrap(), ["/k", "/l"]);
        assert!(read(r#"{"path":7}"#).is_err());
    }
}
