//! PostgreSQL: settings of which the last one counts, in files that include each other; relative paths begin at the data
//! directory (postgresql.org/docs/current/ssl-tcp.html).

use super::{Env, Said, Say, What, directory, escape};

const FILES: [(&str, What); 5] = [
    ("ssl_cert_file", What::Certificate),
    ("ssl_key_file", What::Key),
    ("ssl_ca_file", What::Authorities),
    ("ssl_crl_file", What::Revocations),
    ("ssl_crl_dir", What::Revocations),
];

/// Reads the main file; what is set counts once all is read.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    part(text, env, say);
    let base = env.get("data_directory").unwrap_or_else(|| directory(&env.main)).to_owned();
    // What `ALTER SYSTEM` wrote.
    say(env, Said::Include(format!("{}/postgresql.auto.conf", escape(&base)), part));
    let is_on = env.get("ssl").map(str::to_ascii_lowercase).is_some_and(|value| {
        let begins = |word: &str| !value.is_empty() && word.starts_with(&value);
        value == "on" || value == "1" || begins("true") || begins("yes")
    });
    if is_on {
        for (name, file) in [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")] {
            if env.get(name).is_none() {
                let line = env.settings.get("ssl").map_or(0, |setting| setting.line);
                env.set(name, file, line);
            }
        }
    }
    for (name, what) in FILES {
        let Some(setting) = env.settings.get(name).filter(|setting| !setting.value.is_empty()).cloned() else { continue };
        let mut said = env.name(Env::join(&base, &setting.value), what, is_on, setting.line);
        if let Said::Name(name) = &mut said {
            name.file = setting.file;
        }
        say(env, said);
    }
}

/// Reads an included file.
pub fn part(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let rest = rest.trim_start().trim_start_matches('=').trim_start();
        let value = match rest.strip_prefix('\'') {
            Some(quoted) => quoted_value(quoted),
            None => rest.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or_default().to_owned(),
        };
        let name = name.to_ascii_lowercase();
        let path = || escape(&Env::join(env.directory(), &value));
        match name.as_str() {
            "" => {}
            "include" | "include_if_exists" => {
                let path = path();
                say(env, Said::Include(path, part));
            }
            "include_dir" => {
                let path = path();
                say(env, Said::Include(format!("{path}/*.conf"), part));
            }
            "data_directory" | "ssl" => env.set(&name, &value, line),
            name if FILES.iter().any(|(file, _)| *file == name) => env.set(name, &value, line),
            _ => {}
        }
    }
}

/// Up to the quote that ends it; two of them are one.
fn quoted_value(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_some() => out.push('\''),
            '\'' => break,
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}
