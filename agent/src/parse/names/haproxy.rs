//! HAProxy: words in lines; certificates by `crt`, in files, directories and lists; relative ones begin at `crt-base` and
//! `ca-base` (docs.haproxy.org, "5.1. Bind options").

use super::words::words;
use super::{Env, Said, Say, What};

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        let words = words(text);
        for pair in words.windows(2) {
            let [word, value] = pair else { continue };
            match word.as_str() {
                "crt-base" | "ca-base" | "key-base" => env.set(word, value, line),
                "crt" => crt(value, line, env, say),
                "key" if words[0] == "load" => file("key-base", value, What::Key, line, env, say),
                "ca-file" | "ca-verify-file" => file("ca-base", value, What::Authorities, line, env, say),
                "ca-sign-file" => file("", value, What::Certificate, line, env, say),
                "crl-file" => file("ca-base", value, What::Revocations, line, env, say),
                "tls-ticket-keys" => file("", value, What::Other, line, env, say),
                "crt-list" if value.starts_with('/') => say(env, Said::Include(super::escape(value), list)),
                _ => {}
            }
        }
    }
}

/// Reads one list of certificates: a path, options in brackets, names.
pub fn list(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        if let Some(path) = words(text).first() {
            crt(path, line, env, say);
        }
    }
}

/// A file that may hold the key as well; else it lies beside it.
fn crt(value: &str, line: u32, env: &mut Env, say: &mut Say<'_>) {
    file("crt-base", value, What::Certificate, line, env, say);
    if let Some(path) = path("crt-base", value, env) {
        let said = env.name(format!("{path}.key"), What::Key, false, line);
        say(env, said);
    }
}

fn file(base: &str, value: &str, what: What, line: u32, env: &mut Env, say: &mut Say<'_>) {
    if let Some(path) = path(base, value, env) {
        let said = env.name(path, what, true, line);
        say(env, said);
    }
}

/// `None` for what lies nowhere on disk, or begins who knows where.
fn path(base: &str, value: &str, env: &Env) -> Option<String> {
    if value.contains('$') || value.starts_with('@') {
        return None;
    }
    if value.starts_with('/') { Some(value.to_owned()) } else { env.get(base).map(|base| Env::join(base, value)) }
}
