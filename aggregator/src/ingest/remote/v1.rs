//! Remote write 1.0, `prometheus.WriteRequest`. The label fields of a series, as they lie in the body, are its key.

use keyvigil_common::sample::Series;

use super::labels;
use super::native;
use crate::ingest::Refusal;
use crate::ingest::protobuf::{Fault, Message};
use crate::ingest::sink::Sink;

const TIMESERIES: u64 = 1;
const LABELS: u64 = 1;
const SAMPLES: u64 = 2;
const HISTOGRAMS: u64 = 4;

/// Gives all series of a request to `sink`.
pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Refusal> {
    let mut request = Message::new(body);
    let mut scratch = Vec::new();
    while let Some(field) = request.next()? {
        if field.number == TIMESERIES {
            series(field.message()?, sink, &mut scratch)?;
        }
    }
    Ok(())
}

fn series(message: Message<'_>, sink: &mut Sink<'_>, scratch: &mut Vec<u8>) -> Result<(), Refusal> {
    let (mut from, mut to, mut scattered) = (message.at(), message.at(), false);
    let (mut samples, mut histograms) = (None, false);
    let mut rest = message;
    while let Some(field) = rest.next()? {
        match field.number {
            LABELS => {
                if from == to {
                    from = field.at;
                } else if to != field.at {
                    scattered = true;
                }
                to = rest.at();
            }
            SAMPLES => samples = samples.or(Some(field.at)),
            HISTOGRAMS => histograms = true,
            _ => {}
        }
    }
    let key = if scattered { gather(message, scratch)? } else { message.span(from, to) };
    let make = || made(message);
    if let Some(at) = samples {
        sink.column(key, 0, make, Samples(message.from(at)))?;
    }
    if histograms {
        native::take(message, HISTOGRAMS, 0, sink, key, make)?;
    }
    Ok(())
}

/// The label fields one after another.
fn gather<'a>(mut message: Message<'_>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Fault> {
    scratch.clear();
    while let Some(field) = message.next()? {
        if field.number == LABELS {
            scratch.extend_from_slice(message.span(field.at, message.at()));
        }
    }
    Ok(scratch)
}

fn made(mut message: Message<'_>) -> Result<Series, String> {
    let mut read = || -> Result<_, Fault> {
        let mut found = Vec::new();
        while let Some(field) = message.next()? {
            if field.number == LABELS {
                found.push(label(field.message()?)?);
            }
        }
        Ok(found)
    };
    labels::series(&read().map_err(|e| format!("labels: {e}"))?, labels::guess)
}

fn label(mut message: Message<'_>) -> Result<(&str, &str), Fault> {
    let (mut name, mut value) = ("", "");
    while let Some(field) = message.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// The samples of a series.
struct Samples<'a>(Message<'a>);

impl Iterator for Samples<'_> {
    type Item = Result<(i64, f64), Fault>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next() {
                Ok(Some(field)) if field.number == SAMPLES => return Some(field.message().and_then(sample)),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

#[inline]
fn sample(mut message: Message<'_>) -> Result<(i64, f64), Fault> {
    // As every sender writes it; what is zero is left out, so that the long way is there too.
    if let [0x09, a, b, c, d, e, f, g, h, 0x10, ..] = *message.bytes() {
        let mut time = message.from(message.at() + 10);
        let at_ms = time.varint()?.cast_signed();
        if time.is_empty() {
            return Ok((at_ms, f64::from_le_bytes([a, b, c, d, e, f, g, h])));
        }
    }
    let (mut at_ms, mut value) = (0, 0.0);
    while let Some(field) = message.next()? {
        match field.number {
            1 => value = field.double()?,
            2 => at_ms = field.signed()?,
            _ => {}
        }
    }
    Ok((at_ms, value))
}
