//! What the forms of configuration files have in common: lines that go on, quotes, comments. Called by its neighbours.

/// Lines with their numbers, where one that ends in a backslash goes on in the next.
pub(super) fn logical_lines(text: &str) -> impl Iterator<Item = (u32, String)> {
    let mut lines = (1..).zip(text.lines());
    std::iter::from_fn(move || {
        let (number, first) = lines.next()?;
        let mut whole = first.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next);
        }
        Some((number, whole))
    })
}

/// The words of a line: separated by blanks, with quotes and backslashes as shells read them, up to a `#` that begins one.
pub(super) fn words(line: &str) -> Vec<String> {
    words_until(line, false)
}

/// The same, where a `#` within a word ends the line as well.
pub(super) fn words_up_to_hash(line: &str) -> Vec<String> {
    words_until(line, true)
}

fn words_until(line: &str, any_hash: bool) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if any_hash || word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `value` without the quotes around it.
pub(super) fn unquote(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}
