//! OTLP's JSON as the protobuf that it stands for: by tables of the fields that we look at; others are passed over.

use serde_json::Value;

/// A field.
struct Entry {
    name: &'static str,
    number: u64,
    kind: Kind,
}

enum Kind {
    Text,
    Bool,
    /// A number as varint; an enumeration's values may come by name.
    Int,
    Zigzag,
    Fixed64,
    Double,
    Message(&'static [Entry]),
    Messages(&'static [Entry]),
    Ints,
    Fixed64s,
    Doubles,
}

use Kind::{Bool, Double, Doubles, Fixed64, Fixed64s, Int, Ints, Messages, Text, Zigzag};

const fn entry(name: &'static str, number: u64, kind: Kind) -> Entry {
    Entry { name, number, kind }
}

static REQUEST: [Entry; 1] = [entry("resourceMetrics", 1, Messages(&RESOURCE_METRICS))];
static RESOURCE_METRICS: [Entry; 2] = [entry("resource", 1, Kind::Message(&RESOURCE)), entry("scopeMetrics", 2, Messages(&SCOPE_METRICS))];
static RESOURCE: [Entry; 1] = [entry("attributes", 1, Messages(&KEY_VALUE))];
static SCOPE_METRICS: [Entry; 2] = [entry("scope", 1, Kind::Message(&SCOPE)), entry("metrics", 2, Messages(&METRIC))];
static SCOPE: [Entry; 1] = [entry("name", 1, Text)];
static METRIC: [Entry; 6] = [
    entry("name", 1, Text),
    entry("gauge", 5, Kind::Message(&NUMBERS)),
    entry("sum", 7, Kind::Message(&NUMBERS)),
    entry("histogram", 9, Kind::Message(&HISTOGRAM)),
    entry("exponentialHistogram", 10, Kind::Message(&EXPONENTIAL)),
    entry("summary", 11, Kind::Message(&SUMMARY)),
];
static NUMBERS: [Entry; 3] = [entry("dataPoints", 1, Messages(&NUMBER_POINT)), entry(TEMPORALITY, 2, Int), entry("isMonotonic", 3, Bool)];
static HISTOGRAM: [Entry; 2] = [entry("dataPoints", 1, Messages(&HISTOGRAM_POINT)), entry(TEMPORALITY, 2, Int)];
static EXPONENTIAL: [Entry; 2] = [entry("dataPoints", 1, Messages(&EXPONENTIAL_POINT)), entry(TEMPORALITY, 2, Int)];
static SUMMARY: [Entry; 1] = [entry("dataPoints", 1, Messages(&SUMMARY_POINT))];
static NUMBER_POINT: [Entry; 6] = [
    entry("attributes", 7, Messages(&KEY_VALUE)),
    entry(START, 2, Fixed64),
    entry(TIME, 3, Fixed64),
    entry("asDouble", 4, Double),
    entry("asInt", 6, Fixed64),
    entry("flags", 8, Int),
];
static HISTOGRAM_POINT: [Entry; 8] = [
    entry("attributes", 9, Messages(&KEY_VALUE)),
    entry(START, 2, Fixed64),
    entry(TIME, 3, Fixed64),
    entry("count", 4, Fixed64),
    entry("sum", 5, Double),
    entry("bucketCounts", 6, Fixed64s),
    entry("explicitBounds", 7, Doubles),
    entry("flags", 10, Int),
];
static EXPONENTIAL_POINT: [Entry; 11] = [
    entry("attributes", 1, Messages(&KEY_VALUE)),
    entry(START, 2, Fixed64),
    entry(TIME, 3, Fixed64),
    entry("count", 4, Fixed64),
    entry("sum", 5, Double),
    entry("scale", 6, Zigzag),
    entry("zeroCount", 7, Fixed64),
    entry("positive", 8, Kind::Message(&BUCKETS)),
    entry("negative", 9, Kind::Message(&BUCKETS)),
    entry("flags", 10, Int),
    entry("zeroThreshold", 14, Double),
];
static BUCKETS: [Entry; 2] = [entry("offset", 1, Zigzag), entry("bucketCounts", 2, Ints)];
static SUMMARY_POINT: [Entry; 7] = [
    entry("attributes", 7, Messages(&KEY_VALUE)),
    entry(START, 2, Fixed64),
    entry(TIME, 3, Fixed64),
    entry("count", 4, Fixed64),
    entry("sum", 5, Double),
    entry("quantileValues", 6, Messages(&QUANTILE)),
    entry("flags", 8, Int),
];
static QUANTILE: [Entry; 2] = [entry("quantile", 1, Double), entry("value", 2, Double)];
static KEY_VALUE: [Entry; 2] = [entry("key", 1, Text), entry("value", 2, Kind::Message(&ANY))];
static ANY: [Entry; 7] = [
    entry("stringValue", 1, Text),
    entry("boolValue", 2, Bool),
    entry("intValue", 3, Int),
    entry("doubleValue", 4, Double),
    entry("arrayValue", 5, Kind::Message(&LIST)),
    entry("kvlistValue", 6, Kind::Message(&MAP)),
    // Base64 is what they are shown as anyway.
    entry("bytesValue", 1, Text),
];
static LIST: [Entry; 1] = [entry("values", 1, Messages(&ANY))];
static MAP: [Entry; 1] = [entry("values", 1, Messages(&KEY_VALUE))];

const TEMPORALITY: &str = "aggregationTemporality";
const START: &str = "startTimeUnixNano";
const TIME: &str = "timeUnixNano";

/// The request as protobuf, or what is wrong and where.
pub(super) fn to_protobuf(body: &[u8]) -> Result<Vec<u8>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    message(&REQUEST, &value, &mut out)?;
    Ok(out)
}

fn message(entries: &[Entry], value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let Value::Object(fields) = value else { return Err(": not an object".into()) };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        if let Some(entry) = entries.iter().find(|entry| entry.name == name) {
            field(entry, value, out).map_err(|path| format!(".{name}{path}"))?;
        }
    }
    Ok(())
}

