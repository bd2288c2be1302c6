//! Configuration: default < file (TOML, or JSON of the same shape) < environment < flag. All faults are reported at once,
//! each with its path; an unknown key names the nearest known one. Secrets come from the environment, from `NAME_FILE`, or
//! from a systemd credential called `section.key`, and print as `***`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;
use zeroize::Zeroizing;

use crate::limits::CONFIG_FILE_BYTES_MAX;

const PREFIX: &str = "KEYVIGIL_";

/// Where values may come from beside the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if one was named or exists in the default place.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Older names of variables, with the key each stands for: `("SMTP_SERVER", "smtp.host")`.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Sections of the other programs, whose variables may stand in the same environment.
    pub foreign: &'static [&'static str],
}

/// Sections that only the agent has.
pub const AGENT_SECTIONS: &[&str] = &["buffer", "canary", "sampling", "keystore", "served", "access"];
/// Sections that only the aggregator has.
pub const AGGREGATOR_SECTIONS: &[&str] = &["listen", "storage", "limits", "api", "enroll", "alerts", "revocation", "smtp", "slack"];

impl Sources {
    /// The process's environment, and `file`.
    #[must_use]
    pub fn new(file: Option<PathBuf>, aliases: &'static [(&'static str, &'static str)], foreign: &'static [&'static str]) -> Self {
        Self { file, env: std::env::vars().collect(), aliases, foreign }
    }
}

/// Reads a configuration. `T::default()` serialised is the list of known keys.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load<T: DeserializeOwned + Serialize + Default>(sources: &Sources) -> Result<T, Faults> {
    let mut faults = Vec::new();
    let known = Value::try_from(T::default()).map_err(|e| Faults(vec![format!("defaults: {e}")]))?;
    let mut value = match sources.file.as_deref().map(read_file).transpose() {
        Ok(value) => value.unwrap_or_else(|| Value::Table(toml::Table::new())),
        Err(fault) => {
            faults.push(fault);
            Value::Table(toml::Table::new())
        }
    };
    for (path, text) in from_environment(sources, &known, &mut faults) {
        let typed = typed::<T>(&known, &path, &text);
        if let Err(fault) = typed.and_then(|typed| set(&mut value, &path, typed)) {
            faults.push(fault);
        }
    }
    let mut unknown = BTreeSet::new();
    // A deserialiser stops at its first error; each value tried alone shows them all.
    for path in leaves(&value, "") {
        let Some(leaf) = lookup(&value, &path) else { continue };
        if let Err(fault) = deserialize::<T>(alone(&path, leaf.clone()), &mut unknown) {
            faults.push(fault);
        }
    }
    faults.extend(unknown.iter().map(|path| unknown_key(path, &known)));
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    deserialize(value, &mut unknown).map_err(|fault| Faults(vec![fault]))
}

/// A configuration of which only `leaf` is given.
fn alone(path: &str, leaf: Value) -> Value {
    path.rsplit('.').fold(leaf, |inner, name| Value::Table([(name.to_owned(), inner)].into_iter().collect()))
}

fn deserialize<T: DeserializeOwned>(value: Value, unknown: &mut BTreeSet<String>) -> Result<T, String> {
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.insert(path.to_string());
    };
    serde_path_to_error::deserialize(serde_ignored::Deserializer::new(value, &mut note)).map_err(|e| {
        let (path, text) = (e.path().to_string(), e.into_inner().to_string());
        let first = text.lines().next().unwrap_or_default().to_owned();
        if path == "." { first } else { format!("{path}: {first}") }
    })
}

