//! Dovecot: settings in blocks; `<` before a path means the file's content up to version 2.3, and a name that ends in `_file`
//! or `_dir` says so since 2.4 (doc.dovecot.org, "SSL configuration").

use super::words::{logical_lines, unquote};
use super::{Env, Said, Say, What};

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in logical_lines(text) {
        let text = text.split(" #").next().unwrap_or_default().trim();
        if let Some((word, path)) = text.split_once(char::is_whitespace).filter(|(word, _)| word.starts_with("!include")) {
            if matches!(word, "!include" | "!include_try") {
                let path = Env::join(env.directory(), unquote(path.trim()));
                say(env, Said::Include(path, parse));
            }
            continue;
        }
        let Some((name, value)) = text.split_once('=') else { continue };
        let (name, value) = (name.trim(), unquote(value.trim()));
        let Some(of) = name.strip_prefix("ssl_") else { continue };
        let path = match value.strip_prefix('<') {
            Some(path) => path.trim(),
            None if of.ends_with("_file") || of.ends_with("_dir") => value,
            None => continue,
        };
        let of = of.trim_start_matches("server_").trim_start_matches("client_").trim_start_matches("alt_");
        let what = match of.trim_end_matches("_file").trim_end_matches("_dir") {
            "cert" => What::Certificate,
            "key" => What::Key,
            "ca" => What::Authorities,
            _ => continue,
        };
        if path.is_empty() || path.contains(['$', '%']) {
            continue;
        }
        let said = env.name(Env::join(env.directory(), path), what, true, line);
        say(env, said);
    }
}
