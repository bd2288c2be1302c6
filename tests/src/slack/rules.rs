//! What Slack refuses, from its published reference of blocks, composition objects and incoming webhooks. Written apart from
//! the code under test, so that a limit that is wrong there is not wrong here too.

use serde_json::Value;

/// Total over all text of the blocks at which messages fail in practice.
const ALL_TEXT_CHARS_MAX: usize = 13_000;

/// Whether Slack would take `message`, which had `bytes` on the wire.
///
/// # Errors
/// The word that Slack answers with, and why.
pub fn check(message: &Value, bytes: usize) -> Result<(), String> {
    let fault = |why: &str| Err(format!("invalid_payload: {why}"));
    if !message.is_object() || bytes > 100_000 {
        return fault("no object, or too large");
    }
    let text = message["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return Err("no_text: the fallback is missing".to_owned());
    }
    mrkdwn(text, 3_000)?;
    let Some(blocks) = message["blocks"].as_array() else { return fault("blocks is no list") };
    if blocks.is_empty() || blocks.len() > 50 {
        return Err(format!("invalid_blocks: {} blocks", blocks.len()));
    }
    blocks.iter().try_for_each(block)?;
    let all: usize = blocks.iter().map(text_chars).sum();
    if all > ALL_TEXT_CHARS_MAX { Err(format!("invalid_blocks: {all} characters")) } else { Ok(()) }
}

fn block(block: &Value) -> Result<(), String> {
    match block["type"].as_str() {
        Some("header") => match block["text"]["type"].as_str() {
            Some("plain_text") => plain(&block["text"], 150),
            _ => Err("invalid_blocks: a header is plain text".to_owned()),
        },
        Some("section") => section(block),
        Some("actions") => {
            let elements = block["elements"].as_array().filter(|list| (1..=25).contains(&list.len())).ok_or("invalid_blocks: 1 to 25 elements")?;
            elements.iter().try_for_each(button)
        }
        Some("divider") => Ok(()),
        other => Err(format!("invalid_blocks: type {other:?}")),
    }
}

fn section(block: &Value) -> Result<(), String> {
    let (text, fields) = (block.get("text"), block.get("fields").and_then(Value::as_array));
    if text.is_none() && fields.is_none() {
        return Err("invalid_blocks: a section has text or fields".to_owned());
    }
    if let Some(text) = text {
        object(text, 3_000)?;
    }
    match fields {
        Some(fields) if !(1..=10).contains(&fields.len()) => Err(format!("invalid_blocks: {} fields", fields.len())),
        Some(fields) => fields.iter().try_for_each(|field| object(field, 2_000)),
        None => Ok(()),
    }
}

fn button(button: &Value) -> Result<(), String> {
    plain(&button["text"], 75)?;
    let url = button["url"].as_str().unwrap_or_default();
    let known = url.starts_with("https://") || url.starts_with("http://");
    if button["type"] == "button" && known && url.chars().count() <= 3_000 { Ok(()) } else { Err(format!("invalid_blocks: button {button}")) }
}

fn object(text: &Value, chars: usize) -> Result<(), String> {
    match text["type"].as_str() {
        Some("mrkdwn") => mrkdwn(text["text"].as_str().unwrap_or_default(), chars),
        _ => plain(text, chars),
    }
}

fn plain(text: &Value, chars: usize) -> Result<(), String> {
    let count = text["text"].as_str().unwrap_or_default().chars().count();
    if text["type"] == "plain_text" && (1..=chars).contains(&count) { Ok(()) } else { Err(format!("invalid_blocks: plain text of {count} characters")) }
}

/// A text is escaped when every `&` begins one of the three escapes and no `<` or `>` is left.
fn mrkdwn(text: &str, chars: usize) -> Result<(), String> {
    let count = text.chars().count();
    if !(1..=chars).contains(&count) {
        return Err(format!("invalid_blocks: text of {count} characters"));
    }
    let escaped = text.split('&').skip(1).all(|rest| ["amp;", "lt;", "gt;"].iter().any(|escape| rest.starts_with(escape)));
    if escaped && !text.contains(['<', '>']) { Ok(()) } else { Err(format!("invalid_blocks: not escaped: {text}")) }
}

fn text_chars(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(list) => list.iter().map(text_chars).sum(),
        Value::Object(map) => map.values().map(text_chars).sum(),
        _ => 0,
    }
}
