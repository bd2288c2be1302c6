//! `keyvigil-agent policy`: proposes who may open which key, from what the access sensor saw and remembered. It widens nothing: programs by
//! their whole path, and no list is longer than what was seen together; what it cannot say exactly it says in a remark. Reads the agent's
//! buffer, whether it runs or not, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use keyvigil_common::clock::utc;
use keyvigil_common::config::Period;
use keyvigil_common::process::{EXIT_PERMISSION, say};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::telemetry::chain;

use crate::buffer;
use crate::collect::{KeyUser, Watch, recall_users};
use crate::config::Config;
use crate::status::span;

/// Sensor that remembers it.
const SENSOR: &str = "access";
const CONTAINER: &str = "container ";

/// Proposes, on standard output or into a new file.
#[must_use]
pub fn propose(config: &Config, since: Option<Period>, write: Option<&Path>, now_ms: i64) -> ExitCode {
    let remembered = match remembered(&config.state_dir) {
        Ok(remembered) => remembered,
        Err((code, why)) => return fail(code, &why),
    };
    let (mut users, watch, _) = recall_users(&remembered);
    if watch.began_ms == 0 {
        return fail(3, "the access sensor has not watched anything here yet: `keyvigil-agent status` says why");
    }
    let from_ms = since.map_or(i64::MIN, |since| now_ms.saturating_sub(since.as_ms()));
    users.retain(|user| user.last_ms >= from_ms);
    let text = proposal(&users, &watch, since.map(|since| span(since.as_ms())), now_ms);
    let Some(path) = write else { return say(text.trim_end()) };
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => say(&format!("written to {}: read it, then put what is right into the configuration, and send the agent SIGHUP", path.display())),
        Err(e) => fail(1, &format!("cannot write {}: {e}", path.display())),
    }
}

fn remembered(dir: &Path) -> Result<Vec<buffer::Remembered>, (u8, String)> {
    let (path, key) = (dir.join("buffer.db"), dir.join("buffer.key"));
    for path in [&path, &key] {
        if let Err(e) = std::fs::File::open(path) {
            let is_denied = e.kind() == std::io::ErrorKind::PermissionDenied;
            let remedy = if is_denied { "run this as root or as the user keyvigil" } else { "has an agent run here? --dir names its state directory" };
            return Err((if is_denied { EXIT_PERMISSION } else { 1 }, format!("cannot read {}: {e}; {remedy}", path.display())));
        }
    }
    let master = MasterKey::load_or_create(&key).map_err(|e| (1, chain(&e)))?;
    buffer::recall(&path, &master, SENSOR).map_err(|e| (1, format!("cannot read {}: {}", path.display(), chain(&e))))
}

#[expect(clippy::print_stderr, reason = "the answer to who typed the command")]
fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

/// Those who did the same with the same files, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    exe: BTreeSet<String>,
    user: BTreeSet<String>,
    unit: String,
}

/// The whole text.
fn proposal(users: &[KeyUser], watch: &Watch, since: Option<String>, now_ms: i64) -> String {
    let mut text = head(users, watch, since.as_deref(), now_ms);
    let mut files: BTreeMap<&str, Vec<&KeyUser>> = BTreeMap::new();
    for user in users.iter().filter(|user| !user.exe.is_empty()) {
        files.entry(&user.path).or_default().push(user);
    }
    // Files that are used in the same ways are one section.
    let mut sections: BTreeMap<Vec<Group>, Vec<&str>> = BTreeMap::new();
    for (path, users) in &files {
        sections.entry(groups(users)).or_default().push(path);
    }
    let mut sections: Vec<(Vec<&str>, Vec<Group>)> = sections.into_iter().map(|(groups, paths)| (paths, groups)).collect();
    sections.sort();
    for (paths, groups) in sections {
        text.push('\n');
        let of_paths = || paths.iter().flat_map(|path| &files[path]);
        for group in groups {
            for user in of_paths().filter(|user| group.exe.contains(&user.exe) && group.user.contains(&user.user) && group.unit == user.unit) {
                remark(&mut text, user, paths.len() > 1);
            }
            section(&mut text, &paths, &group);
        }
    }
    text
}

