//! OpenSSH's server: a keyword and its arguments a line; `%h` and `%u` stand for whoever logs in (man 5 sshd_config).

use super::words::words;
use super::{Env, Said, Say, What, escape};

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        // `Keyword=value` is a form of it.
        let spaced = match text.find(|c: char| c.is_whitespace() || c == '=' || c == '"') {
            Some(at) if text[at..].starts_with('=') => text.replacen('=', " ", 1),
            _ => text.to_owned(),
        };
        let words = words(&spaced);
        let Some((keyword, values)) = words.split_first() else { continue };
        let what = match keyword.to_ascii_lowercase().as_str() {
            "hostkey" => What::Key,
            "hostcertificate" => What::Certificate,
            "trustedusercakeys" => What::Authorities,
            "revokedkeys" => What::Revocations,
            "authorizedkeysfile" => What::AuthorizedKeys,
            "include" => {
                for value in values {
                    say(env, Said::Include(Env::join("/etc/ssh", value), parse));
                }
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

/// The file of each user as one pattern.
fn of_everybody(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
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
