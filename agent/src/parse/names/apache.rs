//! Apache httpd: a directive a line, whatever its case; `Define` and `${}`; relative paths begin at `ServerRoot`
//! (httpd.apache.org/docs/current/mod/mod_ssl.html).

use super::words::{logical_lines, words};
use super::{Env, Said, Say, What, directory};

/// Setting of ours that no `Define` can have, for a blank is in it.
const SERVER_ROOT: &str = "server root";

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    // Depth of the block that does not hold because something is not defined.
    let mut skipped = 0;
    for (line, text) in logical_lines(text) {
        let words = words(&text);
        let Some((name, rest)) = words.split_first() else { continue };
        let name = name.to_ascii_lowercase();
        if skipped > 0 {
            skipped += usize::from(name == "<ifdefine");
            skipped -= usize::from(name == "</ifdefine>");
            continue;
        }
        let Some(value) = rest.first() else { continue };
        if name == "<ifdefine" {
            let asked = value.trim_end_matches('>');
            let holds = match asked.strip_prefix('!') {
                Some(asked) => env.get(asked).is_none(),
                None => env.get(asked).is_some(),
            };
            skipped += usize::from(!holds);
            continue;
        }
        let Some(expanded) = env.expand(value, "${", '}') else { continue };
        directive(&name, expanded, rest, line, env, say);
    }
}

fn directive(name: &str, value: String, rest: &[String], line: u32, env: &mut Env, say: &mut Say<'_>) {
    let root = env.get(SERVER_ROOT).unwrap_or_else(|| directory(&env.main)).to_owned();
    match name {
        "define" => return env.set(&value, rest.get(1).map_or("", String::as_str), line),
        "undefine" => return env.unset(&value),
        "serverroot" => return env.set(SERVER_ROOT, &value, line),
        "include" | "includeoptional" => return say(env, Said::Include(Env::join(&root, &value), parse)),
        _ => {}
    }
    let what = match name {
        "sslcertificatefile" | "sslcertificatechainfile" | "mdcertificatefile" | "gnutlscertificatefile" => What::Certificate,
        "sslproxymachinecertificatefile" | "sslproxymachinecertificatepath" | "sslproxymachinecertificatechainfile" => What::Certificate,
        "sslcertificatekeyfile" | "mdcertificatekeyfile" | "gnutlskeyfile" => What::Key,
        "sslcacertificatefile" | "sslcacertificatepath" | "sslcadnrequestfile" | "sslcadnrequestpath" | "gnutlsclientcafile" => What::Authorities,
        "sslproxycacertificatefile" | "sslproxycacertificatepath" => What::Authorities,
        "sslcarevocationfile" | "sslcarevocationpath" | "sslproxycarevocationfile" | "sslproxycarevocationpath" => What::Revocations,
        _ => return,
    };
    // A key on a token.
    if value.starts_with("pkcs11:") {
        return;
    }
    let said = env.name(Env::join(&root, &value), what, true, line);
    say(env, said);
}
