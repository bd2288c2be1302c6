//! Apache httpd: a directive a line, whatever its case; `Define`, the environment and `${}`; relative paths begin at `ServerRoot`
//! (httpd.apache.org/docs/current/mod/mod_ssl.html).

use super::words::{logical_lines, words};
use super::{Env, Macro, Said, Say, VALUES_MAX, What, directory, environment};
use keyvigil_common::limits::TEXT_BYTES_MAX;

/// Settings of ours that no `Define` can have, for a blank is in them.
const SERVER_ROOT: &str = "server root";
/// Set within blocks of which it is not known whether they hold.
const DOUBT: &str = "in doubt";
/// Lines that all uses of macros may have.
const LINES_MAX: usize = 20_000;

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    if env.file == env.main {
        let own = format!("{}/envvars", super::escape(env.directory()));
        [own.as_str(), "/etc/sysconfig/httpd"].into_iter().for_each(|file| say(env, Said::Include(file.to_owned(), environment)));
    }
    lines(logical_lines(text), env, say);
}

fn lines(lines: impl Iterator<Item = (u32, String)>, env: &mut Env, say: &mut Say<'_>) {
    let outer = env.get(DOUBT).is_some();
    let mut blocks = Blocks::default();
    let mut recorded: Option<(String, Macro)> = None;
    for (line, text) in lines {
        let words = words(&text);
        let Some((name, rest)) = words.split_first() else { continue };
        let name = name.to_ascii_lowercase();
        if let Some((of, mut body)) = recorded.take() {
            if name == "</macro>" {
                if env.macros.len() < VALUES_MAX {
                    env.macros.insert(of, body);
                }
            } else {
                if text.len() <= TEXT_BYTES_MAX && body.lines.len() < LINES_MAX {
                    body.lines.push((line, text));
                }
                recorded = Some((of, body));
            }
            continue;
        }
        let value = rest.first().map(|value| value.trim_end_matches('>'));
        if blocks.is_about(&name, value.unwrap_or_default(), env) {
            continue;
        }
        let Some(value) = value else { continue };
        if name == "<macro" {
            let parameters = rest.iter().skip(1).map(|word| word.trim_end_matches('>').to_owned()).filter(|word| !word.is_empty()).collect();
            recorded = Some((value.to_ascii_lowercase(), Macro { parameters, lines: Vec::new() }));
            continue;
        }
        if blocks.in_doubt.is_empty() && !outer {
            env.unset(DOUBT);
        } else {
            env.set(DOUBT, "", line);
        }
        if name == "use" {
            used(value, &rest[1..], line, env, say);
            continue;
        }
        let values: Option<Vec<String>> = rest.iter().map(|value| expand(value, env)).collect();
        match values {
            Some(values) => directive(&name, &values, line, env, say),
            None if what(&name).is_some() || name.starts_with("include") => {
                say(env, Said::Unknown(line, "names a file by a variable that no configuration sets".into()));
            }
            None => {}
        }
    }
    if !outer {
        env.unset(DOUBT);
    }
}

/// Reads a macro with what it is given.
fn used(name: &str, values: &[String], line: u32, env: &mut Env, say: &mut Say<'_>) {
    let Some(Macro { parameters, lines: body }) = env.macros.get(&name.to_ascii_lowercase()).cloned() else { return };
    env.uses += 1 + body.len();
    if env.uses > LINES_MAX {
        return say(env, Said::Unknown(line, format!("uses macros of more than {LINES_MAX} lines in all")));
    }
    // A longer name first, where another begins it.
    let mut given: Vec<(&String, &String)> = parameters.iter().zip(values).collect();
    given.sort_by_key(|(parameter, _)| std::cmp::Reverse(parameter.len()));
    let is_short = |text: &String| text.len() <= TEXT_BYTES_MAX;
    let fill = |text: String| given.iter().try_fold(text, |text, (parameter, value)| Some(text.replace(parameter.as_str(), value)).filter(is_short));
    let filled: Vec<(u32, String)> = body.into_iter().filter_map(|(line, text)| Some((line, fill(text)?))).collect();
    // Within it stands no other use of it: that would never end.
    let own = env.macros.remove(&name.to_ascii_lowercase());
    lines(filled.into_iter(), env, say);
    env.macros.extend(own.map(|own| (name.to_ascii_lowercase(), own)));
}

/// The blocks around a line.
#[derive(Default)]
struct Blocks {
    /// The block that does not hold, and how many of its kind are open within it.
    skipped: Option<(String, usize)>,
    /// Those of which nobody knows.
    in_doubt: Vec<String>,
}

