//! One part of a configured path with what shells know: `*`, `?`, `[a-z]`, `[!a]`, `{a,b}`, and a backslash that takes a
//! character's meaning away. Pure. Called by `pattern`.

/// Alternatives that braces of one part may stand for; more are left out.
const ALTERNATIVES_MAX: usize = 64;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// One of these names.
    Names(Vec<String>),
    /// A name that one of these fits.
    Globs(Vec<Glob>),
    /// `**`: any number of directories, none included.
    Deep,
}

/// A form that names have or do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Any,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    pub(super) fn new(text: &str) -> Self {
        if text == "**" {
            return Self::Deep;
        }
        let globs: Vec<Glob> = braces(text).iter().map(|text| Glob::new(text)).collect();
        match globs.iter().map(Glob::name).collect() {
            Some(names) => Self::Names(names),
            None => Self::Globs(globs),
        }
    }

    /// Whether a name fits.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|one| one == name),
            Self::Globs(globs) => globs.iter().any(|glob| glob.matches(name)),
            Self::Deep => true,
        }
    }

    /// Whether it asks for names that begin with a dot by saying so.
    pub(super) fn asks_for_hidden(&self) -> bool {
        matches!(self, Self::Globs(globs) if globs.iter().any(|glob| glob.0.first() == Some(&Token::Char('.'))))
    }
}

impl Glob {
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => Token::Char(rest.next().unwrap_or('\\')),
                '[' => match class(rest.as_str()) {
                    Some((class, after)) => {
                        rest = after.chars();
                        class
                    }
                    None => Token::Char('['),
                },
                c => Token::Char(c),
            });
        }
        Self(tokens)
    }

    /// The one name that fits, where there is only one.
    fn name(&self) -> Option<String> {
        self.0.iter().map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect()
    }

    /// Goes back to the latest `*` only: an earlier one could not do better.
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut at, mut star) = (0, 0, None);
        loop {
            match (self.0.get(token), name.get(at)) {
                (None, None) => return true,
                (Some(Token::Any), _) => {
                    star = Some((token, at));
                    token += 1;
                    continue;
                }
                (Some(one), Some(c)) if one.fits(*c) => {
                    (token, at) = (token + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            match star {
                Some((token_of, from)) if from < name.len() => {
                    star = Some((token_of, from + 1));
                    (token, at) = (token_of + 1, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Char(one) => *one == c,
            Self::One => true,
            Self::Any => false,
            Self::Class { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// The class that begins behind `[`, and what follows its `]`.
fn class(text: &str) -> Option<(Token, &str)> {
    let (negated, inner) = text.strip_prefix(['!', '^']).map_or((false, text), |inner| (true, inner));
    // A bracket that stands first is a member.
    let end = inner.char_indices().skip(1).find(|(_, c)| *c == ']')?.0;
    let members: Vec<char> = inner[..end].chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        let is_range = members.get(at + 1) == Some(&'-') && at + 2 < members.len();
        let to = if is_range { members[at + 2] } else { members[at] };
        ranges.push((members[at], to));
        at += if is_range { 3 } else { 1 };
    }
    Some((Token::Class { negated, ranges }, &inner[end + 1..]))
}

/// What the first braces stand for, and those behind them.
fn braces(text: &str) -> Vec<String> {
    let whole = || vec![text.to_owned()];
    let Some(open) = find(text, '{') else { return whole() };
    let Some(close) = find(&text[open..], '}').map(|at| open + at) else { return whole() };
    let (before, inner, after) = (&text[..open], &text[open + 1..close], &text[close + 1..]);
    let after = braces(after);
    let each = inner.split(',').flat_map(|one| after.iter().map(move |after| format!("{before}{one}{after}")));
    each.take(ALTERNATIVES_MAX).collect()
}

/// Where a character stands that no backslash precedes.
fn find(text: &str, wanted: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let is_it = c == wanted && !escaped;
        escaped = c == '\\' && !escaped;
        is_it.then_some(at)
    })
}

/// `text` as a pattern that only it fits.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | '{' | '}' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_they_do_in_a_shell() {
        let yes = [("*", ""), ("*", "bob"), ("*.pem", "a.pem"), ("a*b*c", "a1b2c"), ("host_*_key", "host_rsa_key"), ("a", "a"), ("*a*a", "aXa")];
        let more =
            [("?.pem", "a.pem"), ("[a-c]x", "bx"), ("[!a-c]x", "dx"), ("[]x]", "]"), ("*.{crt,key}", "a.key"), ("{a,b}{c,d}", "bd"), ("[", "["), (r"\*", "*")];
        let no = [("*.pem", "a.pem.old"), ("a*b", "ab1"), ("a*a", "a"), ("a", "b"), ("a*b*c", "acb"), ("?", ""), ("?", "ab"), ("[a-c]", "d"), (r"\*", "a")];
        yes.iter().chain(&more).for_each(|(glob, name)| assert!(Part::new(glob).matches(name), "{glob} {name}"));
        no.iter().for_each(|(glob, name)| assert!(!Part::new(glob).matches(name), "{glob} {name}"));
        assert_eq!(Part::new("{ssl,tls}"), Part::Names(vec!["ssl".into(), "tls".into()]), "nothing has to be listed for that");
        assert_eq!(Part::new("{ssl"), Part::Names(vec!["{ssl".into()]));
    }

    #[test]
    fn an_escaped_name_is_itself() {
        for name in ["*", "[a]", r"a\b", "{a,b}", "plain.pem", "?"] {
            assert_eq!(Part::new(&escape(name)), Part::Names(vec![name.to_owned()]));
        }
    }

    #[test]
    fn a_hostile_glob_takes_no_time() {
        let glob = format!("{}b", "*a".repeat(200));
        assert!(!Part::new(&glob).matches(&"a".repeat(4_000)));
        assert!(matches!(Part::new(&"{a,b}".repeat(40)), Part::Names(names) if names.len() <= ALTERNATIVES_MAX));
    }
}
