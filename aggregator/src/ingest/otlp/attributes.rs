//! Attributes as tags: those of a data point all, of its resource those that say whose it is, and the scope's name.

use std::fmt::Write as _;

use keyvigil_common::sample::{MetricType, Series, Tags};

use crate::ingest::protobuf::{Fault, Message};
use crate::ingest::sink::shown;

/// Attributes of a resource that become tags, and what these are called. All others describe the resource and do not tell
/// it from another.
const OF_RESOURCE: [(&str, &str); 4] =
    [("host.name", "host"), ("service.name", "service.name"), ("service.namespace", "service.namespace"), ("service.instance.id", "service.instance.id")];
const SCOPE: &str = "otel_scope_name";
/// Lists within lists of one value.
const DEPTH_MAX: usize = 16;

/// What all data points below a resource and a scope share.
#[derive(Debug, Default)]
pub(super) struct Origin {
    tags: Vec<(&'static str, String)>,
    resource_tags: usize,
}

impl Origin {
    /// The tags of a resource; of none where it is missing.
    pub(super) fn of_resource(resource: Option<Message<'_>>) -> Result<Self, Fault> {
        let mut tags = Vec::new();
        let mut rest = resource;
        while let Some(field) = rest.as_mut().map_or(Ok(None), Message::next)? {
            if field.number == 1 {
                let (key, value) = entry(field.message()?)?;
                if let Some((_, tag)) = OF_RESOURCE.iter().find(|(name, _)| *name == key) {
                    tags.push((*tag, text(value)?));
                }
            }
        }
        Ok(Self { resource_tags: tags.len(), tags })
    }

    /// Goes on with the next scope of the resource.
    pub(super) fn enter(&mut self, scope: Option<Message<'_>>) -> Result<(), Fault> {
        self.tags.truncate(self.resource_tags);
        let mut rest = scope;
        while let Some(field) = rest.as_mut().map_or(Ok(None), Message::next)? {
            if field.number == 1 {
                self.tags.push((SCOPE, field.text()?.to_owned()));
            }
        }
        Ok(())
    }

    /// Writes what tells this origin from others.
    pub(super) fn key(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.tags {
            for text in [name, value.as_str()] {
                put(out, text.as_bytes());
            }
        }
        put(out, b"");
    }

    /// The series of a data point, whose attributes are its fields `number`. An attribute of its own goes before one of its
    /// origin.
    pub(super) fn series(&self, name: &str, metric_type: MetricType, mut point: Message<'_>, number: u64) -> Result<Series, String> {
        let mut tags = Vec::new();
        let mut read = || -> Result<(), Fault> {
            while let Some(field) = point.next()? {
                if field.number == number {
                    let (key, value) = entry(field.message()?)?;
                    tags.push((key, text(value)?));
                }
            }
            Ok(())
        };
        read().map_err(|e| format!("{name}: attributes: {e}"))?;
        let own = tags.len();
        for (tag, value) in &self.tags {
            if !tags[..own].iter().any(|(key, _)| key == tag) {
                tags.push((tag, value.clone()));
            }
        }
        Tags::new(tags).and_then(|tags| Series::new(name, metric_type, tags)).map_err(|e| format!("{name}: {e}"))
    }
}

/// Appends `bytes` with their length.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A key and its value.
fn entry(mut message: Message<'_>) -> Result<(&str, Option<Message<'_>>), Fault> {
    let (mut key, mut value) = ("", None);
    while let Some(field) = message.next()? {
        match field.number {
            1 => key = field.text()?,
            2 => value = Some(field.message()?),
            _ => {}
        }
    }
    Ok((key, value))
}

fn text(of: Option<Message<'_>>) -> Result<String, Fault> {
    let mut out = String::new();
    of.map_or(Ok(()), |of| value(of, 0, &mut out))?;
    Ok(out)
}

/// Writes a value: a text as it is, anything else as JSON has it; within a list texts are JSON too.
fn value(mut message: Message<'_>, depth: usize, out: &mut String) -> Result<(), Fault> {
    if depth > DEPTH_MAX {
        return Err(message.fault("a value of too many lists within lists"));
    }
    let before = out.len();
    while let Some(field) = message.next()? {
        match field.number {
            1 if depth == 0 => out.push_str(field.text()?),
            1 => quote(field.text()?, out),
            2 => out.push_str(if field.number()? == 0 { "false" } else { "true" }),
            3 => drop(write!(out, "{}", field.signed()?)),
            4 => out.push_str(&shown(field.double()?)),
            5 => list(field.message()?, depth, out)?,
            6 => map(field.message()?, depth, out)?,
            7 => base64(field.message()?.bytes(), out),
            _ => {}
        }
    }
    if depth > 0 && out.len() == before {
        out.push_str("null");
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn list(mut message: Message<'_>, depth: usize, out: &mut String) -> Result<(), Fault> {
    out.push('[');
    let mut between = "";
    while let Some(field) = message.next()? {
        if field.number == 1 {
            out.push_str(between);
            between = ",";
            value(field.message()?, depth + 1, out)?;
        }
    }
    out.push(']');
    Ok(())
}

fn map(mut message: Message<'_>, depth: usize, out: &mut String) -> Result<(), Fault> {
    out.push('{');
    let mut between = "";
    while let Some(field) = message.next()? {
        if field.number != 1 {
            continue;
        }
        out.push_str(between);
        between = ",";
        let (key, of) = entry(field.message()?)?;
        quote(key, out);
        out.push(':');
        match of {
            Some(of) => value(of, depth + 1, out)?,
            None => out.push_str("null"),
        }
    }
    out.push('}');
    Ok(())
}

/// Bytes as JSON has them in OTLP.
fn base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
            out.push(if at > chunk.len() { '=' } else { char::from(digit) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_base64() {
        let text = |bytes: &[u8]| {
            let mut out = String::new();
            base64(bytes, &mut out);
            out
        };
        assert_eq!([&b""[..], b"f", b"fo", b"foo", &[0xff, 0xfe, 0xfd, 0xfc]].map(text), ["", "Zg==", "Zm8=", "Zm9v", "//79/A=="]);
    }
}
