//! Rows out of the bare pages of a database file and its log, for when SQLite cannot read it: leaf pages of tables are
//! recognised by their form, and what they hold is handed to whoever can prove it genuine. Format: sqlite.org/fileformat2.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::beside;
use super::view::has_log;

/// No row is larger.
const ROW_BYTES_MAX: u64 = 16 << 20;
const LEAF: u8 = 0x0d;
const WAL_HEAD: u64 = 32;
const FRAME_HEAD: u64 = 24;

/// The row of a batch as it lies on a page: not proved yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawRow {
    pub(super) id: u64,
    pub(super) class: i64,
    pub(super) items: i64,
    pub(super) at_ms: i64,
    pub(super) body: Vec<u8>,
}

/// A file and the pages that its log has newer.
struct Pages {
    file: File,
    wal: Option<File>,
    size: u64,
    count: u64,
    newer: HashMap<u64, u64>,
}

/// Hands every row that may be a batch's to `take`, which says whether to go on; with what the log has newer, or without.
pub(super) fn scan(path: &Path, with_log: bool, mut take: impl FnMut(RawRow) -> bool) -> std::io::Result<()> {
    let pages = Pages::open(path, with_log && has_log(path))?;
    for at in 1..=pages.count {
        let Some(page) = pages.read(at) else { continue };
        let head = if at == 1 { 100 } else { 0 };
        if page.get(head) != Some(&LEAF) {
            continue;
        }
        let cells = u16_at(&page, head + 3).unwrap_or(0);
        for cell in 0..usize::from(cells) {
            let row = u16_at(&page, head + 8 + 2 * cell).and_then(|offset| pages.row(&page, usize::from(offset)));
            if row.is_some_and(|row| !take(row)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Pages {
    fn open(path: &Path, with_log: bool) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let mut head = [0; 100];
        let whole = file.read_exact_at(&mut head, 0).is_ok();
        let said = u64::from(u16_at(&head, 16).unwrap_or(0));
        let size = if whole && said.is_power_of_two() && (512..=32_768).contains(&said) { said } else { 4_096 };
        let count = file.metadata()?.len().div_ceil(size);
        let mut pages = Self { file, wal: if with_log { File::open(beside(path, "-wal")).ok() } else { None }, size, count, newer: HashMap::new() };
        pages.read_log();
        Ok(pages)
    }

    /// Finds the newest committed form of each page that the log has.
    fn read_log(&mut self) {
        let Some(wal) = &self.wal else { return };
        let mut head = [0; 32];
        if wal.read_exact_at(&mut head, 0).is_err() || u64::from(u32_at(&head, 8).unwrap_or(0)) != self.size {
            return;
        }
        let (mut frame, mut at, mut open) = ([0; 24], WAL_HEAD, HashMap::new());
        while wal.read_exact_at(&mut frame, at).is_ok() && frame[8..16] == head[16..24] {
            let number = u64::from(u32_at(&frame, 0).unwrap_or(0));
            open.insert(number, at + FRAME_HEAD);
            if u32_at(&frame, 4).is_some_and(|commit| commit > 0) {
                self.count = self.count.max(open.keys().copied().max().unwrap_or(0));
                self.newer.extend(open.drain());
            }
            at += FRAME_HEAD + self.size;
        }
    }

    fn read(&self, number: u64) -> Option<Vec<u8>> {
        let mut page = vec![0; usize::try_from(self.size).ok()?];
        match (self.newer.get(&number), &self.wal) {
            (Some(at), Some(wal)) => wal.read_exact_at(&mut page, *at).ok()?,
            _ => self.file.read_exact_at(&mut page, number.checked_sub(1)? * self.size).ok()?,
        }
        Some(page)
    }

    fn row(&self, page: &[u8], offset: usize) -> Option<RawRow> {
        let (length, after) = varint(page, offset)?;
        let (id, start) = varint(page, after)?;
        let payload = self.payload(page, start, length)?;
        record(id, &payload)
    }

    /// What lies in the page, and the rest from pages that follow it.
    fn payload(&self, page: &[u8], start: usize, length: u64) -> Option<Vec<u8>> {
        let (usable, most) = (self.size, self.size - 35);
        if length > ROW_BYTES_MAX {
            return None;
        }
        if length <= most {
            return page.get(start..start + usize::try_from(length).ok()?).map(<[u8]>::to_vec);
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (usable - 4);
        let local = usize::try_from(if fitting <= most { fitting } else { least }).ok()?;
        let length = usize::try_from(length).ok()?;
        let mut out = page.get(start..start + local)?.to_vec();
        let mut next = u32_at(page, start + local)?;
        while out.len() < length {
            let more = self.read(u64::from(next)).filter(|_| next > 0)?;
            let part = (length - out.len()).min(more.len() - 4);
            out.extend_from_slice(&more[4..4 + part]);
            next = u32_at(&more, 0)?;
        }
        Some(out)
    }
}

/// The columns of a batch: id (which is the row's own), class, items, bytes, time, body.
fn record(id: u64, payload: &[u8]) -> Option<RawRow> {
    let (head, mut at) = varint(payload, 0)?;
    let mut body_at = usize::try_from(head).ok()?;
    let mut values = [0; 5];
    for value in &mut values {
        let (kind, after) = varint(payload, at)?;
        at = after;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 => 8,
            _ => return None,
        };
        *value = if kind == 9 { 1 } else { integer(payload.get(body_at..body_at + size)?) };
        body_at += size;
    }
    let (kind, end) = varint(payload, at)?;
    let whole = kind >= 12 && kind % 2 == 0 && end == usize::try_from(head).ok()?;
    let length = usize::try_from(kind.checked_sub(12)? / 2).ok()?;
    let body = payload.get(body_at..body_at.checked_add(length)?).filter(|_| whole)?.to_vec();
    Some(RawRow { id, class: values[1], items: values[2], at_ms: values[4], body })
}

fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for _ in 0..8 {
        let byte = *bytes.get(at)?;
        at += 1;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    let last = *bytes.get(at)?;
    Some((value << 8 | u64::from(last), at + 1))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
