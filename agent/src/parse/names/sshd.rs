//! OpenSSH's server and its client: a keyword and its arguments a line; `%h` and `%u` stand for whoever logs in
//! (man 5 sshd_config, man 5 ssh_config).

use super::words::words;
use super::{Env, Said, Say, What, escape};

/// Reads one file of the server.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, keyword, values) in directives(text) {
        let what = match keyword.as_str() {
            "hostkey" => What::Key,
            "hostcertificate" => What::Certificate,
            "trustedusercakeys" => What::Authorities,
            "revokedkeys" => What::Revocations,
            "authorizedkeysfile" => What::AuthorizedKeys,
            "include" => {
                values.iter().for_each(|value| say(env, Said::Include(Env::join("/etc/ssh", value), parse)));
                continue;
            }
            _ => continue,
        };
        for value in values.iter().filter(|value| !value.eq_ignore_ascii_case("none")) {
            let said = match what {
                What::AuthorizedKeys => env.pattern(of_everybody(value), what, line),
                _ if value.starts_with('/') => env.name(value.clone(), what, true, line),
                _ => continue,
            };
            say(env, said);
        }
    }
}

/// Reads one file of the client: the system's, or that of a user in whose home `~` and what is relative begin.
pub fn client(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let home = env.main.strip_suffix("/.ssh/config").map(str::to_owned);
    for (line, keyword, values) in directives(text) {
        let what = match keyword.as_str() {
            "identityfile" => What::Key,
            "certificatefile" => What::Certificate,
            "userknownhostsfile" | "globalknownhostsfile" => What::Authorities,
            "revokedhostkeys" => What::Revocations,
            "include" => {
                let base = home.as_ref().map_or("/etc/ssh".into(), |home| format!("{}/.ssh", escape(home)));
                for value in &values {
                    let value = value.strip_prefix("~/").zip(home.as_ref()).map_or(value.clone(), |(rest, home)| format!("{}/{rest}", escape(home)));
                    say(env, Said::Include(Env::join(&base, &value), client));
                }
                continue;
            }
            _ => continue,
        };
        for value in values.iter().filter(|value| !value.eq_ignore_ascii_case("none") && !value.starts_with('$')) {
            let of = |home: &String| value.replacen("%d", home, 1);
            let value = home.as_ref().map_or_else(|| value.replacen("%d", "~", 1), of);
            let path = match (&home, value.strip_prefix("~/")) {
                (Some(home), Some(rest)) => Env::join(home, rest),
                (None, Some(_)) => value,
                (Some(home), None) => Env::join(home, &value),
                (None, None) if value.starts_with('/') => value,
                (None, None) => format!("~/{value}"),
            };
            // What is not there is not tried.
            let said =
                if path.starts_with('/') && !path.contains('%') { env.name(path, what, false, line) } else { env.pattern(of_everybody(&path), what, line) };
            say(env, said);
        }
    }
}

/// Keywords in lower case, with their arguments.
fn directives(text: &str) -> impl Iterator<Item = (u32, String, Vec<String>)> {
    (1..).zip(text.lines()).filter_map(|(line, text)| {
        let text = text.trim_start();
        // `Keyword=value` is a form of it.
        let spaced = match text.find(|c: char| c.is_whitespace() || c == '=' || c == '"') {
            Some(at) if text[at..].trim_start().starts_with('=') => text.replacen('=', " ", 1),
            _ => text.to_owned(),
        };
        let mut words = words(&spaced).into_iter();
        Some((line, words.next()?.to_ascii_lowercase(), words.collect()))
    })
}

/// The file of each user as one pattern.
fn of_everybody(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    if let Some(inside) = rest.strip_prefix("~/") {
        (out, rest) = ("~*/".into(), inside);
    }
    while let Some(at) = rest.find('%') {
        out.push_str(&escape(&rest[..at]));
        let mut chars = rest[at + 1..].chars();
        match chars.next() {
            // A pattern says so only at its beginning.
            Some('h') if out.is_empty() => out.push_str("~*"),
            Some('%') => out.push('%'),
            _ => out.push('*'),
        }
        rest = chars.as_str();
    }
    out.push_str(&escape(rest));
    if out.starts_with(['/', '~']) { out } else { format!("~*/{out}") }
}
