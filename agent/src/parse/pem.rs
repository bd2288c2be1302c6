//! Splits a file into its PEM blocks. Takes what real files hold: text between blocks, CRLF, byte-order marks, indentation,
//! comments in any encoding, two markers on one line, no end. Never copies a body except into a buffer that is wiped. Called
//! by `keys`. Format: RFC 7468 and, for header lines, RFC 1421.

use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Bytes of a label; the longest in use has 26.
const LABEL_MAX: usize = 64;
/// Header lines of one block; real ones have two.
const HEADERS_MAX: usize = 16;
/// What stands behind a backslash for a character that PEM has. Of others the backslash alone is dropped.
const ESCAPES: &[(&[u8], u8)] =
    &[(b"n", b'\n'), (b"r", b'\r'), (b"t", b'\t'), (b"u003d", b'='), (b"u003D", b'='), (b"u002b", b'+'), (b"u002B", b'+'), (b"u002f", b'/')];
/// What may stand before a block that does not begin a line: in a string, an element of XML, a setting. Text that only speaks of
/// blocks has these, too, so such a block is one only if it is whole.
const OPENING: &[u8] = b"\"'`>=:,;([{";

/// One block, or what is left of one.
#[derive(Debug)]
pub struct Block<'a> {
    /// `CERTIFICATE`, `PRIVATE KEY`, ...
    pub label: &'a str,
    /// Offset of its first line in the file, bytes.
    pub offset: usize,
    /// Header lines, `DEK-Info` and its value.
    pub headers: Vec<(String, String)>,
    /// What stands between header lines and the END line; empty where that is missing.
    pub encoded: &'a [u8],
    /// Decoded body, or what is wrong with it.
    pub body: Result<Zeroizing<Vec<u8>>, Broken>,
}

impl Block<'_> {
    /// Value of the header line `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What can be wrong with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The file or the next block begins before its end.
    NoEnd,
    /// Ends as something else.
    OtherEnd,
    /// Not base64.
    Base64,
    /// Nothing between its lines.
    Empty,
}

/// A file in UTF-16, as redirecting into one makes it on Windows, in everyone's form; `None` where it is not.
#[must_use]
pub fn from_utf16(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] | [b'-', 0, b'-', 0, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] | [0, b'-', 0, b'-', ..] => u16::from_be_bytes,
        _ => return None,
    };
    // Large enough for all of it: growing would leave a copy behind that nobody wipes.
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() / 2 * 3));
    for character in char::decode_utf16(bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]))) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(out)
}

/// A file that has PEM in strings, as JSON, `.env` files and scripts have it, with their escapes undone; `None` where it has none.
#[must_use]
pub fn from_escaped(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    find(bytes, b"-----\\")?;
    // Never longer: growing would leave a copy behind that nobody wipes.
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        // Of strings within strings the backslashes are escaped, too.
        while let Some(behind) = rest.strip_prefix(b"\\") {
            rest = behind;
        }
        for (escape, meant) in ESCAPES {
            if let Some(behind) = rest.strip_prefix(*escape) {
                rest = behind;
                out.push(*meant);
                break;
            }
        }
    }
    Some(out)
}

/// Whether a file with these first bytes has PEM in it.
#[must_use]
pub fn is_pem(head: &[u8]) -> bool {
    next_begin(head, 0).is_some()
}

/// All blocks, in their order.
pub fn blocks(bytes: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (offset, label, start) = next_begin(bytes, at)?;
            let (block, next) = block(bytes, offset, label, start);
            at = next;
            // The check sum of OpenPGP's armour is not base64.
            let is_whole = block.body.is_ok() || matches!(block.body, Err(Broken::Base64)) && label.starts_with("PGP ");
            if is_whole || begins_line(&bytes[..offset]) {
                return Some(block);
            }
        }
    })
}

/// Offset of the next BEGIN marker, its label, and the offset behind it.
fn next_begin(bytes: &[u8], mut at: usize) -> Option<(usize, &str, usize)> {
    loop {
        let offset = at + find(bytes.get(at..)?, BEGIN)?;
        let start = offset + BEGIN.len();
        if (begins_line(&bytes[..offset]) || begins_string(&bytes[..offset]))
            && let Some((label, end)) = label(bytes, start)
        {
            return Some((offset, label, end));
        }
        at = start;
    }
}