fn field(entry: &Entry, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let mut packed = Vec::new();
    match entry.kind {
        Text => return block(entry, value.as_str().ok_or(": not a text")?.as_bytes(), out),
        Bool => {
            tag(entry, 0, out);
            out.push(u8::from(value.as_bool().ok_or(": neither true nor false")?));
        }
        Int => {
            tag(entry, 0, out);
            varint(integer(value)?, out);
        }
        Zigzag => {
            let n = integer(value)?.cast_signed();
            tag(entry, 0, out);
            varint(((n << 1) ^ (n >> 63)).cast_unsigned(), out);
        }
        Fixed64 => {
            tag(entry, 1, out);
            out.extend_from_slice(&integer(value)?.to_le_bytes());
        }
        Double => {
            tag(entry, 1, out);
            out.extend_from_slice(&double(value)?.to_le_bytes());
        }
        Kind::Message(entries) => {
            message(entries, value, &mut packed)?;
            return block(entry, &packed, out);
        }
        Messages(entries) => {
            for (at, value) in list(value)?.iter().enumerate() {
                packed.clear();
                message(entries, value, &mut packed).map_err(|path| format!("[{at}]{path}"))?;
                block(entry, &packed, out)?;
            }
        }
        Ints | Fixed64s | Doubles => {
            for (at, value) in list(value)?.iter().enumerate() {
                let placed = |path: String| format!("[{at}]{path}");
                match entry.kind {
                    Ints => varint(integer(value).map_err(placed)?, &mut packed),
                    Doubles => packed.extend_from_slice(&double(value).map_err(placed)?.to_le_bytes()),
                    _ => packed.extend_from_slice(&integer(value).map_err(placed)?.to_le_bytes()),
                }
            }
            return block(entry, &packed, out);
        }
    }
    Ok(())
}

fn list(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| ": not a list".into())
}

/// A whole number, which may be a text because JSON's are not exact above 2^53; or a temporality by its name.
fn integer(value: &Value) -> Result<u64, String> {
    let found = match value {
        Value::Number(n) => n.as_u64().or_else(|| n.as_i64().map(i64::cast_unsigned)),
        Value::String(text) => match text.as_str() {
            "AGGREGATION_TEMPORALITY_DELTA" => Some(1),
            "AGGREGATION_TEMPORALITY_CUMULATIVE" => Some(2),
            text => text.parse().ok().or_else(|| text.parse().ok().map(i64::cast_unsigned)),
        },
        _ => None,
    };
    found.ok_or_else(|| ": not a whole number of 64 bits".into())
}

fn double(value: &Value) -> Result<f64, String> {
    let found = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| ": not a number".into())
}

fn tag(entry: &Entry, wire: u64, out: &mut Vec<u8>) {
    varint(entry.number << 3 | wire, out);
}

fn block(entry: &Entry, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    tag(entry, 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
    Ok(())
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
