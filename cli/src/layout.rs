//! Tables and paragraphs in the width there is: that of the terminal; piped, a table is as wide as it needs, for what reads
//! it has no edge, and a paragraph is 100 wide. `COLUMNS` says otherwise. Widths are those of the terminal's cells.

use keyvigil_common::process::say;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Of a paragraph, and of a page without an edge.
const PAGE: usize = 100;
/// Narrower than this nothing can be read.
const NARROWEST: usize = 40;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    /// What it may be cut to, where there is no room.
    least: Option<usize>,
    /// Of a path the end is kept, which tells it from its neighbours.
    is_path: bool,
    /// What does not fit goes on below, instead of being cut; of the last column.
    wraps: bool,
    /// It goes where there is still no room; those with the highest first.
    goes: u8,
}

impl Column {
    /// One that is always shown whole.
    pub(crate) const fn whole(head: &'static str) -> Self {
        Self { head, least: None, is_path: false, wraps: false, goes: 0 }
    }

    /// One that may be cut.
    pub(crate) const fn cut(head: &'static str, least: usize) -> Self {
        Self { head, least: Some(least), is_path: false, wraps: false, goes: 0 }
    }

    /// One of names that may be paths.
    pub(crate) const fn path(head: &'static str, least: usize) -> Self {
        Self { head, least: Some(least), is_path: true, wraps: false, goes: 0 }
    }

    /// One of sentences, the last of a table: they are broken into lines that are at least so wide.
    pub(crate) const fn sentences(head: &'static str, least: usize) -> Self {
        Self { head, least: Some(least), is_path: false, wraps: true, goes: 0 }
    }

    /// It may go altogether.
    pub(crate) const fn goes(mut self, order: u8) -> Self {
        self.goes = order;
        self
    }
}

/// Prints rows under a head, columns as wide as they need.
pub(crate) fn table(heads: &[&'static str], rows: &[Vec<String>]) {
    let columns: Vec<Column> = heads.iter().map(|head| Column::whole(head)).collect();
    put(&lines(&columns, rows, usize::MAX));
}

/// Prints rows under a head so that they fit, as far as their columns allow it.
pub(crate) fn fitted(columns: &[Column], rows: &[Vec<String>]) {
    put(&lines(columns, rows, edge().unwrap_or(usize::MAX)));
}

/// A text in lines; commands in backticks are not broken, so that they can be copied.
pub(crate) fn paragraph(first: &str, indent: usize, text: &str) {
    put(&wrapped(first, indent, text, edge().unwrap_or(PAGE)));
}

fn put(lines: &[String]) {
    for line in lines {
        say(line);
    }
}

/// Whether there is an edge: what has none is read by programs.
pub(crate) fn has_edge() -> bool {
    edge().is_some()
}

/// Where lines end: as `COLUMNS` says, or at the edge of the terminal, if it is one.
fn edge() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    told.or_else(terminal).filter(|columns| *columns > 0).map(|columns| columns.max(NARROWEST))
}

fn lines(columns: &[Column], rows: &[Vec<String>], room: usize) -> Vec<String> {
    let natural: Vec<usize> = (0..columns.len())
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).chain([columns[at].head.width()]).max().unwrap_or(0))
        .collect();
    let widths = widths(columns, &natural, room);
    let shown: Vec<usize> = (0..columns.len()).filter(|at| widths[*at].is_some()).collect();
    let line = |row: &dyn Fn(usize) -> String| {
        let mut first = Vec::new();
        for at in &shown {
            let (text, width) = (row(*at), widths[*at].unwrap_or(0));
            let cut = if columns[*at].is_path && text.starts_with('/') { tail } else { head };
            if columns[*at].wraps {
                let before: String = first.iter().map(|cell| format!("{cell}  ")).collect();
                return wrapped(&before, before.width(), &text, before.width().saturating_add(width));
            }
            let text = if text.width() <= width { text } else { cut(&text, width) };
            first.push(format!("{text}{}", " ".repeat(width.saturating_sub(text.width()))));
        }
        vec![first.join("  ")]
    };
    let mut out = line(&|at| columns[at].head.to_owned());
    out.extend(rows.iter().flat_map(|row| line(&|at| row.get(at).cloned().unwrap_or_default())));
    out.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Widths of the columns that are shown.
