//! Postfix: `main.cf` (parameters that refer to each other by `$name`, the last one counts) and the `-o` of `master.cf`
//! (postfix.org/TLS_README.html).

use super::{Env, Said, Say, Setting, What, directory};

/// References within references.
const DEPTH_MAX: usize = 10;

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
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            // `-o name=value` is one setting of one service.
            let option = if word == "-o" { words.next() } else { word.strip_prefix("-o") };
            if let Some((name, value)) = option.and_then(|option| option.split_once('=')) {
                told(name, value, line, env, say);
            }
        }
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

fn told(name: &str, value: &str, line: u32, env: &mut Env, say: &mut Say<'_>) {
    let Some((_, of)) = name.split_once("_tls_") else { return };
    let what = match of {
        "cert_file" | "dcert_file" | "eccert_file" | "chain_files" => What::Certificate,
        "key_file" | "dkey_file" | "eckey_file" => What::Key,
        "CAfile" | "CApath" => What::Authorities,
        _ => return,
    };
    let Some(value) = expand(value, env, DEPTH_MAX) else { return };
    for path in value.split([',', ' ', '\t']).filter(|path| !path.is_empty() && *path != "none") {
        let said = env.name(Env::join(directory(&env.main), path), what, true, line);
        say(env, said);
    }
}

/// `$name`, `${name}` and `$(name)`; `None` where one is not known or asks a condition.
fn expand(text: &str, env: &Env, depth: usize) -> Option<String> {
    let Some((before, rest)) = text.split_once('$') else { return Some(text.to_owned()) };
    let braced = [('{', '}'), ('(', ')')].into_iter().find_map(|(open, close)| rest.strip_prefix(open)?.split_once(close));
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, after) = braced.unwrap_or_else(|| rest.split_at(end));
    let value = expand(env.get(name)?, env, depth.checked_sub(1)?)?;
    let after = expand(after, env, depth - 1)?;
    Some(format!("{before}{value}{after}")).filter(|text| text.len() <= keyvigil_common::limits::TEXT_BYTES_MAX)
}
