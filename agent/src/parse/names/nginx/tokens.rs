//! The words of an nginx configuration. Called by its neighbour.

pub(super) enum Token {
    Word(u32, String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

pub(super) struct Tokens<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), line: 1 }
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.line += u32::from(c == '\n');
        Some(c)
    }

    /// Up to the brace that ends the block which has just begun.
    pub(super) fn skip_block(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next_char() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
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
            '{' => return Some(Token::Open),
            '}' => return Some(Token::Close),
            _ => {}
        }
        let mut word = String::new();
        if matches!(first, '"' | '\'') {
            while let Some(c) = self.next_char().filter(|c| *c != first) {
                if c == '\\' { self.escaped(&mut word) } else { word.push(c) }
            }
            return Some(Token::Word(line, word));
        }
        let mut c = first;
        loop {
            match c {
                '\\' => self.escaped(&mut word),
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
            if self.chars.peek().is_none_or(|next| next.is_whitespace() || matches!(next, ';' | '{')) {
                return Some(Token::Word(line, word));
            }
            let Some(next) = self.next_char() else { return Some(Token::Word(line, word)) };
            c = next;
        }
    }
}

impl Tokens<'_> {
    /// Takes the character behind a backslash, which stays where it takes no meaning away.
    fn escaped(&mut self, word: &mut String) {
        match self.next_char() {
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some('n') => word.push('\n'),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some(c) => word.extend(['\\', c]),
            None => {}
        }
    }
}