fn widths(columns: &[Column], natural: &[usize], room: usize) -> Vec<Option<usize>> {
    let least = |at: usize| columns[at].least.map_or(natural[at], |least| least.min(natural[at]));
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let sum = |shown: &[usize]| shown.iter().map(|at| least(*at) + 2).sum::<usize>().saturating_sub(2);
    while sum(&shown) > room
        && let Some(first) = shown.iter().copied().filter(|at| columns[*at].goes > 0).max_by_key(|at| columns[*at].goes)
    {
        shown.retain(|at| *at != first);
    }
    let mut widths = vec![None; columns.len()];
    shown.iter().for_each(|at| widths[*at] = Some(least(*at)));
    // What is left goes to whoever lacks most.
    let mut left = room.saturating_sub(sum(&shown));
    let lacks = |at: usize, widths: &[Option<usize>]| natural[at] - widths[at].unwrap_or(natural[at]);
    while left > 0
        && let Some(at) = shown.iter().copied().max_by_key(|at| lacks(*at, &widths)).filter(|at| lacks(*at, &widths) > 0)
    {
        widths[at] = widths[at].map(|width| width + 1);
        left -= 1;
    }
    widths
}

/// The beginning of a text.
pub(crate) fn head(text: &str, width: usize) -> String {
    if text.width() <= width { text.to_owned() } else { format!("{}…", fitting(text.chars(), width.saturating_sub(1)).into_iter().collect::<String>()) }
}

/// The end of a path.
fn tail(path: &str, width: usize) -> String {
    let end = fitting(path.chars().rev(), width.saturating_sub(1));
    format!("…{}", end.into_iter().rev().collect::<String>())
}

/// As many characters as there is room for.
fn fitting(chars: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    chars.take_while(fits).collect()
}

fn wrapped(first: &str, indent: usize, text: &str, room: usize) -> Vec<String> {
    let (mut out, mut line, mut is_new) = (Vec::new(), first.to_owned(), true);
    for word in words(text) {
        if !is_new && line.width() + 1 + word.width() > room {
            out.push(std::mem::replace(&mut line, " ".repeat(indent)));
            is_new = true;
        }
        if !is_new {
            line.push(' ');
        }
        line.push_str(word);
        is_new = false;
    }
    out.push(line);
    out
}

/// Words of a text; a command in backticks is one.
fn words(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted,
            ' ' if !quoted => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out.retain(|word| !word.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[Column::path("NAME", 10), Column::whole("KIND").goes(2), Column::whole("ENDS"), Column::cut("HOST", 6).goes(1)];

    fn row(name: &str, host: &str) -> Vec<String> {
        vec![name.to_owned(), "private key".to_owned(), "in 30 d".to_owned(), host.to_owned()]
    }

    #[test]
    fn a_table_takes_the_room_there_is_and_gives_up_what_matters_least() {
        let rows = [row("/etc/ssl/private/shop.key", "web-1.example.org"), row("漢字漢字漢字漢字漢字漢字", "w")];
        let at = |room: usize| {
            let lines = lines(COLUMNS, &rows, room);
            lines.iter().for_each(|line| assert!(line.width() <= room, "{room}: {line:?}"));
            lines
        };
        assert!(at(usize::MAX)[1].ends_with("/etc/ssl/private/shop.key  private key  in 30 d  web-1.example.org"), "{:?}", at(usize::MAX));
        let narrow = at(50);
        assert!(narrow[1].starts_with("…private/shop.key  priv") && narrow[1].ends_with('…'), "{narrow:?}");
        assert!(narrow[2].starts_with("漢字漢字漢字漢字…  priv"), "{narrow:?}");
        assert_eq!(at(30)[0], "NAME           ENDS     HOST");
        assert_eq!(at(20)[0], "NAME         ENDS");
    }

    #[test]
    fn sentences_go_on_below_and_lose_no_word() {
        const EVENTS: &[Column] = &[Column::whole("TIME"), Column::cut("HOST", 6), Column::sentences("WHAT", 20)];
        let what = "the keystore sensor cannot see /etc/ssl/private: Permission denied";
        let rows = [vec!["10:00:00Z".to_owned(), "web-1".to_owned(), what.to_owned()], vec!["2026-11-22".to_owned()]];
        let told = lines(EVENTS, &rows, 50);
        assert!(told.iter().all(|line| line.width() <= 50), "{told:?}");
        assert_eq!(told[1..3], ["10:00:00Z   web-1  the keystore sensor cannot see", "                   /etc/ssl/private: Permission"], "{told:?}");
        assert_eq!(told.last().map(String::as_str), Some("2026-11-22"));
        assert_eq!(told[1..4].join(" ").split_whitespace().skip(2).collect::<Vec<_>>().join(" "), what);
        assert!(lines(EVENTS, &rows, usize::MAX)[1].ends_with(what), "one line where there is no edge");
    }

    #[test]
    fn text_is_broken_between_words_and_a_command_is_not() {
        let lines = wrapped("! ", 2, "Run it now: `chmod o-rwx '/srv/a key'`. Then replace it.", 24);
        assert_eq!(lines, ["! Run it now:", "  `chmod o-rwx '/srv/a key'`.", "  Then replace it."]);
        assert_eq!(wrapped("", 0, "an odd ` stays", 80), ["an odd ` stays"]);
    }
}
