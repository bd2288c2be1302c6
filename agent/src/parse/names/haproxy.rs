//! HAProxy: words in lines; certificates by `crt`, in files, directories, stores and lists; relative ones begin at `crt-base` and
//! `ca-base` (docs.haproxy.org, "5.1. Bind options").

use super::words::words_up_to_hash as words;
use super::{Env, Said, Say, What, environment};

/// What a section begins with; the indentation means nothing.
const SECTIONS: [&str; 22] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "dynamic-update",
    "fcgi-app",
    "frontend",
    "global",
    "healthcheck",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "ruleset",
    "traces",
    "userlist",
];
/// Setting of ours: the section that is read is a store, with bases of its own.
const STORE: &str = "in store";
const BASES: [&str; 3] = ["crt-base", "ca-base", "key-base"];
/// Where a file of that name is missing, there is one for each kind of key.
const EACH_KIND: &str = "{,.rsa,.ecdsa,.dsa}";

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for file in ["/etc/default/haproxy", "/etc/sysconfig/haproxy"] {
        say(env, Said::Include(file.to_owned(), environment::parse));
    }
    for (line, text) in (1..).zip(text.lines()) {
        let words = words(text);
        if words.first().is_some_and(|word| SECTIONS.contains(&word.as_str())) {
            env.unset(STORE);
            BASES.iter().for_each(|base| env.unset(&format!("store {base}")));
            if words[0] == "crt-store" {
                env.set(STORE, "", line);
            }
        }
        match (words.first().map(String::as_str), words.get(1), words.get(2)) {
            (Some("setenv"), Some(name), Some(value)) => environment::set(env, name, value, line),
            (Some("presetenv"), Some(name), Some(value)) if environment::get(env, name).is_none() => environment::set(env, name, value, line),
            (Some("unsetenv"), Some(_), _) => words[1..].iter().for_each(|name| environment::unset(env, name)),
            (Some(first), Some(_), _) => {
                let first = first.to_owned();
                words.windows(2).for_each(|pair| told(&first, &pair[0], &pair[1], line, env, say));
            }
            _ => {}
        }
    }
}

fn told(first: &str, word: &str, value: &str, line: u32, env: &mut Env, say: &mut Say<'_>) {
    match word {
        "crt-base" | "ca-base" | "key-base" => {
            if let Some(value) = environment::expand(value, env) {
                let of = if env.get(STORE).is_some() { "store " } else { "" };
                env.set(&format!("{of}{word}"), &value, line);
            }
        }
        "default-path" => env.set(word, value, line),
        "crt" => crt(value, line, env, say),
        "key" if ["load", "ssl-f-use"].contains(&first) => file("key-base", value, What::Key, line, env, say),
        "issuer" if ["load", "ssl-f-use"].contains(&first) => file("crt-base", value, What::Authorities, line, env, say),
        "ca-file" | "ca-verify-file" => file("ca-base", value, What::Authorities, line, env, say),
        "issuers-chain-path" => file("", value, What::Authorities, line, env, say),
        "ca-sign-file" => file("", value, What::Certificate, line, env, say),
        "crl-file" => file("ca-base", value, What::Revocations, line, env, say),
        "tls-ticket-keys" => file("", value, What::Other, line, env, say),
        "crt-list" => match path("", value, env) {
            Path::At(path) => say(env, Said::Include(super::escape(&path), list)),
            Path::Unknown(why) => say(env, Said::Unknown(line, why)),
            Path::No => {}
        },
        _ => {}
    }
}

/// Reads one list of certificates: a path, options in brackets, names.
pub fn list(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        let words = words(text);
        let Some((path, rest)) = words.split_first() else { continue };
        crt(path, line, env, say);
        let bare: Vec<&str> = rest.iter().map(|word| word.trim_start_matches('[').trim_end_matches(']')).collect();
        for pair in bare.windows(2).filter(|pair| ["ca-file", "ca-verify-file", "crl-file"].contains(&pair[0])) {
            told("", pair[0], pair[1], line, env, say);
        }
    }
}

/// A file that may hold the key as well; else it lies beside it.
fn crt(value: &str, line: u32, env: &mut Env, say: &mut Say<'_>) {
    let path = match path("crt-base", value, env) {
        Path::At(path) => path,
        Path::Unknown(why) => return say(env, Said::Unknown(line, why)),
        Path::No => return,
    };
    let mut said = env.name(path.clone(), What::Certificate, true, line);
    if let Said::Name(name) = &mut said {
        name.endings = EACH_KIND;
    }
    say(env, said);
    // With `ssl-load-extra-del-ext` it has the other ending instead.
    let bare = path.rsplit_once('.').map_or(path.as_str(), |(bare, _)| bare);
    for key in std::collections::BTreeSet::from([format!("{path}.key"), format!("{bare}.key")]) {
        let said = env.name(key, What::Key, false, line);
        say(env, said);
    }
}

fn file(base: &str, value: &str, what: What, line: u32, env: &mut Env, say: &mut Say<'_>) {
    let said = match path(base, value, env) {
        Path::At(path) => env.name(path, what, true, line),
        Path::Unknown(why) => Said::Unknown(line, why),
        Path::No => return,
    };
    say(env, said);
}

enum Path {
    At(String),
    /// There is one, and nobody here knows where: why.
    Unknown(String),
    /// It lies nowhere on disk.
    No,
}

fn path(base: &str, value: &str, env: &Env) -> Path {
    if value.starts_with('@') || value.is_empty() {
        return Path::No;
    }
    let Some(value) = environment::expand(value, env) else {
        return Path::Unknown("names a file by a variable of the environment that no configuration sets".into());
    };
    if value.starts_with('/') {
        return Path::At(value);
    }
    let in_store = env.get(STORE).and_then(|_| env.get(&format!("store {base}")));
    if let Some(base) = in_store.or(env.get(base)) {
        return Path::At(Env::join(base, &value));
    }
    let mut origin = env.get("default-path").unwrap_or_default().split_whitespace();
    match origin.next() {
        Some("config") => Path::At(Env::join(super::directory(&env.main), &value)),
        Some("parent") => Path::At(Env::join(super::directory(super::directory(&env.main)), &value)),
        _ => Path::Unknown(format!("names {value:?}, which begins in the directory where the program was started: nobody here knows that")),
    }
}
