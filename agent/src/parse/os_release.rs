//! `/etc/os-release`: shell-like assignments that name the operating system (man 5 os-release). Knows nothing of where the
//! file lies; called by `collect/facts.rs`.

/// The operating system as its makers write it for people: `PRETTY_NAME`, else `NAME` and `VERSION_ID`.
#[must_use]
pub fn pretty_name(text: &str) -> Option<String> {
    let value = |name: &str| {
        let found = text.lines().filter_map(|line| line.trim().split_once('=')).rfind(|(n, _)| *n == name);
        found.map(|(_, value)| unquote(value)).filter(|value| !value.is_empty())
    };
    value("PRETTY_NAME").or_else(|| {
        let name = value("NAME")?;
        Some(value("VERSION_ID").map_or_else(|| name.clone(), |version| format!("{name} {version}")))
    })
}

/// Takes off the quotes, and in double quotes the backslash before a character that the shell would read.
fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next_if(|next| "\"$`\\".contains(*next)) } else { None };
        out.push(escaped.unwrap_or(c));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_for_people_is_taken_without_its_quotes() {
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"A \\\"b\\\" \\$1 12\"\n").as_deref(), Some("A \"b\" $1 12"));
        assert_eq!(pretty_name("# c\nNAME='Alp ine'\nVERSION_ID=3.20\n").as_deref(), Some("Alp ine 3.20"));
        assert_eq!(pretty_name("NAME=Arch\nPRETTY_NAME=\"\"").as_deref(), Some("Arch"));
        assert_eq!(pretty_name("ID=x\n=\n\""), None);
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(text in "(PRETTY_NAME|NAME|VERSION_ID|\\PC){0,3}=?[\"'\\\\$a-z\\n]{0,40}") {
            let _ = pretty_name(&text);
        }
    }
}
