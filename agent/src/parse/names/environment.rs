//! The environment that a service is given: assignments as shells and systemd read them, in `/etc/default` and beside the
//! configuration. What a shell would have to be run for stays unknown. Called by its neighbours.

use super::words::words;
use super::{Env, Say};

/// Before the names of these variables, which are others than those that a configuration sets.
const PREFIX: &str = "env ";

/// Reads one file.
pub(super) fn parse(text: &str, env: &mut Env, _: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        let words = words(text);
        for word in words.iter().skip(usize::from(words.first().is_some_and(|word| word == "export"))) {
            let Some((name, value)) = word.split_once('=').filter(|(name, _)| is_name(name)) else { break };
            if let Some(value) = expand(value, env) {
                env.set(&format!("{PREFIX}{name}"), &value, line);
            }
        }
    }
}

/// The value of a variable that the service is given.
pub(super) fn get<'a>(env: &'a Env, name: &str) -> Option<&'a str> {
    env.get(&format!("{PREFIX}{name}"))
}

/// Sets one for the service.
pub(super) fn set(env: &mut Env, name: &str, value: &str, line: u32) {
    env.set(&format!("{PREFIX}{name}"), value, line);
}

/// Forgets one.
pub(super) fn unset(env: &mut Env, name: &str) {
    env.unset(&format!("{PREFIX}{name}"));
}

/// Replaces `$NAME` and `${NAME}`; `None` where one is not known, or a program would have to be run.
pub(super) fn expand(text: &str, env: &Env) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        // `${NAME-what stands there otherwise}`, `${NAME:-...}`
        let (name, otherwise) = name.split_once('-').map_or((name, None), |(name, otherwise)| (name.trim_end_matches(':'), Some(otherwise)));
        out.push_str(get(env, name).filter(|_| is_name(name)).or(otherwise)?);
        if out.len() > keyvigil_common::limits::TEXT_BYTES_MAX {
            return None;
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out).filter(|out| !out.contains('`'))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