impl Blocks {
    /// Takes in a line that begins or ends a block; whether it is one, or not to be read.
    fn is_about(&mut self, name: &str, value: &str, env: &Env) -> bool {
        let opened = name.strip_prefix('<').map(|kind| kind.trim_end_matches('>'));
        if let Some((kind, depth)) = &mut self.skipped {
            *depth += usize::from(opened == Some(kind));
            *depth -= usize::from(opened.and_then(|kind| kind.strip_prefix('/')) == Some(kind));
            if *depth == 0 {
                self.skipped = None;
            }
            return true;
        }
        let Some(kind) = opened else { return false };
        let (negated, asked) = value.strip_prefix('!').map_or((false, value), |asked| (true, asked));
        let holds = match kind {
            "ifdefine" => Some(env.get(asked).is_some()),
            // A module may be built in: only that it is loaded is sure.
            "ifmodule" => env.get(&module(asked)).map(|_| true),
            "iffile" | "ifversion" | "ifdirective" | "ifsection" | "if" | "elseif" | "else" => None,
            "macro" => return false,
            closed => {
                if self.in_doubt.last().map(String::as_str) == closed.strip_prefix('/') {
                    self.in_doubt.pop();
                }
                return true;
            }
        };
        match holds.map(|holds| holds != negated) {
            Some(true) => {}
            Some(false) => self.skipped = Some((kind.to_owned(), 1)),
            None => self.in_doubt.push(kind.to_owned()),
        }
        true
    }
}

/// Name of ours for a loaded module, which goes by two: `mod_ssl.c` and `ssl_module`.
fn module(name: &str) -> String {
    let bare = name.strip_prefix("mod_").and_then(|name| name.strip_suffix(".c")).or(name.strip_suffix("_module")).unwrap_or(name);
    format!("module {bare}")
}

fn environment(text: &str, env: &mut Env, say: &mut Say<'_>) {
    environment::parse(text, env, say);
    // `httpd -D NAME`
    for name in ["APACHE_ARGUMENTS", "OPTIONS"] {
        let arguments: Vec<String> = environment::get(env, name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        for (at, word) in arguments.iter().enumerate() {
            let name = word.strip_prefix("-D").map(|name| if name.is_empty() { arguments.get(at + 1).map_or("", String::as_str) } else { name });
            name.into_iter().for_each(|name| env.set(name, "", 0));
        }
    }
}

/// What `Define` set comes before the environment.
fn expand(text: &str, env: &Env) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        out.push_str(before);
        out.push_str(env.get(name).or_else(|| environment::get(env, name))?);
        if out.len() > TEXT_BYTES_MAX {
            return None;
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn directive(name: &str, values: &[String], line: u32, env: &mut Env, say: &mut Say<'_>) {
    let [value, rest @ ..] = values else { return };
    let root = env.get(SERVER_ROOT).unwrap_or_else(|| directory(&env.main)).to_owned();
    match (name, rest) {
        ("define", rest) => return env.set(value, rest.first().map_or("", String::as_str), line),
        ("undefine", _) => return env.unset(value),
        ("serverroot", _) => return env.set(SERVER_ROOT, value, line),
        ("loadmodule", _) => return env.set(&module(value), "", line),
        ("include" | "includeoptional", _) => return say(env, Said::Include(Env::join(&root, value), parse)),
        _ => {}
    }
    let Some(what) = what(name) else { return };
    // The kind of file, or the name of an organisation, stands before some.
    let value = if name.starts_with("ldaptrusted") { rest.first().unwrap_or(value) } else { value };
    let said = match value.split_once(':') {
        Some((scheme @ ("pkcs11" | "store" | "engine"), _)) => Said::Unknown(line, format!("names a key that is not in a file ({scheme}:)")),
        _ => env.name(Env::join(&root, value), what, env.get(DOUBT).is_none(), line),
    };
    say(env, said);
}

fn what(name: &str) -> Option<What> {
    Some(match name {
        "sslcertificatefile" | "sslcertificatechainfile" | "mdcertificatefile" | "gnutlscertificatefile" => What::Certificate,
        "sslproxymachinecertificatefile" | "sslproxymachinecertificatepath" | "sslproxymachinecertificatechainfile" => What::Certificate,
        "mellonspcertfile" | "ldaptrustedclientcert" => What::Certificate,
        "sslcertificatekeyfile" | "mdcertificatekeyfile" | "gnutlskeyfile" | "mellonspprivatekeyfile" => What::Key,
        "sslcacertificatefile" | "sslcacertificatepath" | "sslcadnrequestfile" | "sslcadnrequestpath" | "gnutlsclientcafile" => What::Authorities,
        "sslproxycacertificatefile" | "sslproxycacertificatepath" | "sslocspresponsecertificatefile" | "ldaptrustedglobalcert" => What::Authorities,
        "sslcarevocationfile" | "sslcarevocationpath" | "sslproxycarevocationfile" | "sslproxycarevocationpath" => What::Revocations,
        "sslsessionticketkeyfile" => What::Other,
        _ => return None,
    })
}
