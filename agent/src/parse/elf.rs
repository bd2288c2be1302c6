//! What it takes to find functions in a library: ELF of 64 bits in this machine's byte order, its executable segment and its table of
//! symbols. The file may be anybody's, so each table's place and size is told first and bounded, and then read by the caller.

/// Bytes of the header.
pub(crate) const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
/// Bounds of what is read, bytes: libcrypto's symbols take 200 KiB, and those of a large static program some megabytes.
const SEGMENTS_MAX: usize = 64;
const SECTIONS_MAX: usize = 4_096;
const TABLE_MAX: u64 = 32 << 20;
const NAMES_MAX: usize = 256 << 10;

const LOADED: u32 = 1;
const EXECUTABLE: u32 = 1;
const SYMBOLS: u32 = 2;
const DYNAMIC_SYMBOLS: u32 = 11;
const FUNCTION: u8 = 2;
const NATIVE: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

/// Where segments and sections are described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) segments: Part,
    pub(crate) sections: Part,
}

/// An executable segment: address, length and place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) offset: u64,
}

/// A table of symbols and the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) symbols: Part,
    pub(crate) names: Part,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Reads the header.
///
/// # Errors
/// What the file is instead.
pub(crate) fn plan(header: &[u8]) -> Result<Plan, &'static str> {
    if !header.starts_with(b"\x7fELF") {
        return Err("it is no program or library");
    }
    if header.get(4) != Some(&2) || header.get(5) != Some(&NATIVE) {
        return Err("it is made for another kind of machine than this one (32 bits, or the other byte order)");
    }
    let table = |offset: usize, count: usize, size: usize, most: usize| {
        let (offset, count) = (u64_at(header, offset)?, usize::from(u16_at(header, count)?));
        (count <= most).then_some(Part { offset, len: count * size })
    };
    let parts = table(32, 56, SEGMENT, SEGMENTS_MAX).zip(table(40, 60, SECTION, SECTIONS_MAX));
    parts.map(|(segments, sections)| Plan { segments, sections }).ok_or("its header is cut short or names more segments or sections than programs have")
}

/// The executable segments.
pub(crate) fn texts(segments: &[u8]) -> Vec<Text> {
    let text = |entry: &[u8]| {
        let is_text = u32_at(entry, 0)? == LOADED && u32_at(entry, 4)? & EXECUTABLE != 0;
        let text = Text { offset: u64_at(entry, 8)?, address: u64_at(entry, 16)?, len: u64_at(entry, 32)? };
        // One that ends beyond what can be addressed is no text.
        text.address.checked_add(text.len).zip(text.offset.checked_add(text.len))?;
        is_text.then_some(text)
    };
    segments.chunks_exact(SEGMENT).filter_map(text).collect()
}

/// The tables of symbols, that of the dynamic linker first.
pub(crate) fn tables(sections: &[u8]) -> Vec<Table> {
    let section = |at: usize| sections.chunks_exact(SECTION).nth(at);
    let of_kind = |kind: u32| {
        sections.chunks_exact(SECTION).filter(move |entry| u32_at(entry, 4) == Some(kind)).filter_map(move |entry| {
            let names = section(usize::try_from(u32_at(entry, 40)?).ok()?)?;
            Some(Table { symbols: part(entry)?, names: part(names)? })
        })
    };
    of_kind(DYNAMIC_SYMBOLS).chain(of_kind(SYMBOLS)).take(2).collect()
}

/// Where the names of sections lie.
pub(crate) fn section_names(header: &[u8], sections: &[u8]) -> Option<Part> {
    let entry = sections.chunks_exact(SECTION).nth(usize::from(u16_at(header, 62)?))?;
    part(entry).filter(|part| part.len <= NAMES_MAX)
}

/// Where the section of this name lies.
pub(crate) fn section(sections: &[u8], names: &[u8], wanted: &str) -> Option<Part> {
    let is_it = |entry: &&[u8]| {
        let name = u32_at(entry, 0).and_then(|at| names.get(usize::try_from(at).ok()?..));
        name.and_then(|name| name.strip_prefix(wanted.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
    };
    sections.chunks_exact(SECTION).find(is_it).and_then(part)
}

/// What a section takes of the file; `None` where that is more than any table does.
fn part(entry: &[u8]) -> Option<Part> {
    let (offset, len) = (u64_at(entry, 24)?, u64_at(entry, 32)?);
    (len <= TABLE_MAX).then(|| usize::try_from(len).ok().map(|len| Part { offset, len })).flatten()
}

/// Calls `take` with the name and address of each function.
pub(crate) fn functions<'a>(symbols: &[u8], names: &'a [u8], mut take: impl FnMut(&'a str, u64)) {
    for symbol in symbols.chunks_exact(SYMBOL) {
        let function = || {
            let address = u64_at(symbol, 8)?;
            let is_here = symbol.get(4)? & 0x0f == FUNCTION && address != 0;
            let name = names.get(usize::try_from(u32_at(symbol, 0)?).ok()?..).filter(|_| is_here)?;
            let end = name.iter().take(256).position(|byte| *byte == 0)?;
            Some((std::str::from_utf8(&name[..end]).ok()?, address))
        };
        if let Some((name, address)) = function() {
            take(name, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_text_and_a_header_that_says_so() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let plan = plan(&program[..HEADER]).unwrap();
        let part = |part: Part| &program[usize::try_from(part.offset).unwrap()..][..part.len];
        let texts = texts(part(plan.segments));
        assert!(!texts.is_empty() && texts.iter().all(|text| text.offset + text.len <= program.len() as u64));
        let mut found = None;
        for table in tables(part(plan.sections)) {
            functions(part(table.symbols), part(table.names), |name, address| {
                if name == "main" {
                    found = Some(address);
                }
            });
        }
        let main = found.expect("a test program is not stripped");
        let sections = part(plan.sections);
        let names = part(section_names(&program, sections).unwrap());
        let text = part(section(sections, names, ".comment").unwrap());
        assert!(String::from_utf8_lossy(text).contains("rustc"), "{}", String::from_utf8_lossy(text));
        assert_eq!(section(sections, names, ".tex"), None, "not by the beginning of its name");
        assert!(texts.iter().any(|text| (text.address..text.address + text.len).contains(&main)));
    }

    #[test]
    fn what_a_file_claims_is_bounded_before_it_is_read() {
        assert!(plan(b"#!/bin/sh").is_err());
        let mut header = vec![0; HEADER];
        header[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, NATIVE]);
        header[60..62].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert!(plan(&header).is_err(), "65535 sections");
        assert!(plan(&header[..60]).is_err(), "cut");
        let mut section = vec![0; SECTION];
        section[4..8].copy_from_slice(&DYNAMIC_SYMBOLS.to_ne_bytes());
        section[32..40].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(tables(&section).is_empty(), "a table larger than any");
        let mut segment = vec![0; SEGMENT];
        segment[0..4].copy_from_slice(&LOADED.to_ne_bytes());
        segment[4..8].copy_from_slice(&EXECUTABLE.to_ne_bytes());
        segment[16..24].copy_from_slice(&u64::MAX.to_ne_bytes());
        segment[32..40].copy_from_slice(&2u64.to_ne_bytes());
        assert!(texts(&segment).is_empty(), "beyond the end of memory");
        functions(&[0xff; 48], b"", |_, _| panic!("names that are nowhere"));
    }
}
