//! Postfix: `main.cf` (parameters that refer to each other by `$name`, the last one counts) and the `-o` of `master.cf`
//! (postfix.org/TLS_README.html).

use super::{Env, Said, Say, Setting, UNKNOWN, What, directory};

/// References within references.
const DEPTH_MAX: usize = 10;
/// References that one value may come to.
const REFERENCES_MAX: usize = 1_000;

/// Reads `main.cf`.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let base = env.directory().to_owned();
    env.set("config_directory", &base, 0);
    for (line, text) in parameters(text) {
        if let Some((name, value)) = text.split_once('=') {
            env.set(name.trim(), value.trim(), line);
        }
    }
    let settings: Vec<(String, Setting)> = env.settings.iter().map(|(name, setting)| (name.clone(), setting.clone())).collect();
    for (name, setting) in settings {
        told(&name, &setting.value, setting.line, env, say);
    }
    say(env, Said::Include(format!("{}/master.cf", super::escape(&base)), master));
}

/// Reads `master.cf`.
pub fn master(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in parameters(text) {
        let (mut rest, mut options) = (text.as_str(), Vec::new());
        // `-o name=value` and `-o { name = value, with blanks }` are one setting of one service.
        while let Some((_, after)) = rest.split_once(" -o").or(rest.split_once("\t-o")) {
            let after = after.trim_start();
            let (option, next) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
                Some(option) => option,
                None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
            };
            if let Some((name, value)) = option.split_once('=') {
                options.push((name.trim(), value.trim()));
            }
            rest = next;
        }
        if options.is_empty() {
            continue;
        }
        // They may refer to each other, and to nothing that another service sets.
        let outer = env.settings.clone();
        options.iter().for_each(|(name, value)| env.set(name, value, line));
        options.iter().for_each(|(name, value)| told(name, value, line, env, say));
        env.settings = outer;
    }
}

/// Lines with their numbers; one that begins with a blank goes on with what was before it.
fn parameters(text: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with(char::is_whitespace) => last.push_str(line),
            _ => lines.push((number, line.to_owned())),
        }
    }
    lines
}

/// Reads a table of certificates by name: a name, and the files of its chains, the key first.
fn server_names(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in parameters(text) {
        let Some((_, files)) = text.split_once(char::is_whitespace) else { continue };
        for path in paths(files) {
            let said = env.name(Env::join(directory(&env.main), path), What::Certificate, true, line);
            say(env, said);
        }
    }
}

fn told(name: &str, value: &str, line: u32, env: &mut Env, say: &mut Say<'_>) {
    let Some(of) = name.split_once("_tls_").map(|(_, of)| of).or(name.strip_prefix("tlsproxy_client_")) else {
        return if name == "tls_server_sni_maps" {
            tables(value, env, say);
        };
    };
    let what = match of {
        "cert_file" | "dcert_file" | "eccert_file" | "chain_files" => What::Certificate,
        "key_file" | "dkey_file" | "eckey_file" => What::Key,
        "CAfile" | "CApath" => What::Authorities,
        _ => return,
    };
    let Some(value) = expand(value, env) else {
        return say(env, Said::Unknown(line, format!("says by references what {name} is, which cannot be followed")));
    };
    for path in paths(&value) {
        let said = match path.strip_prefix(UNKNOWN) {
            None => env.name(Env::join(directory(&env.main), path), what, true, line),
            Some(_) => Said::Unknown(line, format!("begins {name} with what no line of the configuration sets")),
        };
        say(env, said);
    }
}

/// `hash:/etc/postfix/sni` is made of the text beside it.
fn tables(value: &str, env: &mut Env, say: &mut Say<'_>) {
    let Some(value) = expand(value, env) else { return };
    for table in paths(&value) {
        let (kind, path) = table.split_once(':').unwrap_or(("hash", table));
        if ["btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash"].contains(&kind) && path.starts_with('/') && !path.contains(UNKNOWN) {
            say(env, Said::Include(super::escape(path), server_names));
        }
    }
}

fn paths(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ' ', '\t']).filter(|path| !path.is_empty() && *path != "none")
}

/// Replaces references; `None` where they do not end or compare.
fn expand(text: &str, env: &Env) -> Option<String> {
    References { env, left: REFERENCES_MAX }.expand(text, DEPTH_MAX)
}

struct References<'a> {
    env: &'a Env,
    left: usize,
}

impl References<'_> {
    /// `$name`, `${name}`, `$(name)`, `${name?where it is set}` and `${name:where it is not}`; [`UNKNOWN`] for what the program knows
    /// by itself.
    fn expand(&mut self, text: &str, depth: usize) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            let depth = depth.checked_sub(1)?;
            self.left = self.left.checked_sub(1)?;
            let braced = [('{', '}'), ('(', ')')].into_iter().find_map(|(open, close)| enclosed(after, open, close));
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            let (name, after) = braced.unwrap_or_else(|| after.split_at(end));
            out.push_str(before);
            out.push_str(&self.value(name, depth)?);
            if out.len() > keyvigil_common::limits::TEXT_BYTES_MAX {
                return None;
            }
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    }

    fn value(&mut self, name: &str, depth: usize) -> Option<String> {
        let Some(at) = name.find(['?', ':']) else {
            return self.env.get(name).map_or_else(|| Some(UNKNOWN.to_string()), |value| self.expand(value, depth));
        };
        if name.trim_start().starts_with('{') {
            return None;
        }
        let (name, wants_set, asked) = (&name[..at], name[at..].starts_with('?'), name[at + 1..].trim());
        let is_set = self.env.get(name).is_some_and(|value| !value.is_empty());
        let (yes, no) = enclosed(asked, '{', '}').map_or((asked, ""), |(yes, rest)| (yes, rest.trim().trim_start_matches(':').trim()));
        let no = enclosed(no, '{', '}').map_or(no, |(no, _)| no);
        self.expand(if is_set == wants_set { yes } else { no }, depth)
    }
}

/// What stands between the first bracket, where one opens, and the one that closes it; and what follows.
fn enclosed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let inner = text.strip_prefix(open)?;
    let mut depth = 1_usize;
    let end = inner.char_indices().find_map(|(at, c)| {
        depth += usize::from(c == open);
        depth -= usize::from(c == close);
        (depth == 0).then_some(at)
    })?;
    Some((&inner[..end], &inner[end + close.len_utf8()..]))
}
