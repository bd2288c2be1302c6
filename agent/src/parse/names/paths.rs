//! Configurations of any form (YAML, JSON, HCL, INI, unit-like): every absolute path that ends as key files do. It is not said
//! to be missing: it may be meant in a container, or in a remark.

use super::{Env, Say, What};

const ENDINGS: [(&str, What); 14] = [
    (".crt", What::Certificate),
    (".cer", What::Certificate),
    (".cert", What::Certificate),
    (".pem", What::Certificate),
    (".der", What::Certificate),
    (".p12", What::Certificate),
    (".pfx", What::Certificate),
    (".jks", What::Certificate),
    (".p7b", What::Certificate),
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
        for word in text.split(|c: char| c.is_whitespace() || "\"'`,;=:()[]{}<>".contains(c)) {
            let what = ENDINGS.iter().find(|(ending, _)| word.ends_with(ending)).map(|(_, what)| *what);
            if let Some(what) = what.filter(|_| word.starts_with('/') && !word.starts_with("//") && !word.contains(['$', '*', '%'])) {
                let said = env.name(word.to_owned(), what, false, line);
                say(env, said);
            }
        }
    }
}
