//! Values as words for people, and failures with their exit codes. What hosts and certificates supply is stripped of control
//! characters before it reaches a terminal.

use std::process::ExitCode;

use keyvigil_common::client::ClientError;
use keyvigil_common::clock::utc;
use keyvigil_common::process::{EXIT_PERMISSION, EXIT_UNREACHABLE};
use serde_json::Value;

use crate::layout::head;

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

    /// With more to say.
    pub(crate) fn and(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
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

/// A value as a cell; what is not known is `-`.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

/// Text without control characters, and without those that change how others are shown.
pub(crate) fn clean(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    text.chars().map(|c| if steers(c) { '?' } else { c }).collect()
}

/// The text, cut to `width` columns.
pub(crate) fn short(text: &str, width: usize) -> String {
    head(&clean(text), width)
}

/// An instant in UTC.
pub(crate) fn time(value: &Value) -> String {
    value.as_i64().and_then(utc).map_or_else(|| "-".into(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// How far an instant lies from `now_ms`: `in 12 d`, `3 h ago`.
pub(crate) fn relative(value: &Value, now_ms: i64) -> String {
    let Some(at) = value.as_i64() else { return "-".into() };
    let (seconds, future) = (at.abs_diff(now_ms) / 1_000, at >= now_ms);
    let units = [(31_556_952, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (size, name) = units.into_iter().find(|(size, _)| seconds >= *size * 2).unwrap_or((1, "s"));
    if future { format!("in {} {name}", seconds / size) } else { format!("{} {name} ago", seconds / size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_certificate_says_cannot_steer_the_terminal() {
        assert_eq!(cell(&json!("CN=\u{1b}[2Jevil\n\u{202e}gpj.exe")), "CN=?[2Jevil??gpj.exe");
        assert_eq!((short("abcdef", 4).as_str(), cell(&json!(null)).as_str()), ("abc…", "-"));
    }

    #[test]
    fn times_are_relative_in_the_unit_that_fits() {
        let now = 1_763_838_000_000;
        for (at, text) in [(now + 12 * 86_400_000, "in 12 d"), (now - 3 * 3_600_000, "3 h ago"), (now, "in 0 s"), (now - 61_000, "61 s ago")] {
            assert_eq!(relative(&json!(at), now), text);
        }
        assert_eq!(relative(&json!(null), now), "-");
        assert_eq!(relative(&json!(i64::MIN), now), "292277080 y ago", "whatever a host says, nothing overflows");
        assert_eq!((time(&json!(253_402_300_799_000_i64)).as_str(), time(&json!(i64::MAX)).as_str()), ("9999-12-31 23:59:59Z", "-"));
    }
}
