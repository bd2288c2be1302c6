//! Units of systemd: the credentials that a service is given, and the key files that its command line names (man 5
//! systemd.exec).

use super::words::logical_lines;
use super::{Env, Say, UNKNOWN, What, paths};

/// Reads a unit, or a drop-in of one.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for (line, text) in logical_lines(text) {
        let Some((name, value)) = text.split_once('=') else { continue };
        match name.trim() {
            // What is encrypted is so to this host alone: it is listed where it looks like a key, and not opened.
            "LoadCredential" | "LoadCredentialEncrypted" => {
                if let Some((_, path)) = value.trim().split_once(':').filter(|(_, path)| path.starts_with('/')) {
                    let said = env.name(unspecified(path.trim()), What::Other, false, line);
                    say(env, said);
                }
            }
            name if name.starts_with("Exec") || name == "Environment" => paths::line(&text, line, env, say),
            _ => {}
        }
    }
}

/// `%i` is what the unit is called when it is started.
fn unspecified(path: &str) -> String {
    let mut out = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => out.push(if chars.next() == Some('%') { '%' } else { UNKNOWN }),
            c => out.push(c),
        }
    }
    out
}
