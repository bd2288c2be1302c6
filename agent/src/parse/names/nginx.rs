//! nginx: directives that end in `;`, blocks in braces; relative paths begin where the main file lies
//! (nginx.org/en/docs/http/ngx_http_ssl_module.html). What is named by variables is followed through `map` and `set`
//! once all is read: where they stand does not matter.

mod tokens;

use self::tokens::{Token, Tokens};
use super::{Env, Later, Said, Say, UNKNOWN, VALUES_MAX, What, directory};

/// Setting of ours: the variable of the `map` that is read.
const MAP: &str = "map";
/// Variables within the values of variables.
const DEPTH_MAX: usize = 5;
/// Names with variables that are kept until all is read: more than may be named.
const LATER_MAX: usize = 20_000;

/// Reads the main file, and what it includes.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    part(text, env, say);
    if env.file != env.main {
        return;
    }
    for Later { text, what, file, line } in std::mem::take(&mut env.later) {
        let outer = std::mem::replace(&mut env.file, file);
        let all = values(&text, env, DEPTH_MAX);
        // Of several variables not every value goes with each of the others.
        let must = text.matches('$').count() == 1;
        all.into_iter().for_each(|text| file_or_not(&text, what, must, line, env, say));
        env.file = outer;
    }
}

fn part(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let mut words: Vec<(u32, String)> = Vec::new();
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(line, word) => words.push((line, word)),
            Token::End => directive(&std::mem::take(&mut words), env, say),
            Token::Open => {
                let block = std::mem::take(&mut words);
                let name = block.first().map_or("", |(_, name)| name.as_str());
                let variable = block.last().and_then(|(_, word)| word.strip_prefix('$'));
                match variable.filter(|_| ["map", "geo", "split_clients"].contains(&name)) {
                    Some(variable) => env.set(MAP, variable, 0),
                    // Another language, in which quotes may stand alone.
                    None if name.ends_with("_by_lua_block") => tokens.skip_block(),
                    None => {}
                }
            }
            Token::Close => {
                words.clear();
                env.unset(MAP);
            }
        }
    }
}

fn directive(words: &[(u32, String)], env: &mut Env, say: &mut Say<'_>) {
    let [(_, name), (line, value), rest @ ..] = words else { return };
    let base = directory(&env.main).to_owned();
    if name == "include" {
        return say(env, Said::Include(Env::join(&base, value), part));
    }
    let set = match (env.get(MAP).map(str::to_owned), name.as_str(), value.strip_prefix('$'), rest.first()) {
        (Some(variable), ..) => Some((variable, value)),
        (None, "set", Some(variable), Some((_, value))) => Some((variable.to_owned(), value)),
        _ => None,
    };
    if let Some((variable, value)) = set {
        if !env.choose(&variable, value) {
            say(env, Said::Unknown(*line, format!("gives variables more values than are followed ({VALUES_MAX})")));
        }
        return;
    }
    // Of the server itself, and as the client of another one.
    let of = ["proxy_", "grpc_", "uwsgi_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let what = match of {
        "ssl_certificate" => What::Certificate,
        "ssl_certificate_key" => What::Key,
        "ssl_trusted_certificate" | "ssl_client_certificate" => What::Authorities,
        "ssl_crl" => What::Revocations,
        "ssl_password_file" | "ssl_session_ticket_key" | "quic_host_key" | "auth_jwt_key_file" => What::Other,
        _ => return,
    };
    if value.contains('$') {
        if env.later.len() > LATER_MAX {
            say(env, Said::Unknown(*line, format!("is one of more than {LATER_MAX} names with variables: it is not followed")));
        } else {
            env.later.push(Later { text: value.clone(), what, file: env.file.clone(), line: *line });
        }
        return;
    }
    file_or_not(value, what, true, *line, env, say);
}

fn file_or_not(value: &str, what: What, must: bool, line: u32, env: &mut Env, say: &mut Say<'_>) {
    if value.is_empty() {
        return;
    }
    let said = match value.split_once(':') {
        // The text itself, most often what a variable holds.
        Some(("data", text)) if text.contains("-----BEGIN") => env.name(env.file.clone(), What::Key, false, line),
        Some(("data", _)) => Said::Unknown(line, "names no file but what a variable holds when somebody connects (data:)".into()),
        Some((scheme @ ("engine" | "store"), _)) => Said::Unknown(line, format!("names a key that is not in a file ({scheme}:)")),
        _ if value.starts_with(UNKNOWN) => Said::Unknown(line, "names a file by a variable of which nothing is known before somebody connects".into()),
        _ => env.name(Env::join(directory(&env.main), value), what, must, line),
    };
    say(env, said);
}

/// What may come of a text with variables: each value of those that are known, and [`UNKNOWN`] for the others.
fn values(text: &str, env: &Env, depth: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
            None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
        };
        let known: Vec<String> = match (env.choices.get(name), depth.checked_sub(1)) {
            (Some(known), Some(depth)) => known.iter().flat_map(|value| values(value, env, depth)).take(VALUES_MAX).collect(),
            _ => vec![UNKNOWN.to_string()],
        };
        let each = all.iter().flat_map(|begun| known.iter().map(move |value| format!("{begun}{before}{value}")));
        all = each.filter(|text| text.len() <= keyvigil_common::limits::TEXT_BYTES_MAX).take(VALUES_MAX).collect();
        rest = after;
    }
    all.iter_mut().for_each(|text| text.push_str(rest));
    all
}