/// Whether what lies before a marker leaves it at the start of a line, or right behind another marker.
fn begins_line(before: &[u8]) -> bool {
    let mut left = before;
    while let Some((last, rest)) = left.split_last() {
        match last {
            b'\n' | b'\r' => return true,
            b' ' | b'\t' => left = rest,
            _ => break,
        }
    }
    left.is_empty() || left.ends_with(&[0xef, 0xbb, 0xbf]) || left.ends_with(DASHES)
}

/// Whether what lies before a marker opens a string, or the like.
fn begins_string(before: &[u8]) -> bool {
    before.trim_ascii_end().last().is_some_and(|last| OPENING.contains(last))
}

/// The label that starts at `start` and the offset behind its dashes.
fn label(bytes: &[u8], start: usize) -> Option<(&str, usize)> {
    let window = &bytes[start..bytes.len().min(start + LABEL_MAX + DASHES.len())];
    let length = find(window, DASHES)?;
    let label = std::str::from_utf8(&window[..length]).ok()?;
    let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b" .#_/".contains(&b));
    (plain && !label.is_empty()).then_some((label, start + length + DASHES.len()))
}

/// The block whose body starts at `start`, and where to look for the next.
fn block<'a>(bytes: &'a [u8], offset: usize, name: &'a str, start: usize) -> (Block<'a>, usize) {
    let broken = |why| Block { label: name, offset, headers: Vec::new(), encoded: &[], body: Err(why) };
    // The end is looked for only before the next block: a file of nothing but beginnings would take for ever otherwise.
    let limit = next_begin(bytes, start).map_or(bytes.len(), |(offset, _, _)| offset);
    let Some(end) = find(&bytes[start..limit], END).map(|length| start + length) else {
        return (broken(Broken::NoEnd), limit);
    };
    match label(bytes, end + END.len()) {
        Some((closing, behind)) if closing == name => {
            let (headers, encoded) = split_headers(&bytes[start..end]);
            (Block { label: name, offset, headers, encoded, body: decode(encoded) }, behind)
        }
        _ => (broken(Broken::OtherEnd), end + END.len()),
    }
}

/// Header lines and what follows them. A continuation line belongs to the header before it.
fn split_headers(body: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut rest = body;
    loop {
        // Older Macs end lines with a carriage return alone.
        let length = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(rest.len(), |at| at + 1);
        let line = rest[..length].trim_ascii();
        let colon = line.iter().position(|b| *b == b':');
        if let Some(colon) = colon.filter(|_| headers.len() < HEADERS_MAX) {
            let text = |part: &[u8]| String::from_utf8_lossy(part.trim_ascii()).into_owned();
            headers.push((text(&line[..colon]), text(&line[colon + 1..])));
        } else if !(line.is_empty() && length > 0) {
            return (headers, rest);
        }
        rest = &rest[length..];
    }
}

/// Base64 with white space anywhere, into one allocation that is wiped when dropped.
///
/// # Errors
/// A character that is none of base64's, or nothing at all.
pub fn decode(encoded: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
    // Large enough for all of it: growing would leave a copy behind that nobody wipes.
    let mut out = Zeroizing::new(Vec::with_capacity(encoded.len() / 4 * 3 + 3));
    let (mut bits, mut held, mut ended) = (0u32, 0u32, false);
    for byte in encoded {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                ended = true;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => return Err(Broken::Base64),
        };
        if ended {
            return Err(Broken::Base64);
        }
        bits = (bits << 6 | u32::from(value)) & 0x00ff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    // Six bits left over: a character is missing.
    if held == 6 {
        return Err(Broken::Base64);
    }
    if out.is_empty() { Err(Broken::Empty) } else { Ok(out) }
}

