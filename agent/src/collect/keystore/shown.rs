//! Paths as they are shown and remembered: names of any bytes as text, two of them never as the same one. Called by the reader.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use keyvigil_common::limits::TEXT_BYTES_MAX;

/// Room for what stands for the end of a path that is too long.
const END_BYTES: usize = 24;

/// `path` as text: bytes that are no UTF-8 and control characters as `\xe9`, as a shell's `$'...'` takes them; the end of one that
/// is too long as a number.
pub(super) fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) && !text.contains("\\x") => text.to_owned(),
        _ => bytes.split(|byte| *byte == b'/').map(part).collect::<Vec<_>>().join("/"),
    };
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let end = text.floor_char_boundary(TEXT_BYTES_MAX - END_BYTES);
    format!("{}...{:016x}", &text[..end], hasher.finish())
}

/// One name.
fn part(name: &[u8]) -> String {
    let is_plain = std::str::from_utf8(name).is_ok_and(|text| !text.chars().any(char::is_control) && !text.contains("\\x"));
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            let mut utf8 = [0; 4];
            match char {
                char if char.is_control() || char == '\\' && !is_plain => escape(char.encode_utf8(&mut utf8).as_bytes(), &mut text),
                char => text.push(char),
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

fn escape(bytes: &[u8], text: &mut String) {
    bytes.iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn what_is_text_stays_and_the_rest_is_told_apart() {
        let of = |bytes: &[u8]| shown(Path::new(OsStr::from_bytes(bytes)));
        for plain in ["/etc/ssl/k.pem", "/home/bob/caf\u{e9} \\ k", "/"] {
            assert_eq!(of(plain.as_bytes()), plain);
        }
        assert_eq!(of(b"/k/caf\xe9\n.pem"), "/k/caf\\xe9\\x0a.pem");
        assert_eq!(of(b"/plain/\xff/plain\\y"), "/plain/\\xff/plain\\y", "part by part, so that a directory is above what lies in it");
        let alike: [&[u8]; 7] = [b"k\xe9", b"k\xe8", b"k\\xe9", b"k\\\xe9", b"k\n", b"k\\x0a", "k\u{fffd}".as_bytes()];
        assert_eq!(alike.iter().map(|name| of(name)).collect::<HashSet<_>>().len(), alike.len());
        let long = b"/d".repeat(3_000);
        let [a, b] = [b"a", b"b"].map(|end| of(&[&long[..], end].concat()));
        assert!(a != b && a.len() <= TEXT_BYTES_MAX && b.len() <= TEXT_BYTES_MAX, "{}", a.len());
    }
}
