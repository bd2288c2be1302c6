//! Configurations of any form (YAML, JSON, HCL, INI, unit-like): every absolute path that ends as key files do. It is not said
//! to be missing: it may be meant in a container, or in a remark.

use super::{Env, Say, What};

const ENDINGS: [(&str, What); 21] = [
    (".crt", What::Certificate),
    (".cer", What::Certificate),
    (".cert", What::Certificate),
    (".pem", What::Certificate),
    (".der", What::Certificate),
    (".p12", What::Certificate),
    (".pfx", What::Certificate),
    (".jks", What::Certificate),
    (".jceks", What::Certificate),
    (".keystore", What::Certificate),
    (".truststore", What::Authorities),
    (".p7b", What::Certificate),
    // What Traefik keeps its certificates and keys in.
    ("acme.json", What::Key),
    (".p8", What::Key),
    (".pk8", What::Key),
    (".private", What::Key),
    (".pub", What::Key),
    (".key", What::Key),
    (".gpg", What::Key),
    (".asc", What::Key),
    (".crl", What::Revocations),
];

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim_start();
        if text.starts_with('#') || text.starts_with("//") {
            continue;
        }
        self::line(text, line, env, say);
    }
}

/// Reads one line.
pub(super) fn line(text: &str, line: u32, env: &mut Env, say: &mut Say<'_>) {
    for word in text.split(|c: char| c.is_whitespace() || "\"'`,;=:()[]{}<>".contains(c)) {
        // `file:///etc/x.pem`
        let word = if word.starts_with("///") { &word[2..] } else { word };
        let what = ENDINGS.iter().find(|(ending, _)| word.ends_with(ending)).map(|(_, what)| *what);
        if let Some(what) = what.filter(|_| word.starts_with('/') && !word.starts_with("//") && !word.contains(['$', '%'])) {
            let said = if word.contains(['*', '?']) { env.pattern(word.to_owned(), what, line) } else { env.name(word.to_owned(), what, false, line) };
            say(env, said);
        }
    }
}
