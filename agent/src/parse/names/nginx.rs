//! nginx: directives that end in `;`, blocks in braces; relative paths begin where the main file lies
//! (nginx.org/en/docs/http/ngx_http_ssl_module.html).

use super::{Env, Said, Say, What, directory, escape};

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    let mut words: Vec<(u32, String)> = Vec::new();
    for token in (Tokens { chars: text.chars().peekable(), line: 1 }) {
        match token {
            Token::Word(line, word) => words.push((line, word)),
            Token::End => directive(&std::mem::take(&mut words), env, say),
            Token::Block => words.clear(),
        }
    }
}

fn directive(words: &[(u32, String)], env: &mut Env, say: &mut Say<'_>) {
    let [(_, name), (line, value), ..] = words else { return };
    let base = directory(&env.main).to_owned();
    if name == "include" {
        return say(env, Said::Include(Env::join(&base, value), parse));
    }
    // Of the server itself, and as the client of another one.
    let of = ["proxy_", "grpc_", "uwsgi_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let what = match of {
        "ssl_certificate" => What::Certificate,
        "ssl_certificate_key" => What::Key,
        "ssl_trusted_certificate" | "ssl_client_certificate" => What::Authorities,
        "ssl_crl" => What::Revocations,
        "ssl_password_file" | "ssl_session_ticket_key" => What::Other,
        _ => return,
    };
    // An engine, a store, or the key itself.
    if value.is_empty() || ["engine:", "data:", "store:"].iter().any(|scheme| value.starts_with(scheme)) {
        return;
    }
    let path = Env::join(&base, value);
    let said = if path.contains('$') { env.pattern(with_stars(&path), what, *line) } else { env.name(path, what, true, *line) };
    say(env, said);
}

/// Variables are known only when somebody connects: any name may stand there.
fn with_stars(path: &str) -> String {
    let mut out = String::new();
    let mut pieces = path.split('$');
    out.push_str(&escape(pieces.next().unwrap_or_default()));
    for piece in pieces {
        let rest = match piece.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(_, rest)| rest),
            None => piece.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'),
        };
        out.push('*');
        out.push_str(&escape(rest));
    }
    out
}

enum Token {
    Word(u32, String),
    /// `;`
    End,
    /// `{` or `}`
    Block,
}

struct Tokens<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
}

impl Tokens<'_> {
    fn next_char(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.line += u32::from(c == '\n');
        Some(c)
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let first = loop {
            match self.next_char()? {
                '#' => while self.next_char()? != '\n' {},
                c if c.is_whitespace() => {}
                c => break c,
            }
        };
        let line = self.line;
        match first {
            ';' => return Some(Token::End),
            '{' | '}' => return Some(Token::Block),
            _ => {}
        }
        let mut word = String::new();
        if matches!(first, '"' | '\'') {
            while let Some(c) = self.next_char().filter(|c| *c != first) {
                if c == '\\' { word.extend(self.next_char()) } else { word.push(c) }
            }
            return Some(Token::Word(line, word));
        }
        let mut c = first;
        loop {
            match c {
                '\\' => word.extend(self.next_char()),
                // `${name}` is part of a word.
                '$' if self.chars.peek() == Some(&'{') => {
                    word.push(c);
                    while let Some(inner) = self.next_char() {
                        word.push(inner);
                        if inner == '}' {
                            break;
                        }
                    }
                }
                c => word.push(c),
            }
            if self.chars.peek().is_none_or(|next| next.is_whitespace() || matches!(next, ';' | '{' | '}')) {
                return Some(Token::Word(line, word));
            }
            let Some(next) = self.next_char() else { return Some(Token::Word(line, word)) };
            c = next;
        }
    }
}
