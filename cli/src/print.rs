//! Answers as tables for people, and failures with their exit codes. What hosts and certificates supply is stripped of
//! control characters before it reaches a terminal.

use std::process::ExitCode;

use keyvigil_common::client::ClientError;
use keyvigil_common::process::{EXIT_PERMISSION, EXIT_UNREACHABLE, say};
use serde_json::Value;

/// A command that failed: exit code and words.
#[derive(Debug)]
pub(crate) struct Failed {
    code: u8,
    text: String,
}

impl Failed {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Prints it and gives the exit code.
    #[expect(clippy::print_stderr, reason = "the answer to who typed the command")]
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("{}", self.text);
        ExitCode::from(self.code)
    }
}

/// What a call's failure is to a script.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
pub(crate) fn failed(error: ClientError) -> Failed {
    let code = match &error {
        ClientError::Unreachable(..) => EXIT_UNREACHABLE,
        ClientError::Address(..) | ClientError::Authority(_) => 2,
        ClientError::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => EXIT_PERMISSION,
        ClientError::Refused { status, .. } if status.as_u16() == 400 => 2,
        _ => 1,
    };
    let hint = match code {
        EXIT_UNREACHABLE if error.to_string().contains("UnknownIssuer") => {
            "\nIts certificate is of a CA that this host does not know: --ca-file names the file (`pki/ca.pem` in the aggregator's directory)."
        }
        EXIT_UNREACHABLE => "\nIs it running? `keyvigil up` starts one; --url names another.",
        EXIT_PERMISSION => "\n--token-file names the file: as root, /var/lib/keyvigil/aggregator/admin.token on the aggregator's host.",
        _ => "",
    };
    Failed::new(code, format!("{error}{hint}"))
}

/// Prints rows under a head like [`table`], the first column cut so that all fit into the terminal.
pub(crate) fn fitted(head: &[&str], mut rows: Vec<Vec<String>>) {
    const LEAST: usize = 16;
    let column = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).chain([head[at].len()]).max().unwrap_or(0);
    let others: usize = (1..head.len()).map(|at| column(at) + 2).sum();
    let room = width().saturating_sub(others).max(LEAST);
    for name in rows.iter_mut().filter_map(|row| row.first_mut()) {
        *name = if name.starts_with('/') { tail(name, room) } else { short(name, room) };
    }
    table(head, &rows);
}

/// The end of a path, which tells it from its neighbours.
fn tail(path: &str, width: usize) -> String {
    let length = path.chars().count();
    if length <= width { path.to_owned() } else { format!("…{}", path.chars().skip(length - width.saturating_sub(1)).collect::<String>()) }
}

/// Prints rows under a head, columns as wide as they need.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let last = cells.len().saturating_sub(1);
        let padded = cells.iter().zip(&widths).enumerate().map(|(at, (cell, width))| if at == last { (*cell).to_owned() } else { format!("{cell:<width$}") });
        say(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Columns of the terminal; where there is none, of a page that is 100 wide. `COLUMNS` says otherwise.
fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    told.or_else(terminal).filter(|columns| *columns > 0).unwrap_or(100)
}

/// A value as a cell; what is not known is `-`.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

/// Text without control characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The text, cut to `width` characters.
pub(crate) fn short(text: &str, width: usize) -> String {
    let clean = clean(text);
    if clean.chars().count() <= width { clean } else { format!("{}…", clean.chars().take(width.saturating_sub(1)).collect::<String>()) }
}

/// An instant in UTC.
pub(crate) fn time(value: &Value) -> String {
    let stamp = value.as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "-".into(), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// How far an instant lies from `now_ms`: `in 12 d`, `3 h ago`.
pub(crate) fn relative(value: &Value, now_ms: i64) -> String {
    let Some(at) = value.as_i64() else { return "-".into() };
    let (seconds, future) = ((at - now_ms).abs() / 1_000, at >= now_ms);
    let units = [(86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (size, name) = units.into_iter().find(|(size, _)| seconds >= *size * 2).unwrap_or((1, "s"));
    if future { format!("in {} {name}", seconds / size) } else { format!("{} {name} ago", seconds / size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_certificate_says_cannot_steer_the_terminal() {
        assert_eq!(cell(&json!("CN=\u{1b}[2Jevil\n")), "CN=?[2Jevil?");
        assert_eq!((short("abcdef", 4).as_str(), cell(&json!(null)).as_str()), ("abc…", "-"));
    }

    #[test]
    fn of_a_path_the_end_is_kept() {
        assert_eq!((tail("/etc/ssl/private/shop.key", 12).as_str(), tail("/a", 12).as_str()), ("…te/shop.key", "/a"));
    }

    #[test]
    fn times_are_relative_in_the_unit_that_fits() {
        let now = 1_763_838_000_000;
        for (at, text) in [(now + 12 * 86_400_000, "in 12 d"), (now - 3 * 3_600_000, "3 h ago"), (now, "in 0 s"), (now - 61_000, "61 s ago")] {
            assert_eq!(relative(&json!(at), now), text);
        }
        assert_eq!(relative(&json!(null), now), "-");
    }
}
