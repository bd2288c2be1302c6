//! A notification as a Block Kit message within Slack's limits, which cut a message or refuse it. Texts of rules and tags are
//! escaped, so that they can neither mention a channel nor hide a link. Pure; used by `slack.rs` only.
//! Source of the limits: Slack, "Reference: blocks" and "Formatting text for app surfaces".

use serde_json::{Value, json};

use super::super::wording::{Wording, shorten};
use super::super::{Kind, Notification};
use crate::alert::Priority;

const TEXT_CHARS_MAX: usize = 3_000;
const HEADER_CHARS_MAX: usize = 150;
const FIELDS_MAX: usize = 10;
const FIELD_CHARS_MAX: usize = 2_000;
const URL_CHARS_MAX: usize = 3_000;

/// The body of the request.
pub(super) fn payload(words: &Wording, notification: &Notification) -> Value {
    let headline = format!("{} {}: {}", sign(notification), words.label, words.title);
    let fields = words.facts.iter().take(FIELDS_MAX).map(|(name, value)| {
        let field = format!("*{name}*\n");
        let room = FIELD_CHARS_MAX - field.chars().count();
        json!({"type": "mrkdwn", "text": format!("{field}{}", escape(value, room))})
    });
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": shorten(&headline, HEADER_CHARS_MAX), "emoji": false}}),
        json!({"type": "section", "text": {"type": "mrkdwn", "text": escape(&words.sentence, TEXT_CHARS_MAX)}}),
        json!({"type": "section", "fields": fields.collect::<Vec<_>>()}),
    ];
    let buttons: Vec<Value> = words
        .links
        .iter()
        .filter(|(_, address)| address.chars().count() <= URL_CHARS_MAX)
        .map(|(name, address)| json!({"type": "button", "text": {"type": "plain_text", "text": name}, "url": address}))
        .collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    // What a phone shows, and a client that knows no blocks.
    let fallback = escape(&format!("{headline}. {}", words.sentence), TEXT_CHARS_MAX);
    json!({"text": fallback, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// Shape beside the word; colours are not to be had.
fn sign(notification: &Notification) -> char {
    match (notification.transition.kind, notification.alert.priority) {
        (Kind::Resolved | Kind::Withdrawn, _) => '●',
        (Kind::Test, _) => '○',
        (Kind::Acknowledged, _) => '◐',
        (_, Priority::Critical | Priority::High) => '▲',
        _ => '◆',
    }
}

/// Escaped, and cut between characters, never within an escape; at most `chars` characters.
fn escape(text: &str, chars: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut room = chars.saturating_sub(1);
    for c in text.chars() {
        let (escaped, size) = match c {
            '&' => (Some("&amp;"), 5),
            '<' => (Some("&lt;"), 4),
            '>' => (Some("&gt;"), 4),
            _ => (None, 1),
        };
        if size > room {
            out.push('…');
            break;
        }
        room -= size;
        match escaped {
            Some(escaped) => out.push_str(escaped),
            None => out.push(c),
        }
    }
    // Slack refuses an empty text.
    if out.is_empty() { "-".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_before_their_limit_and_never_within_an_escape() {
        assert_eq!(escape("<!channel> & co", 100), "&lt;!channel&gt; &amp; co");
        assert_eq!(escape("aaaa<", 6), "aaaa…");
        assert_eq!(escape("", 10), "-");
        for text in ["<".repeat(5_000), "ü".repeat(5_000), "a".repeat(3_000)] {
            let cut = escape(&text, TEXT_CHARS_MAX);
            assert!(cut.chars().count() <= TEXT_CHARS_MAX && cut.ends_with('…'));
        }
    }
}