/// What it is made from, and what it cannot know.
fn head(users: &[KeyUser], watch: &Watch, since: Option<&str>, now_ms: i64) -> String {
    let opens: u64 = users.iter().map(|user| user.count).sum();
    let spanned = watch.until_ms.saturating_sub(watch.began_ms);
    let mut text = String::new();
    let _ = writeln!(text, "# Who may open which private key, proposed on {} from what was seen: {opens} opens.", time(now_ms));
    let _ = writeln!(text, "# Read it before you use it: what was seen is not always what is right, and what happens seldom may not have happened yet.");
    if let Some(since) = since {
        let _ = writeln!(text, "# Only those who opened a key in the last {since}.");
    }
    let seen = i64::try_from(watch.seen_ms).unwrap_or(i64::MAX);
    let _ = writeln!(text, "# Observed since {}, for {} of {}; counts are up to a minute old.", time(watch.began_ms), span(seen), span(spanned.max(seen)));
    if let Some(blind) = &watch.blind {
        let _ = writeln!(text, "# Not seen now: {}", line(blind));
    }
    if watch.forgotten > 0 {
        let _ = writeln!(text, "# There were too many: {} users of keys were forgotten, and are missing here.", watch.forgotten);
    }
    for user in users.iter().filter(|user| user.exe.is_empty()) {
        let _ = writeln!(text, "# Left out, as its program is not known: {} times by user {} on {}", user.count, line(&user.user), line(&user.path));
    }
    if users.is_empty() {
        let _ = writeln!(text, "# Nobody opened a private key.");
    }
    text
}

fn remark(text: &mut String, user: &KeyUser, with_path: bool) {
    let times = if user.count == 1 { "once".to_owned() } else { format!("{} times", user.count) };
    let path = if with_path { format!(", {}", user.path) } else { String::new() };
    let offence = if user.offends { "; NOT ALLOWED by the policy of then" } else { "" };
    let (first, last) = (time(user.first_ms), time(user.last_ms));
    let when = if first == last { first } else { format!("{first} to {last}") };
    let remark = format!("{} as {}: {times}, {when}{path}{offence}", user.exe, user.user);
    let _ = writeln!(text, "# {}", line(&remark));
}

fn section(text: &mut String, paths: &[&str], group: &Group) {
    let container = group.unit.strip_prefix(CONTAINER);
    text.push_str("[[access.policy]]\n");
    let path: Vec<String> = paths.iter().map(|path| quoted(&literal(path))).collect();
    let _ = match path.as_slice() {
        [path] => writeln!(text, "path = {path}"),
        paths => writeln!(text, "path = [\n    {},\n]", paths.join(",\n    ")),
    };
    let list = |items: &BTreeSet<String>, form: &dyn Fn(&str) -> String| items.iter().map(|item| quoted(&form(item))).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "exe = [{}]", list(&group.exe, &literal));
    let _ = writeln!(text, "user = [{}]", list(&group.user, &str::to_owned));
    let _ = match (container, group.unit.as_str()) {
        (_, "") => writeln!(text, "# No unit was known; none is asked for."),
        (Some(container), _) => writeln!(text, "container = [{}]", quoted(container)),
        (None, unit) => writeln!(text, "unit = [{}]", quoted(unit)),
    };
    text.push('\n');
}

/// Those with the same users and unit together, and of these those with the same programs: never a pair that was not seen.
fn groups(users: &[&KeyUser]) -> Vec<Group> {
    let mut by_program: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for user in users {
        by_program.entry((&user.unit, &user.exe)).or_default().insert(user.user.clone());
    }
    let mut groups: BTreeMap<(&str, BTreeSet<String>), BTreeSet<String>> = BTreeMap::new();
    for ((unit, exe), users) in by_program {
        groups.entry((unit, users)).or_default().insert(exe.to_owned());
    }
    let mut groups: Vec<Group> = groups.into_iter().map(|((unit, user), exe)| Group { exe, user, unit: unit.to_owned() }).collect();
    groups.sort();
    groups
}

/// A path as a pattern that only it fits.
fn literal(path: &str) -> String {
    path.chars().flat_map(|c| "*?[]{}\\,".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// On one line: names of files are chosen by whoever makes them.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn time(ms: i64) -> String {
    utc(ms).map_or_else(|| "an unknown time".to_owned(), |time| format!("{} UTC", time.strftime("%Y-%m-%d %H:%M")))
}

#[cfg(test)]
mod tests;