fn read_file(path: &Path) -> Result<Value, String> {
    let name = path.display();
    let size = std::fs::metadata(path).map_err(|e| format!("{name}: {e}"))?.len();
    if size > CONFIG_FILE_BYTES_MAX {
        return Err(format!("{name}: {size} bytes; a configuration has at most {CONFIG_FILE_BYTES_MAX}"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
    match path.extension().and_then(|e| e.to_str()) {
        Some("json") => serde_json::from_str(&text).map_err(|e| format!("{name}: {e}")),
        _ => text.parse::<toml::Table>().map(Value::Table).map_err(|e| format!("{name}: {}", e.to_string().trim())),
    }
}

/// Key path and text of each value that the environment or a credential gives.
fn from_environment(sources: &Sources, known: &Value, faults: &mut Vec<String>) -> Vec<(String, Zeroizing<String>)> {
    let mut out = Vec::new();
    for (name, path) in sources.aliases {
        out.extend(sources.env.get(*name).map(|text| ((*path).to_owned(), Zeroizing::new(text.clone()))));
    }
    if let Some(dir) = sources.env.get("CREDENTIALS_DIRECTORY") {
        for path in leaves(known, "") {
            if let Ok(text) = std::fs::read_to_string(Path::new(dir).join(&path)) {
                out.push((path, Zeroizing::new(text.trim_end().to_owned())));
            }
        }
    }
    for (name, text) in &sources.env {
        let Some(path) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")).map(|rest| rest.to_lowercase().replace("__", ".")) else { continue };
        if path.split('.').next().is_some_and(|section| sources.foreign.contains(&section)) {
            continue;
        }
        match path.strip_suffix("_file").filter(|_| lookup(known, &path).is_none()) {
            Some(stripped) => match std::fs::read_to_string(text) {
                Ok(content) => out.push((stripped.to_owned(), Zeroizing::new(content.trim_end().to_owned()))),
                Err(e) => faults.push(format!("{name}: cannot read {text}: {e}")),
            },
            None => out.push((path, Zeroizing::new(text.clone()))),
        }
    }
    out
}

/// `text` as the type that the default has at `path`. A list is separated by `:`.
fn typed<T: DeserializeOwned>(known: &Value, path: &str, text: &str) -> Result<Value, String> {
    let list = || Value::Array(text.split(':').filter(|part| !part.is_empty()).map(|part| Value::String(part.into())).collect());
    let string = || Value::String(text.into());
    Ok(match lookup(known, path) {
        Some(Value::Integer(_)) => text.parse().map(Value::Integer).map_err(|_| format!("{path}: {text:?} is not a whole number"))?,
        Some(Value::Float(_)) => text.parse().map(Value::Float).map_err(|_| format!("{path}: {text:?} is not a number"))?,
        Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).map_err(|_| format!("{path}: {text:?} is neither true nor false"))?,
        Some(Value::Array(_)) => list(),
        // A name that users choose, as below `sampling.intervals`, has no default.
        None if deserialize::<T>(alone(path, string()), &mut BTreeSet::new()).is_err() => list(),
        Some(_) | None => string(),
    })
}

fn set(value: &mut Value, path: &str, typed: Value) -> Result<(), String> {
    let mut at = value;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let Value::Table(table) = at else { return Err(format!("{path}: the file has a value where a section belongs")) };
        if parts.peek().is_none() {
            table.insert(part.to_owned(), typed);
            return Ok(());
        }
        at = table.entry(part).or_insert_with(|| Value::Table(toml::Table::new()));
    }
    Ok(())
}

fn lookup<'a>(known: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(known, |at, part| at.get(part))
}

/// Paths of all values, `section.key`.
fn leaves(value: &Value, prefix: &str) -> Vec<String> {
    let Value::Table(table) = value else { return vec![prefix.to_owned()] };
    table
        .iter()
        .flat_map(|(name, inner)| {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            leaves(inner, &path)
        })
        .collect()
}

fn unknown_key(path: &str, known: &Value) -> String {
    let nearest = leaves(known, "").into_iter().min_by_key(|leaf| strsim::damerau_levenshtein(leaf, path));
    match nearest {
        Some(leaf) => format!("{path}: no such key; the nearest known one is {leaf}"),
        None => format!("{path}: no such key"),
    }
}

/// All that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who must send or check it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether none was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

/// A length of time: `"500ms"`, `"10s"`, `"5m"`, `"1h"`, `"7d"`, or whole seconds as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// Whole seconds.
    #[must_use]
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// In ms.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a length of time: write 500ms, 10s, 5m, 1h or 7d");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let n: u64 = text[..digits].parse().map_err(|_| fault())?;
        let unit_ms: u64 = match text[digits..].trim() {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fault()),
        };
        n.checked_mul(unit_ms).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(fault)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Seconds(u64),
            Text(String),
        }
        match Form::deserialize(deserializer).map_err(|_| D::Error::custom("expected a length of time such as \"10s\""))? {
            Form::Seconds(n) => Ok(Self::seconds(n)),
            Form::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests;