/// Offset of `needle` in `bytes`.
#[must_use]
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|b| *b == first)?;
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Vec<(String, Result<Vec<u8>, Broken>)> {
        blocks(bytes).map(|b| (b.label.to_owned(), b.body.map(|body| body.to_vec()))).collect()
    }

    #[test]
    fn blocks_are_found_whatever_lies_around_them() {
        let files: [&[u8]; 15] = [
            b"-----BEGIN X-----\nAQID\n-----END X-----\n",
            b"\xef\xbb\xbf-----BEGIN X-----\r\nAQ\r\nID\r\n-----END X-----\r\n",
            b"# M\xfcller's key, see -----BEGIN Y----- below\n\n-----BEGIN X-----\nAQID\n-----END X-----",
            b"  key: |\n    -----BEGIN X-----\n    AQID\n    -----END X-----\n",
            b"-----BEGIN X----- AQID -----END X-----",
            b"-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAQID\n-----END X-----\n",
            b"-----BEGIN X-----\n\nAQID\n\n-----END X-----\n",
            b"KEY=\"-----BEGIN X-----\nAQID\n-----END X-----\"\n",
            b"<key>-----BEGIN X-----\nAQID\n-----END X-----</key>\n",
            br#"{"type": "service_account", "private_key": "-----BEGIN X-----\nAQID\n-----END X-----\n", "a": "-----BEGIN Y-----"}"#,
            br#"{"key":"-----BEGIN X-----\r\nAQ\r\nID\r\n-----END X-----"}"#,
            br#"{"inner": "{\"key\": \"-----BEGIN X-----\\nProc-Type: 4,ENCRYPTED\\n\\nAQID\\n-----END X-----\\n\"}"}"#,
            b"key: \"-----BEGIN X-----\\n\\\n  AQID\\n\\\n  -----END X-----\\n\"\n",
            b"- '-----BEGIN X-----\n\n  AQID\n\n  -----END X-----'\n",
            b"junk\r-----BEGIN X-----\rProc-Type: 4,ENCRYPTED\rDEK-Info: AES-128-CBC,00\r\rAQ\rID\r-----END X-----\r",
        ];
        for file in files {
            let unescaped = from_escaped(file);
            let plain = unescaped.as_ref().map_or(file, |text| text.as_slice());
            assert!(is_pem(file));
            assert_eq!(read(plain), [("X".into(), Ok(vec![1, 2, 3]))], "{}", String::from_utf8_lossy(file));
        }
    }

    #[test]
    fn what_only_speaks_of_blocks_is_none() {
        for text in ["looks for \"-----BEGIN X-----\" in a file\n", "a = '-----BEGIN X-----'; b = '-----END X-----'\n", "see: -----BEGIN X----- below"] {
            assert_eq!(read(text.as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn utf_16_is_read_in_both_orders_with_a_mark_and_without() {
        let text = "\u{feff}-----BEGIN X-----\r\nAQID\r\n-----END X-----\r\n";
        for text in [text, text.trim_start_matches('\u{feff}')] {
            let files = [text.encode_utf16().flat_map(u16::to_le_bytes).collect(), text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()];
            for file in files {
                assert_eq!(read(&from_utf16(&file).unwrap()), [("X".into(), Ok(vec![1, 2, 3]))]);
            }
        }
        assert!(from_utf16(b"-----BEGIN").is_none() && from_utf16(&[0x30, 0x82]).is_none());
    }

    #[test]
    fn a_broken_block_does_not_hide_its_neighbours() {
        let file = b"-----BEGIN A-----\nAQID\n-----END A----------BEGIN B-----\nAQ\n-----BEGIN C-----\nA!\n-----END C-----\n\
            -----BEGIN D-----\nAQID\n-----END E-----\n-----BEGIN F-----\n-----END F-----\n-----BEGIN G-----\nAQI";
        let expected = [("A", Ok(vec![1, 2, 3])), ("B", Err(Broken::NoEnd)), ("C", Err(Broken::Base64))];
        let rest = [("D", Err(Broken::OtherEnd)), ("F", Err(Broken::Empty)), ("G", Err(Broken::NoEnd))];
        let expected: Vec<_> = expected.into_iter().chain(rest).map(|(l, b)| (l.to_owned(), b)).collect();
        assert_eq!(read(file), expected);
    }

    #[test]
    fn header_lines_are_kept() {
        let file = b"-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAQID\n-----END X-----\n";
        assert_eq!(blocks(file).next().unwrap().header("dek-info"), Some("AES-128-CBC,00"));
    }

    proptest! {
        #[test]
        fn no_input_panics_or_loops(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(blocks(&bytes).count() <= bytes.len());
        }

        #[test]
        fn markers_in_any_order_end(parts in proptest::collection::vec(prop_oneof![
            Just("-----BEGIN A-----\n"), Just("-----END A-----\n"), Just("-----BEGIN "), Just("-----"), Just("AQID\n"), Just(": \n"), Just("\n"), Just(" "),
        ], 0..40)) {
            let text = parts.concat();
            prop_assert!(blocks(text.as_bytes()).count() <= parts.len());
        }
    }
}
