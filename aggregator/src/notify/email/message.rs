//! A notification as a mail: text first, HTML second, no remote content. All mails of one firing are one thread, and the same
//! notification is the same mail however often it is sent. What comes from rules and tags stands in no header unencoded and
//! in no markup unescaped. Pure; used by `email.rs` only.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use keyvigil_common::{hex, sha256};
use lettre::Message;
use lettre::address::Envelope;
use lettre::error::Error;
use lettre::message::header::{Date, HeaderName, HeaderValue, To};
use lettre::message::{Mailbox, Mailboxes, MultiPart};

use super::super::wording::Wording;
use super::super::{Kind, Notification};

/// The mail of `notification` for `recipient`.
pub(super) fn build(words: &Wording, notification: &Notification, from: &Mailbox, everyone: &Mailboxes, recipient: &Mailbox) -> Result<Message, Error> {
    let root = root_id(notification, from);
    let sent = u64::try_from(notification.transition.at_ms).map(Duration::from_millis).unwrap_or_default();
    let mut builder = Message::builder()
        .from(from.clone())
        .mailbox(To::from(everyone.clone()))
        .envelope(Envelope::new(Some(from.email.clone()), vec![recipient.email.clone()])?)
        .header(Date::new(UNIX_EPOCH + sent))
        .subject(format!("[{}] {}", words.label, words.title))
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("X-Keyvigil-Alert", &notification.alert.id));
    builder = match notification.transition.kind {
        Kind::Fired | Kind::Test => builder.message_id(Some(root)),
        _ => builder.message_id(Some(own_id(notification, from))).in_reply_to(root.clone()).references(root),
    };
    builder.multipart(MultiPart::alternative_plain_html(text(words), html(words)))
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.chars().filter(char::is_ascii_graphic).collect())
}

/// Message-ID of the mail that says that the alert fires, whether or not this recipient got it.
fn root_id(notification: &Notification, from: &Mailbox) -> String {
    let begun = notification.alert.fired_at.unwrap_or(notification.transition.at_ms);
    message_id(&format!("{}/{}/{begun}", notification.alert.rule_id, notification.alert.id), from)
}

fn own_id(notification: &Notification, from: &Mailbox) -> String {
    // Without the channel: a list that two recipients lead to shows one mail.
    let id = notification.id.strip_suffix(&notification.channel).unwrap_or(&notification.id);
    message_id(id, from)
}

fn message_id(identity: &str, from: &Mailbox) -> String {
    format!("<keyvigil-{}@{}>", hex(&sha256(identity.as_bytes())[..12]), from.email.domain())
}

fn text(words: &Wording) -> String {
    let mut out = format!("{}: {}\n\n{}\n\n", words.label, words.title, words.sentence);
    for (name, value) in &words.facts {
        let _ = writeln!(out, "{:<10} {value}", format!("{name}:"));
    }
    for (name, address) in &words.links {
        let _ = write!(out, "\n{name}: {address}\n");
    }
    out.push_str("\n-- \nSent by Keyvigil\n");
    out
}

fn html(words: &Wording) -> String {
    let mut out = String::from("<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"></head><body style=\"font-family:sans-serif;font-size:14px\">");
    let _ = write!(out, "<p><strong>{}: {}</strong></p><p>{}</p><table>", escape(&words.label), escape(&words.title), escape(&words.sentence));
    for (name, value) in &words.facts {
        let _ = write!(out, "<tr><td style=\"padding-right:16px\">{}</td><td>{}</td></tr>", escape(name), escape(value));
    }
    out.push_str("</table>");
    for (name, address) in &words.links {
        let _ = write!(out, "<p><a href=\"{}\">{}</a></p>", escape(address), escape(name));
    }
    out.push_str("<p style=\"color:#666\">Sent by Keyvigil</p></body></html>");
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{State, Transition};

    fn notification(kind: Kind, change: impl FnOnce(&mut crate::alert::Alert)) -> Notification {
        let mut alert = Notification::test("email:a@example.org", 1_763_834_400_000).alert;
        alert.tags.set("host", "web-1");
        "High CPU".clone_into(&mut alert.name);
        change(&mut alert);
        Notification::new(&alert, Transition { kind, from: None, to: Some(State::Firing), at_ms: 1_763_834_700_000 }, "email:a@example.org")
    }

    fn mail(notification: &Notification) -> String {
        let from: Mailbox = "Keyvigil <keyvigil@example.org>".parse().unwrap();
        let to: Mailbox = "a@example.org".parse().unwrap();
        let words = Wording::of(notification, "https://keyvigil.example.org/");
        String::from_utf8(build(&words, notification, &from, &to.clone().into(), &to).unwrap().formatted()).unwrap()
    }

    fn header(mail: &str, name: &str) -> String {
        let head = mail.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
    }

    #[test]
    fn all_mails_of_a_firing_are_one_thread_and_a_repeated_one_is_the_same() {
        let fired = mail(&notification(Kind::Fired, |_| {}));
        assert_eq!(header(&fired, "Subject"), "[FIRING info] High CPU on web-1");
        assert_eq!(header(&fired, "Date"), "Sat, 22 Nov 2025 18:05:00 +0000");
        assert_eq!(header(&fired, "In-Reply-To"), "");
        let root = header(&fired, "Message-ID");
        assert_eq!(header(&mail(&notification(Kind::Fired, |_| {})), "Message-ID"), root);
        let resolved = mail(&notification(Kind::Resolved, |alert| alert.memory.seq = 2));
        assert_eq!((header(&resolved, "In-Reply-To"), header(&resolved, "References")), (root.clone(), root.clone()));
        assert_ne!(header(&resolved, "Message-ID"), root);
        let next = mail(&notification(Kind::Fired, |alert| alert.fired_at = Some(1_763_999_999_999)));
        assert_ne!(header(&next, "Message-ID"), root, "the next firing is another thread");
    }

    #[test]
    fn hostile_names_and_tags_make_neither_headers_nor_markup() {
        let hostile = notification(Kind::Fired, |alert| {
            "a\r\nBcc: victim@example.org\r\n\r\n<img src=x onerror=y>".clone_into(&mut alert.name);
            alert.tags.set("host", "h\r\nX-Evil: 1\u{0}\u{2028}ü");
            alert.tags.set("\"><b>", "'><script>alert(1)</script>");
            "javascript:alert(1)".clone_into(alert.runbook.insert(String::new()));
            "\r\nReply-To: x".clone_into(&mut alert.id);
        });
        let mail = mail(&hostile);
        let head = mail.split("\r\n\r\n").next().unwrap();
        for evil in ["Bcc:", "X-Evil:", "Reply-To:"] {
            assert!(!head.lines().any(|line| line.starts_with(evil)), "{head}");
        }
        assert!(mail.is_ascii(), "no server needs 8BITMIME for it");
        let html = html(&Wording::of(&hostile, ""));
        for evil in ["<img", "<script", "<b>", "javascript:"] {
            assert!(!html.contains(evil), "{html}");
        }
    }
}
